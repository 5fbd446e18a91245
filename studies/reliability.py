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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from scipy import ndimage, optimize

from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.particles.find import (
    Detection,
    divide_by_background,
    find_particles,
    match_particles,
    read_truth,
)
from napari_lowdose_tem.simulate.camera import MEASURED, expose
from napari_lowdose_tem.simulate.specimen import MATERIALS, Particles, Scene, Specimen, draw_specimen, render

Array = npt.NDArray[np.floating[Any]]

SHAPE = (512, 512)
DOSE_E_PER_PX = 5.0
SEED = 30_210_601  # training draws from seeds below 1,000
CAMERA = replace(MEASURED, outlier_rate=1e-5)  # two or three hot pixels a frame
DQE = 0.35  # of the measured camera at this dose
LARGEST_RAMP = 0.1  # of the film's transmission, from its middle to its edge
EMPTY_PIXEL_NM = 3.0
RECALL_PIXEL_NM = 4.8
DIAMETERS_NM = (20, 30, 40, 55, 75, 100, 140, 190)
# smallest diameter seen at 5 σ, of ideal counting, 4.7 e-/px and 4.8 nm/px [nm]
LIMITS_NM = {0.41: 26.0, 0.59: 40.0, 0.80: 86.0, 0.90: 174.0}
SIZE_PIXELS_NM = (4.8, 3.0)
SIZE_T_MIN, SIZE_NM = 0.6, (60.0, 150.0)
PER_SIDE = 4  # spheres along a side of a frame


def draw_empty(index: int, with_hole: bool = False) -> Scene:
    """Draw a bare film with grain, uneven thickness, a ramp and falloff, or that with the rim of a hole."""
    rng = np.random.default_rng([SEED, 0, index])
    field_nm = (SHAPE[0] * EMPTY_PIXEL_NM, SHAPE[1] * EMPTY_PIXEL_NM)
    specimen = draw_specimen(
        list(MATERIALS)[index % 5], field_nm, rng, n_particles=0, pixel_size_nm=EMPTY_PIXEL_NM
    )
    grid = specimen.support.thickness
    row, col = (np.linspace(-1, 1, n) for n in grid.shape)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = rng.uniform(0, LARGEST_RAMP) * (np.sin(angle) * row[:, None] + np.cos(angle) * col)
    radius = rng.uniform(0.2, 0.8) * field_nm[0]
    hole = (field_nm[0] * (rng.random() < 0.5), rng.uniform(0, field_nm[1]), radius)
    support = replace(specimen.support, thickness=grid + ramp, holes=(hole,) if with_hole else ())
    return render(replace(specimen, support=support), SHAPE)


def draw_spheres(diameter_nm: Array, t_min: Array, pixel_nm: float, rng: np.random.Generator) -> Scene:
    """Draw isolated spheres, as many as places, each somewhere within its place, on a film without holes."""
    film = draw_film(pixel_nm, rng)
    place = (
        np.indices((PER_SIDE, PER_SIDE)).reshape(2, -1).T + 0.5 + rng.uniform(-0.15, 0.15, (PER_SIDE**2, 2))
    )
    return place_spheres(film, place * SHAPE[0] * pixel_nm / PER_SIDE, diameter_nm, t_min, pixel_nm)


def draw_film(pixel_nm: float, rng: np.random.Generator) -> Specimen:
    """Draw a film without holes or particles."""
    field_nm = (SHAPE[0] * pixel_nm, SHAPE[1] * pixel_nm)
    return draw_specimen("silicate", field_nm, rng, n_particles=0, pixel_size_nm=pixel_nm)


def place_spheres(
    film: Specimen, centers_nm: Array, diameter_nm: Array, t_min: Array, pixel_nm: float
) -> Scene:
    """Render spheres at (n, 2) places on a film."""
    n = len(centers_nm)
    spheres = Particles(
        centers_nm, diameter_nm, -diameter_nm / np.log(t_min), np.full(n, np.inf), np.zeros(n), (None,) * n
    )
    support = replace(film.support, holes=(), fringe=0.0, veil=0.0, blur_nm=1.0 * pixel_nm)
    return render(replace(film, particles=spheres, support=support), SHAPE)


def record(scene: Scene, rng: np.random.Generator | int) -> Array:
    """Take a low-dose frame [counts]."""
    return expose(scene.transmission * np.float32(DOSE_E_PER_PX), CAMERA, rng)


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
) -> Array:
    """Transmission of a blurred sphere [px] of depth 1 − T_min, averaged over 3 × 3 points a pixel."""
    fine = 3
    rows, cols = ((np.arange(n * fine) + 0.5) / fine - 0.5 for n in shape)
    chord = np.sqrt(np.maximum(radius**2 - (rows[:, None] - row) ** 2 - (cols - col) ** 2, 0)) / radius
    sphere = ndimage.gaussian_filter((1 - depth) ** chord, blur * fine, mode="nearest")
    return sphere.reshape(shape[0], fine, shape[1], fine).mean((1, 3))


def fit_sphere(image: Array, start: Detection, blur_px: float | None = None) -> float | None:
    """Fit a blurred sphere on a level background by least squares, twice; returns its diameter [px].

    The blur is fitted too, unless it is given. None where the fit runs away.
    """
    first = _fit_once(image, start, blur_px)
    second = _fit_once(image, first, blur_px) if first else None
    return second.diameter_px if second else None


def _fit_once(image: Array, start: Detection, blur_px: float | None) -> Detection | None:
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

    def misfit(values: Array) -> Array:
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


def measure_half_depth(image: Array, start: Detection) -> float | None:
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

    def mean(values: Array) -> Array:
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


