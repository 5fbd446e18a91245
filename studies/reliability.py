"""Measure how far an enhanced frame can be trusted: invented particles, recall, diameters.

    python studies/reliability.py [--model NAME_OR_FILE …] [--quick] [--out FOLDER] [--json]

All frames are simulated with the measured camera at 5 e-/px and have a known truth; particles are found by
`napari_lowdose_tem.particles.find`. Results go to reliability.json, reliability.md and
images/reliability.png; models measured before with the same settings are not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy import ndimage, optimize

from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.image import AnyFloat
from napari_lowdose_tem.particles.find import (
    Detection,
    divide_by_background,
    find_particles,
)
from napari_lowdose_tem.particles.match import match_particles, read_truth
from pages import add_out, choose_folders
from reliability_report import draw_figure, write_page
from reliability_scenes import (
    DIAMETERS_NM,
    DOSE_E_PER_PX,
    DQE,
    EMPTY_PIXEL_NM,
    LIMITS_NM,
    PER_SIDE,
    RECALL_PIXEL_NM,
    SEED,
    SHAPE,
    SIZE_NM,
    SIZE_PIXELS_NM,
    SIZE_T_MIN,
    draw_empty,
    draw_spheres,
    record,
)


def measure_invented(engine: Engine, n_films: int, with_hole: bool = False) -> dict[str, Any]:
    """Count particles invented on bare films."""
    found = []
    # the rule was chosen on the first 200
    for index in track(range(200, 200 + n_films), f"{engine.model.file.label}: empty films"):
        counts = record(draw_empty(index, with_hole), np.random.default_rng([SEED, 1, index]))
        found.append(find_particles(engine.enhance(counts), EMPTY_PIXEL_NM, counts=counts))
    numbers = [len(frame) for frame in found]
    return {
        "films": n_films,
        "invented_per_frame": float(np.mean(numbers)),
        "se": float(np.std(numbers, ddof=1) / np.sqrt(n_films)),
        "films_with_any": int(np.count_nonzero(numbers)),
        "diameters_nm": [round(d.diameter_px * EMPTY_PIXEL_NM) for frame in found for d in frame],
        "depths": [round(d.depth, 3) for frame in found for d in frame],
    }


def measure_recall(engine: Engine, repeats: int) -> dict[str, Any]:
    """Share of isolated spheres found, for each T_min and diameter, and what was found beside them."""
    rng = np.random.default_rng([SEED, 2])
    kinds = rng.permutation([(t, d) for t in LIMITS_NM for d in DIAMETERS_NM] * repeats).reshape(
        -1, PER_SIDE**2, 2
    )
    hits: dict[tuple[float, float], list[bool]] = {}
    invented = 0
    for kind in track(kinds, f"{engine.model.file.label}: recall"):
        scene = draw_spheres(kind[:, 1], kind[:, 0], RECALL_PIXEL_NM, rng)
        counts = record(scene, rng)
        found = find_particles(engine.enhance(counts), RECALL_PIXEL_NM, counts=counts)
        truth = read_truth(scene.truth, RECALL_PIXEL_NM)
        match = match_particles(found, truth, SHAPE)
        invented += len(match.invented)
        for (t_min, diameter), sphere in zip(kind.tolist(), truth, strict=True):
            hits.setdefault((t_min, diameter), []).append(sphere not in match.missed)
    recall = {str(t): [float(np.mean(hits[t, d])) for d in DIAMETERS_NM] for t in LIMITS_NM}
    return {
        "repeats": repeats,
        "recall": recall,
        "half_found_nm": {t: find_half(shares) for t, shares in recall.items()},
        "limit_nm": {str(t): scale_limit(d) for t, d in LIMITS_NM.items()},
        "invented_per_frame": invented / len(kinds),
    }


def scale_limit(diameter_nm: float) -> float:
    """Scale a 5 σ limit to this pixel size, dose and DQE: it goes with pixel size / √(quanta a pixel)."""
    return diameter_nm * RECALL_PIXEL_NM / 4.8 * float(np.sqrt(4.7 / (DOSE_E_PER_PX * DQE)))


def find_half(shares: list[float]) -> float | None:
    """Interpolate the diameter from which on half of the spheres are found [nm]; None where it never is."""
    above = [i for i, share in enumerate(shares) if share < 0.5]
    last = above[-1] if above else -1
    if last == len(shares) - 1:
        return None
    if last < 0:
        return float(DIAMETERS_NM[0])
    return float(np.interp(0.5, shares[last : last + 2], DIAMETERS_NM[last : last + 2]))


def render_sphere(
    shape: tuple[int, int], row: float, col: float, radius: float, depth: float, blur: float
) -> AnyFloat:
    """Transmission of a blurred sphere [px] of depth 1 − T_min, averaged over 3 × 3 points a pixel."""
    fine = 3
    rows, cols = ((np.arange(n * fine) + 0.5) / fine - 0.5 for n in shape)
    chord = np.sqrt(np.maximum(radius**2 - (rows[:, None] - row) ** 2 - (cols - col) ** 2, 0)) / radius
    sphere = ndimage.gaussian_filter((1 - depth) ** chord, blur * fine, mode="nearest")
    return sphere.reshape(shape[0], fine, shape[1], fine).mean((1, 3))


def fit_sphere(image: AnyFloat, start: Detection, blur_px: float | None = None) -> float | None:
    """Fit a blurred sphere on a level background by least squares, twice; returns its diameter [px].

    The blur is fitted too, unless it is given. None where the fit runs away.
    """
    first = _fit_once(image, start, blur_px)
    second = _fit_once(image, first, blur_px) if first else None
    return second.diameter_px if second else None


def _fit_once(image: AnyFloat, start: Detection, blur_px: float | None) -> Detection | None:
    reach = int(np.ceil(0.9 * start.diameter_px)) + 4
    top, left = max(0, round(start.row_px) - reach), max(0, round(start.col_px) - reach)
    window = image[top : round(start.row_px) + reach + 1, left : round(start.col_px) + reach + 1]
    level = float(np.median(window))
    radius = start.diameter_px / 2
    # row, column, radius, depth, background, blur
    first = [start.row_px - top, start.col_px - left, radius, min(max(start.depth, 0.05), 0.9), level, 1.5]
    low = [first[0] - radius, first[1] - radius, 0.4 * radius, 0.01, 0.5 * level, 0.3]
    high = [first[0] + radius, first[1] + radius, 2 * radius, 0.98, 2 * level, 6.0]
    free = slice(0, 6 if blur_px is None else 5)

    def misfit(values: AnyFloat) -> AnyFloat:
        row, col, r, depth, background = values[:5]
        blur = values[5] if blur_px is None else blur_px
        return np.ravel(background * render_sphere(window.shape, row, col, r, depth, blur) - window) / level

    scale = np.array([1, 1, 1, 0.1, 0.1 * level, 1.0])[free]
    fit = optimize.least_squares(
        misfit, first[free], bounds=(low[free], high[free]), x_scale=scale, diff_step=1e-3
    )
    inside = low[2] * 1.01 < fit.x[2] < high[2] * 0.99
    row, col, r, depth = fit.x[:4].tolist()
    return Detection(row + top, col + left, 2 * r, depth) if fit.success and inside else None


def measure_half_depth(image: AnyFloat, start: Detection) -> float | None:
    """Measure the width at half depth of the mean over all directions, corrected for a sphere [px]."""
    reach = int(np.ceil(start.diameter_px)) + 4
    radius = np.arange(0, reach, 0.25)
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)[:, None]
    points = [start.row_px + radius * np.sin(angle), start.col_px + radius * np.cos(angle)]
    profile = ndimage.map_coordinates(image, points, order=1, mode="nearest").mean(0)
    background = float(np.median(profile[radius > 0.8 * start.diameter_px]))
    core = float(profile[radius < 0.12 * start.diameter_px].mean())
    depth = 1 - core / background
    if not 0.02 < depth < 0.98:
        return None
    half = np.flatnonzero(profile > (core + background) / 2)[0]
    edge = np.interp((core + background) / 2, profile[half - 1 : half + 1], radius[half - 1 : half + 1])
    chord = np.log(1 - depth / 2) / np.log(1 - depth)
    return float(2 * edge / np.sqrt(1 - chord**2))


def bound_diameter(diameter_nm: float, pixel_nm: float, blur_px: float = 1.09) -> float:
    """Cramér–Rao bound of a sphere's diameter, place, depth and background unknown, for this DQE [nm]."""
    side = int(2 * diameter_nm / pixel_nm) + 9
    centre = np.array([side / 2 + 0.1, side / 2 - 0.2, diameter_nm / pixel_nm / 2, 1 - SIZE_T_MIN, 1.0])

    def mean(values: AnyFloat) -> AnyFloat:
        return DOSE_E_PER_PX * DQE * values[4] * render_sphere((side, side), *values[:4], blur_px).ravel()

    steps = np.diag([0.05, 0.05, 0.05, 0.005, 0.005])
    slope = np.stack([(mean(centre + s) - mean(centre - s)) / (2 * s.max()) for s in steps])
    information = (slope / mean(centre)) @ slope.T
    return float(2 * pixel_nm * np.sqrt(np.linalg.inv(information)[2, 2]))


