"""Draw Figs. 4, 6 and 7 of Katsuno et al. (2021) anew, on a simulated specimen of known truth.

    python docs/paper_figures.py [--model NAME_OR_FILE] [--seed N] [--draws N] [--out FOLDER] [--json]

Nine silicate particles in region I, three in region II, one that the line A–B crosses and a close pair on
C–D, at high and at low dose and enhanced. Writes images/paper-profiles.png and paper_figures.json; `--draws`
repeats the low-dose exposure.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from measurement_report import fill_in
from reliability import tabulate
from rich.console import Console
from rich.progress import track

from napari_lowdose_tem.engine import Engine
from napari_lowdose_tem.measure import (
    FitOptions,
    Line,
    Measurement,
    Profile,
    fit_counts,
    fit_profile,
    measure_raw_noise,
    sample_line,
)
from napari_lowdose_tem.simulate.camera import MEASURED, expose
from napari_lowdose_tem.simulate.pair import area_mean
from napari_lowdose_tem.simulate.specimen import Particles, Scene, draw_specimen, locate, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.floating[Any]]

SIDE_PX, PIXEL_NM = 512, 4.0
SIZE = (PIXEL_NM, PIXEL_NM)
DOSE_E_PER_PX = 4.7
HDE_E_PER_PX = 64_000.0  # 1,000 e- on each of 8 × 8 pixels of the 4096² grid
FINER = 2
T_MIN = 0.59
# (row, column, diameter) [nm]
REGION_I = (
    (1390, 420, 104), (1440, 500, 96), (1500, 430, 110), (1420, 590, 92), (1500, 560, 100), (1575, 500, 98),
    (1350, 510, 88), (1590, 600, 106), (1650, 555, 95),
)  # fmt: skip
REGION_II = ((1730, 1560, 102), (1770, 1640, 94), (1830, 1570, 108))
ISOLATED = (560, 640, 95.2)
PAIR_D_NM, PAIR_APART_NM, PAIR_AT = (58.3, 73.0), 78.4, (640, 1650)
BOXES = {"I": (1290, 340, 420, 330), "II": (1640, 1460, 260, 260)}  # row, column, rows, columns [nm]
REACH_NM = 65.0  # of a line beyond the particles' edges
PUBLISHED = {  # HDE, output
    "d": (95.2, 96.0),
    "D - d": (6.9, 10.1),
    "d₁": (58.3, 53.8),
    "d₂": (73.0, 72.5),
    "l": (78.4, 72.9),
    "m": (12.7, 9.8),  # l - (d₁ + d₂)/2
}
TRUTH = {"d": 95.2, "d₁": 58.3, "d₂": 73.0, "l": 78.4, "m": 12.75}
IMAGES = ("HDE", "LDE", "output")
LINES = ("A–B", "C–D")
WAYS = {"full": "#0b62b3", "paper": "#b85c00"}
LINE_COLOR, BOX_COLOR = "#d97b00", "#c2185b"


@dataclass(frozen=True, eq=False)
class Exposures:
    """The field at high dose, at low dose and enhanced [counts], and the noise of the low dose."""

    hde: Array
    lde: Array
    output: Array
    raw_noise: float

    def __getitem__(self, name: str) -> Array:
        """Return an image by its name in `IMAGES`."""
        return {"HDE": self.hde, "LDE": self.lde, "output": self.output}[name]


def make_scene(fine: int = 1) -> Scene:
    """Render the specimen, on a grid finer by a factor."""
    field_nm = (SIDE_PX * PIXEL_NM, SIDE_PX * PIXEL_NM)
    apart = PAIR_APART_NM / 2 * np.array([math.sin(0.5), math.cos(0.5)])
    pair = [(*(np.array(PAIR_AT) + sign * apart), d) for sign, d in zip((-1, 1), PAIR_D_NM, strict=True)]
    spheres = np.array([*REGION_I, *REGION_II, ISOLATED, *pair], float)
    n, diameter = len(spheres), spheres[:, 2]
    # one material where the particles are alike; the pair of the paper is as dark as the larger ones
    attenuation = np.full(n, -100.0 / math.log(T_MIN))
    attenuation[-3:] = -diameter[-3:] / math.log(T_MIN)
    particles = Particles(spheres[:, :2], diameter, attenuation, np.full(n, np.inf), np.zeros(n), (None,) * n)
    bare = draw_specimen("silicate", field_nm, 6, n_particles=0, pixel_size_nm=PIXEL_NM)
    support = replace(bare.support, holes=(), fringe=0.0, veil=0.0, blur_nm=4.0, falloff=0.02)
    specimen = replace(bare, particles=particles, support=support)
    scene = render(specimen, (SIDE_PX * fine, SIDE_PX * fine))
    return replace(scene, truth=locate(specimen, PIXEL_NM))


def find_lines(scene: Scene) -> dict[str, Line]:
    """A–B across the isolated particle, C–D along the pair."""
    *_, alone, first, second = (np.array([s["row_px"], s["col_px"]]) for s in scene.truth)
    slant = np.array([math.sin(-0.4), math.cos(-0.4)])
    along = (second - first) / np.linalg.norm(second - first)
    lines = {}
    for name, start, stop, direction, radii in (
        ("A–B", alone, alone, slant, (ISOLATED[2] / 2,) * 2),
        ("C–D", first, second, along, (PAIR_D_NM[0] / 2, PAIR_D_NM[1] / 2)),
    ):
        a, b = ((radius + REACH_NM) / PIXEL_NM * direction for radius in radii)
        (row_0, col_0), (row_1, col_1) = (start - a).tolist(), (stop + b).tolist()
        lines[name] = Line((row_0, col_0), (row_1, col_1))
    return lines


def record(engine: Engine, rng: np.random.Generator) -> Exposures:
    """Expose the field twice and enhance the low dose."""
    fine = make_scene(FINER).transmission
    adc = replace(MEASURED, clip=False)
    hde = area_mean(expose(fine * np.float32(HDE_E_PER_PX / FINER**2), adc, rng), FINER)
    lde = expose(area_mean(fine, FINER) * np.float32(DOSE_E_PER_PX), MEASURED, rng)
    return Exposures(hde, lde, engine.enhance(lde), measure_raw_noise(lde))


def measure(images: Exposures, lines: dict[str, Line]) -> dict[tuple[str, str, str], Measurement]:
    """Measure every line on every image by both fits; the pseudo-diameter of `paper` by the paper's rule."""
    found = {}
    for image in IMAGES:
        for line in LINES:
            profile = sample_line(images[image], lines[line], SIZE)
            for way in WAYS:
                options = FitOptions(
                    model=way,
                    particles=1 if line == "A–B" else 2,
                    rule="first_crossing" if way == "paper" else "fraction",
                    is_enhanced=image == "output",
                )
                noise = images.raw_noise if image == "output" else None
                found[image, line, way] = fit_profile(profile, options, noise)
    return found