def write_page(path: Path, result: dict[str, Any], command: str) -> None:
    """Write the Markdown page."""
    films, recall, sized = (
        {m: row[k] for m, row in result["models"].items()} for k in ("films", "recall", "sizes")
    )
    invented = {
        m: [f"{f['invented_per_frame']:.3f} ± {f['se']:.3f}", f"{f['films_with_any']} of {f['films']}"]
        for m, f in rows_of(films).items()
    }
    limits = next(iter(recall.values()))["limit_nm"]
    found = {
        f"{m}, T_min {t}": [f"{share:.0%}" for share in shares]
        + [f"{half:.0f}" if (half := r["half_found_nm"][t]) else "-", f"{limits[t]:.0f}"]
        for m, r in recall.items()
        for t, shares in r["recall"].items()
    }
    ways = {
        f"{m}, {pixel} nm/px, {way}": [
            f"{w['n']} of {s['spheres']}", f"{w['median_bias_percent']:+.1f} ± {w['bias_se_percent']:.1f} %",
            f"{w['spread_percent']:.1f} %", f"{w['spread_over_bound']:.2f}",
        ]
        for m, sizes in sized.items() for pixel, s in sizes.items() for way, w in s["ways"].items()
    }  # fmt: skip
    text = f"""# How far an enhanced frame can be trusted

Simulated frames of {SHAPE[0]} × {SHAPE[1]} px with the measured camera (streaks, read noise, hot pixels) at
{DOSE_E_PER_PX:g} e-/px. Particles are found by one fixed rule (`napari_lowdose_tem.particles.find`): blobs at
least 5 % of the background deep in the enhanced frame, which the counts support by 4 standard deviations, a
limit chosen on other bare films.

## Invented particles

Bare films at {EMPTY_PIXEL_NM:g} nm/px with grain, uneven thickness, ramps of up to {LARGEST_RAMP:.0%}
and falloff, wanted: at most 0.05 a frame; and such films with the rim of a hole across.

{tabulate(["invented a frame", "films with any"], invented)}

## Particles found

Share of isolated spheres found at {RECALL_PIXEL_NM:g} nm/px by diameter [nm], the diameter from which on
half are found, and the smallest that stands out by 5 σ: the limit of ideal counting scaled by the pixel size
over the root of the quanta a pixel, {DOSE_E_PER_PX:g} e- times a DQE of {DQE:g}.

{tabulate([*(f"{d} nm" for d in DIAMETERS_NM), "half found", "5 σ limit"], found)}

## Diameters

Isolated spheres of T_min {SIZE_T_MIN:g} and {SIZE_NM[0]:g}–{SIZE_NM[1]:g} nm: how many were found and
measured, median bias (wanted: within 2 %), robust spread, and that over the Cramér–Rao bound for this DQE
(wanted: below 1.5). "Half-depth width" is corrected for the shape of a sphere; "sphere fit" fits a blurred
sphere by least squares, to the enhanced frame or, from the place found there, to the low-dose frame itself. A
spread below the bound tells of prior knowledge, not of a better measurement: an enhancement pulls diameters
towards those it was trained on.

{tabulate(["measured", "median bias", "spread", "spread / bound"], ways)}

![Recall and diameters](images/reliability.png)

Repeat it with

    {command}
"""
    path.write_text(text, encoding="utf-8")


def rows_of(films: dict[str, Any]) -> dict[str, Any]:
    """Name bare films and films with a hole of each model."""
    return {f"{m}, {kind}": row for m, kinds in films.items() for kind, row in kinds.items()}


def tabulate(head: list[str], rows: dict[str, list[str]]) -> str:
    """Lay out a Markdown table."""
    lines = [["", *head], ["---"] * (len(head) + 1), *([name, *cells] for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw_figure(path: Path, result: dict[str, Any]) -> None:
    """Draw recall against diameter, a panel a model; dashed: the 5 σ limits."""
    from matplotlib.figure import Figure

    figure = Figure((4.6 * len(result["models"]), 3.4), layout="constrained")
    panels = figure.subplots(1, len(result["models"]), sharey=True, squeeze=False)[0]
    for panel, (model, row) in zip(panels, result["models"].items(), strict=True):
        for i, (t_min, shares) in enumerate(row["recall"]["recall"].items()):
            panel.plot(DIAMETERS_NM, shares, "o-", color=f"C{i}", ms=4, label=f"T$_{{min}}$ {t_min}")
            panel.axvline(row["recall"]["limit_nm"][t_min], color=f"C{i}", ls="--", lw=1)
        panel.set(title=model, xlabel="diameter [nm]", xscale="log", ylim=(-0.02, 1.02))
        panel.set_xticks(DIAMETERS_NM, [str(d) for d in DIAMETERS_NM])
        panel.minorticks_off()
    panels[0].set_ylabel("share found")
    panels[0].legend(frameon=False, fontsize=8, loc="upper left")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run what is not there yet, and write page and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["default"], help="names or files")
    parser.add_argument("--quick", action="store_true", help="a sixth of the frames")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--json", action="store_true", help="print the results, too")
    args = parser.parse_args()
    settings = {
        "films": 32 if args.quick else 200,
        "recall": 4 if args.quick else 20,
        "frames": 2 if args.quick else 8,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    stored = args.out / "reliability.json"
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
    write_page(args.out / "reliability.md", result, f"python studies/reliability.py{options}")
    draw_figure(args.out / "images" / "reliability.png", result)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        Console().print((args.out / "reliability.md").read_text("utf-8"), markup=False)


if __name__ == "__main__":
    main()