def iter_sized(
    engine: Engine, pixel_nm: float, n_frames: int
) -> Iterator[tuple[float, dict[str, float | None]]]:
    """Measure isolated spheres: true diameter, and by each way the measured one [nm]."""
    rng = np.random.default_rng([SEED, 3, round(10 * pixel_nm)])
    for _ in track(range(n_frames), f"{engine.model.file.label}: diameters, {pixel_nm} nm/px"):
        diameter = rng.uniform(*SIZE_NM, PER_SIDE**2)
        scene = draw_spheres(diameter, np.full(PER_SIDE**2, SIZE_T_MIN), pixel_nm, rng)
        counts = record(scene, rng)
        raw = counts / counts.mean()
        image = divide_by_background(engine.enhance(counts))
        found = find_particles(image, pixel_nm, counts=counts)
        for sphere, true_nm in zip(read_truth(scene.truth, pixel_nm), diameter.tolist(), strict=True):
            near = [
                d
                for d in found
                if np.hypot(d.row_px - sphere.row_px, d.col_px - sphere.col_px) < d.diameter_px / 2
            ]
            if not near:
                yield true_nm, {}
                continue
            values = {
                "sphere fit": fit_sphere(image, near[0]),
                "half-depth width": measure_half_depth(image, near[0]),
                "sphere fit to the low-dose frame": fit_sphere(raw, near[0], 1.1),
            }
            yield true_nm, {way: None if v is None else v * pixel_nm for way, v in values.items()}