def read_numbers(single: Measurement, pair: Measurement) -> dict[str, tuple[float, float | None] | None]:
    """Numbers of the paper's Figs. 6 and 7 with their errors; None where refused."""
    numbers: dict[str, tuple[float, float | None] | None] = dict.fromkeys(PUBLISHED)
    if not single.refused:
        particle = single.particles[0]
        numbers["d"] = particle.diameter, particle.diameter_se
        if particle.edge_total is not None:
            numbers["D - d"] = particle.edge_total, None
    if not pair.refused and pair.separation is not None:
        for name, particle in zip(("d₁", "d₂"), pair.particles, strict=True):
            numbers[name] = particle.diameter, particle.diameter_se
        numbers["l"] = pair.separation, pair.separation_se
        numbers["m"] = (pair.margin or 0.0), pair.margin_se
    return numbers


# ---- drawing


def draw_image(axes: Axes, image: Array, title: str, lines: dict[str, Line]) -> None:
    """Draw a frame with the boxes and lines, in nm."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground="white")]
    mark: dict[str, Any] = {"color": BOX_COLOR, "path_effects": halo}
    letter: dict[str, Any] = {"color": LINE_COLOR, "path_effects": halo, "fontsize": 10, "va": "center"}
    low, high = choose_grey(image)
    side = SIDE_PX * PIXEL_NM
    axes.imshow(image, "gray", vmin=low, vmax=high, extent=(0, side, side, 0), interpolation="antialiased")
    for name, (row, col, rows, cols) in BOXES.items():
        x, y = np.array([0, cols, cols, 0, 0]) + col, np.array([0, 0, rows, rows, 0]) + row
        axes.plot(x, y, "--", lw=1, **mark)
        axes.text(col, row - 25, name, fontsize=10, fontweight="bold", va="bottom", **mark)
    for name, line in lines.items():
        (y0, x0), (y1, x1) = (((np.array(end) + 0.5) * PIXEL_NM).tolist() for end in (line.start, line.stop))
        axes.plot((x0, x1), (y0, y1), color=LINE_COLOR, lw=0.9)
        axes.text(x0 - 20, y0, name[0], ha="right", **letter)
        axes.text(x1 + 20, y1, name[-1], ha="left", **letter)
    bottom = side - 80
    axes.plot((100, 600), (bottom, bottom), lw=3, solid_capstyle="butt", **mark)
    axes.text(350, bottom - 30, "500 nm", fontsize=9, ha="center", va="bottom", **mark)
    axes.set(title=title, xticks=[], yticks=[], xlim=(0, side), ylim=(side, 0))


def choose_grey(image: Array) -> tuple[float, float]:
    """Black and white of a frame: the same transmissions where the noise allows, else all of the noise."""
    level = float(np.median(image))
    low, high = np.percentile(image, (2, 98)) / level
    return level * min(0.45, float(low)), level * max(1.05, float(high))


def draw_inset(axes: Axes, image: Array, name: str) -> None:
    """Draw a box enlarged."""
    row, col, rows, cols = (round(v / PIXEL_NM) for v in BOXES[name])
    low, high = choose_grey(image)
    axes.imshow(image[row : row + rows, col : col + cols], "gray", vmin=low, vmax=high)
    axes.set(xticks=[], yticks=[], title=name)
    axes.title.set_fontsize(8)


def draw_profile(axes: Axes, profile: Profile, found: dict[str, Measurement]) -> None:
    """Draw a profile in units of the background; circles are the points of the fit `paper`."""
    full, paper = found["full"], found["paper"]
    known = next((m for m in (full, paper) if m.background is not None), None)
    ends = np.r_[profile.intensity[:8], profile.intensity[-8:]]
    level = float(np.median(ends)) if known is None or known.background is None else known.background.level
    axes.plot(profile.position, profile.intensity / level, ".-", color="0.55", ms=3, lw=0.5)
    axes.axhline(1, color="0.2", ls=":", lw=1)
    text = []
    for way, m in found.items():
        if m.refused:
            reason = m.refused.split(" (")[0].split(";")[0].split(", ")[0]
            text.append((fill(f"{way}: refused, {reason}", 46), WAYS[way]))
            continue
        for particle in m.particles:  # a fit of points near the centre has one piece a particle
            inside = np.abs(m.position - particle.center) < particle.diameter / 2
            part = inside if way == "paper" else np.ones(len(m.position), bool)
            axes.plot(m.position[part], m.curve[part] / level, color=WAYS[way], lw=1.4)
            axes.axvline(particle.center, color="0.8", lw=0.6, ls=":", zorder=0)
        said = [f"{p.diameter:.1f} ± {p.diameter_se:.1f}" for p in m.particles]
        label = f"{way}: d {', '.join(said)}"
        if m.separation is not None:
            label += f"\n    l {m.separation:.1f} ± {m.separation_se:.1f}"
        text.append((label + " nm", WAYS[way]))
    if not paper.refused:
        used = paper.used
        axes.plot(
            profile.position[used], profile.intensity[used] / level, "o", ms=4.5, mfc="none", mec="k", mew=0.7
        )
    row = 0
    box = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.6}
    for label, color in text:
        axes.text(
            0.02, 0.02 + 0.08 * row, label, transform=axes.transAxes, color=color, fontsize=7.5, va="bottom",
            bbox=box,
        )  # fmt: skip
        row += 1 + label.count("\n")
    axes.set(xlim=(0, profile.length), xlabel="position [nm]")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_table(axes: Axes, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw the numbers."""
    axes.axis("off")
    table = axes.table(
        [list(row) for row in rows], colLabels=list(head), loc="center", cellLoc="center",
        colWidths=[0.1, *[0.9 / (len(head) - 1)] * (len(head) - 1)],
    )  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.scale(1, 1.3)
    for cell in table.get_celld().values():
        cell.set_linewidth(0.4)
        cell.set_edgecolor("0.7")