def measure_diameters(engine: Engine, pixel_nm: float, n_frames: int) -> dict[str, Any]:
    """Median bias, and robust spread beside the Cramér–Rao bound, of each way to measure."""
    sized = list(iter_sized(engine, pixel_nm, n_frames))
    grid = np.linspace(*SIZE_NM, 7)
    bounds = [bound_diameter(float(d), pixel_nm) for d in grid]
    ways: dict[str, Any] = {}
    for way in ("sphere fit", "half-depth width", "sphere fit to the low-dose frame"):
        pairs = np.array([(true, ws[way]) for true, ws in sized if ws.get(way) is not None])
        error = pairs[:, 1] - pairs[:, 0]
        bound = np.interp(pairs[:, 0], grid, bounds)
        # half of the range that holds the middle 68 %
        low, high = np.percentile(error / bound, [15.87, 84.13])
        ways[way] = {
            "n": len(pairs),
            "median_bias_percent": float(100 * np.median(error / pairs[:, 0])),
            "bias_se_percent": float(125.3 * np.std(error / pairs[:, 0]) / np.sqrt(len(pairs))),
            "spread_percent": float(50 * np.diff(np.percentile(error / pairs[:, 0], [15.87, 84.13]))[0]),
            "spread_over_bound": float((high - low) / 2),
        }
    return {"spheres": len(sized), "bound_nm": dict(zip(grid.tolist(), bounds, strict=True)), "ways": ways}


def main() -> None:
    """Run what is not there yet, and write page and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["default"], help="names or files")
    parser.add_argument("--quick", action="store_true", help="a sixth of the frames")
    add_out(parser)
    parser.add_argument("--json", action="store_true", help="print the results, too")
    args = parser.parse_args()
    settings = {
        "films": 32 if args.quick else 200,
        "recall": 4 if args.quick else 20,
        "frames": 2 if args.quick else 8,
    }
    numbers, pages = choose_folders(args.out)
    stored = numbers / "reliability.json"
    known: dict[str, Any] = json.loads(stored.read_text("utf-8")) if stored.exists() else {}
    models: dict[str, Any] = known.get("models", {}) if known.get("settings") == settings else {}
    result: dict[str, Any] = {"settings": settings, "models": {}}
    for name in args.model:
        with Engine(name) as engine:
            label, sha256 = engine.model.file.label, engine.model.file.sha256
            row = models.get(label, {})
            if row.get("sha256") != sha256:
                row = {
                    "sha256": sha256,
                    "films": {
                        "bare film": measure_invented(engine, settings["films"]),
                        "film with a hole": measure_invented(engine, settings["films"] // 4, True),
                    },
                    "recall": measure_recall(engine, settings["recall"]),
                    "sizes": {
                        str(p): measure_diameters(engine, p, settings["frames"]) for p in SIZE_PIXELS_NM
                    },
                }
            result["models"][label] = row
            stored.write_text(json.dumps(result) + "\n", encoding="utf-8")
    options = f" --model {' '.join(args.model)}" if args.model != ["default"] else ""
    options += " --quick" if args.quick else ""
    write_page(pages / "reliability.md", result, f"python studies/reliability.py{options}")
    draw_figure(pages / "images" / "reliability.png", result)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        Console().print((pages / "reliability.md").read_text("utf-8"), markup=False)


if __name__ == "__main__":
    main()