def tabulate_numbers(
    found: dict[tuple[str, str, str], Measurement], counts: str
) -> tuple[list[str], list[list[str]]]:
    """Put ours beside the paper's."""
    columns = [(image, way) for image in ("HDE", "output") for way in WAYS]
    numbers = {
        (image, way): read_numbers(found[image, "A–B", way], found[image, "C–D", way])
        for image, way in columns
    }
    ours = [f"{image}, {way}" for image, way in columns]
    head = ["[nm]", "truth", *ours, "LDE, counts", "paper: HDE", "paper: output"]
    rows = []
    for name, published in PUBLISHED.items():
        truth = f"{TRUTH[name]:.1f}" if name in TRUTH else ""
        cells = []
        for column in columns:
            entry = numbers[column][name]
            error = "" if entry is None or entry[1] is None else f" ± {entry[1]:.1f}"
            cells.append("refused" if entry is None else f"{entry[0]:.1f}{error}")
        rows.append([name, truth, *cells, counts if name == "d" else "", *(f"{v:.1f}" for v in published)])
    return head, rows


def draw(
    images: Exposures, lines: dict[str, Line], found: dict[tuple[str, str, str], Measurement], counts: str
) -> Figure:
    """Draw images, insets, profiles and numbers."""
    from matplotlib.figure import Figure

    figure = Figure((9.6, 11.2), layout="constrained", dpi=110)
    grid = figure.add_gridspec(5, 6, height_ratios=(3.1, 1.35, 2.1, 2.1, 1.35))
    titles = {
        "HDE": "HDE, 1,000 e$^-$/px of 4096²",
        "LDE": f"LDE, {DOSE_E_PER_PX:g} e$^-$/px",
        "output": "output (model default)",
    }
    limits = {"A–B": (0.42, 1.06), "C–D": (0.12, 1.06)}
    for i, image in enumerate(IMAGES):
        draw_image(figure.add_subplot(grid[0, 2 * i : 2 * i + 2]), images[image], titles[image], lines)
        for j, box in enumerate(BOXES):
            draw_inset(figure.add_subplot(grid[1, 2 * i + j]), images[image], box)
        for j, line in enumerate(LINES):
            axes = figure.add_subplot(grid[2 + j, 2 * i : 2 * i + 2])
            profile = sample_line(images[image], lines[line], SIZE)
            draw_profile(axes, profile, {way: found[image, line, way] for way in WAYS})
            axes.set_ylim(*((-1.2, 3.2) if image == "LDE" else limits[line]))
            axes.set_title(f"{line}, {image}", fontsize=8, loc="left")
            if i == 0:
                axes.set_ylabel("intensity / background")
    draw_table(figure.add_subplot(grid[4, :]), *tabulate_numbers(found, counts))
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG of few colours; noise would make it large."""
    from io import BytesIO

    from matplotlib.colors import to_rgb
    from PIL import Image

    greys = np.repeat(np.linspace(0, 1, 32)[:, None], 3, axis=1)
    share = np.linspace(0, 0.85, 7)[:, None]
    tints = [np.array(to_rgb(c)) * (1 - share) + share for c in (LINE_COLOR, BOX_COLOR, *WAYS.values())]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.round(255 * np.concatenate([greys, *tints])).astype(np.uint8).tobytes())
    data = BytesIO()
    figure.savefig(data, format="png")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    few = Image.open(data).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    few.save(part, "PNG", optimize=True)
    os.replace(part, path)


def repeat(engine: Engine, lines: dict[str, Line], draws: int, seed: int) -> dict[str, Any]:
    """Expose the low dose anew: share of lines measured on the output, and errors [nm]."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in TRUTH}
    scene = area_mean(make_scene(FINER).transmission, FINER)
    for i in track(range(draws), "exposures"):
        lde = expose(scene * np.float32(DOSE_E_PER_PX), MEASURED, np.random.default_rng([seed, 1, i]))
        output, noise = engine.enhance(lde), measure_raw_noise(lde)
        single, pair = (
            fit_profile(
                sample_line(output, lines[line], SIZE), FitOptions(particles=n, is_enhanced=True), noise
            )
            for line, n in (("A–B", 1), ("C–D", 2))
        )
        for name, entry in read_numbers(single, pair).items():
            if entry is not None and entry[1] is not None and name in found:
                found[name].append((entry[0] - TRUTH[name], entry[1]))
    result: dict[str, Any] = {"draws": draws}
    for name, values in found.items():
        result[name] = {"measured": len(values)}
        if len(values) > 1:
            error, se = np.transpose(values)
            result[name] |= {
                "mean_error_nm": float(error.mean()),
                "sd_nm": float(error.std(ddof=1)),
                "own_error_nm": float(np.median(se)),
                "within_1.96_se": int(np.sum(np.abs(error) < 1.96 * se)),
            }
    return result


def describe(repeated: dict[str, Any]) -> str:
    """Say how the output fares over many exposures."""
    draws = repeated["draws"]
    parts = []
    for name in ("d", "d₁", "d₂", "l"):
        row = repeated[name]
        part = f"{name} was measured in {row['measured']}"
        if "sd_nm" in row:
            part += (
                f", error {row['mean_error_nm']:+.1f} ± {row['sd_nm']:.1f} nm (mean ± SD; by itself "
                f"± {row['own_error_nm']:.1f}), within 1.96 of its own errors in {row['within_1.96_se']}"
            )
        parts.append(part)
    return f"Of {draws} low-dose exposures of this field, enhanced, `full`: {'; '.join(parts)}."


def main(arguments: list[str] | None = None) -> None:
    """Simulate, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="name or file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    lines = find_lines(make_scene())
    with Engine(args.model, "cpu") as engine:
        images = record(engine, np.random.default_rng(args.seed))
        found = measure(images, lines)
        electrons = fit_counts(images.lde, lines["A–B"], SIZE, MEASURED.gain)
        said = "refused" if electrons.refused else f"{electrons.diameter:.0f} ± {electrons.diameter_se:.0f}"
        repeated = repeat(engine, lines, args.draws, args.seed)
    save(draw(images, lines, found, said), args.out / "images" / "paper-profiles.png")
    result = {
        "measured": {" ".join(key): m.to_json() for key, m in found.items()},
        "electrons": electrons.to_json(),
        "repeated": repeated,
    }
    (args.out / "paper_figures.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    head, rows = tabulate_numbers(found, said)
    text = tabulate(head[1:], {row[0]: list(row[1:]) for row in rows}) + "\n\n" + describe(repeated)
    fill_in(args.out / "measurement.md", Path(__file__).with_name("measurement.md"), {"paper": text})
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        Console().print(text, markup=False)


if __name__ == "__main__":
    main()
