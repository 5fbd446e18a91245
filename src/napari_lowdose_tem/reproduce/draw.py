"""The figures of the report, as PNG of few colours: the noise of low-dose frames would make them large."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from napari_lowdose_tem.figures.profile import draw_points, hide_spines
from napari_lowdose_tem.figures.scale_bar import Extent, draw_scale_bar
from napari_lowdose_tem.image import AnyFloat
from napari_lowdose_tem.io.output import replacing
from napari_lowdose_tem.judge.evaluate import ScoredFrame
from napari_lowdose_tem.measure import Measurement, Profile
from napari_lowdose_tem.reproduce.example import Example
from napari_lowdose_tem.reproduce.lines import IMAGES, Key, sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from napari_lowdose_tem.judge.histogram import Histogram

P = ParamSpec("P")

_DPI, _WIDTH_INCH = 140, 7.6
_FONT: Any = {"font.size": 8, "axes.linewidth": 0.6, "axes.titlesize": 8, "legend.fontsize": 7.5}
_COLORS = {"full": "#0b62b3", "paper": "#b85c00"}
_IMAGE_COLORS = {"HDE": "#222222", "LDE": "#b85c00", "output": "#0b62b3"}
_LINE, _BOX = "#d97b00", "#c2185b"
_GREYS, _TINTS = 80, 6
_LEAST_VISIBLE = 0.7  # pixels, on a logarithmic axis


def _in_style(draw: Callable[P, None]) -> Callable[P, None]:
    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        import matplotlib

        with matplotlib.rc_context(_FONT):
            draw(*args, **kwargs)

    return wrapped


@_in_style
def draw_losses(path: Path, curve: Sequence[Sequence[float]], best_epoch: int) -> None:
    """Draw Fig. 2: losses by epoch."""
    figure = _begin(0.42)
    axes = figure.subplots()
    epochs, training, validation = np.transpose(curve)
    axes.plot(epochs, training, color=_COLORS["full"], lw=1.2, label="training")
    axes.plot(epochs, validation, color=_COLORS["paper"], lw=1.2, label="validation")
    best = validation[epochs == best_epoch][0]
    axes.plot(best_epoch, best, "o", mfc="none", color=_COLORS["paper"], ms=6)
    axes.annotate(
        f"lowest, epoch {best_epoch}", (best_epoch, best), (0, 12), textcoords="offset points", ha="center",
        color=_COLORS["paper"], fontsize=7.5,
    )  # fmt: skip
    axes.set(xlabel="epoch", ylabel="loss (mean absolute error)", yscale="log", xlim=(0, epochs[-1] * 1.02))
    ticks = [t for t in (0.02, 0.05, 0.1, 0.2, 0.5, 1) if training.min() * 0.7 < t < training.max() * 1.5]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    hide_spines(axes)
    _save(figure, path)


def draw_examples(path: Path, frames: Sequence[ScoredFrame], model: str) -> None:
    """Draw Fig. 3: a row a set."""
    from napari_lowdose_tem.judge.contact_sheet import draw_sheet

    path.parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(path, frames, model, dpi=_DPI)
    _reduce_colours(path, ("#e66100", "#1a85ff"))


@_in_style
def draw_field(path: Path, example: Example) -> None:
    """Draw Fig. 4: the field three times, with its lines, and its boxes enlarged."""
    n = len(example.boxes)
    figure = _begin(0.345 + (0.17 if n else 0), example)
    grid = figure.add_gridspec(2 if n else 1, 3 * max(n, 1), height_ratios=(2.5, 1.1) if n else None)
    titles = {"HDE": "(a) high dose", "LDE": "(b) low dose", "output": "(c) output"}
    for i, image in enumerate(IMAGES):
        span = max(n, 1)
        axes = figure.add_subplot(grid[0, span * i : span * (i + 1)])
        _draw_image(axes, example[image], example)
        axes.set_title(titles[image])
        for j, (name, box) in enumerate(example.boxes.items()):
            _draw_inset(figure.add_subplot(grid[1, span * i + j]), example[image], name, box, example)
    _save(figure, path, (_LINE, _BOX))


@_in_style
def draw_histograms(path: Path, histograms: Mapping[str, Histogram], unit: str) -> None:
    """Draw Fig. 5: raw histograms, and those of the scaled images with their peaks."""
    figure = _begin(0.58)
    raw, *scaled = figure.subplots(2, 2).ravel()
    for name in ("HDE", "LDE"):
        _draw_steps(raw, histograms[f"raw {name}"], _IMAGE_COLORS[name], label=name)
    label = "electrons per pixel as recorded" if unit == "e-" else "counts"
    raw.set(title="(a) raw", xlabel=label, ylabel="pixels")
    raw.legend(frameon=False)
    titles = {"HDE": "(b) high dose, scaled", "LDE": "(c) low dose, scaled", "output": "(d) output, scaled"}
    for axes, (name, title) in zip(scaled, titles.items(), strict=True):
        _draw_steps(axes, histograms[name], _IMAGE_COLORS[name])
        for peak in histograms[name].peaks:
            axes.axvline(peak.position, color=_BOX, ls=":", lw=1)
            axes.annotate(
                f"{peak.position:.2f}", (peak.position, 0.98), (2, 0), xycoords=("data", "axes fraction"),
                textcoords="offset points", color=_BOX, fontsize=7, va="top",
            )  # fmt: skip
        left = min(-0.03, float(histograms[name].edges[0]) - 0.02)
        axes.set(title=title, xlabel="intensity", ylabel="pixels", xlim=(left, 1.05))
    for axes in (raw, *scaled):
        axes.set_yscale("log")
        axes.set_ylim(bottom=_LEAST_VISIBLE)
        axes.title.set_horizontalalignment("left")
        axes.title.set_x(0)
        hide_spines(axes)
    _save(figure, path)


@_in_style
def draw_profiles(path: Path, line: str, example: Example, found: Mapping[Key, Measurement]) -> None:
    """Draw Fig. 6 or 7: the profile on the three images and what both fits make of it."""
    figure = _begin(0.36)
    panels = figure.subplots(1, 3)
    profiles = {image: sample(example, image, line) for image in IMAGES}
    relative: dict[str, AnyFloat] = {}
    for axes, letter, (image, profile) in zip(panels, "abc", profiles.items(), strict=True):
        fits = {way: found[image, line, way] for way in _COLORS}
        relative[image] = _draw_profile(axes, profile, fits)
        axes.set_title(f"({letter}) {image}", loc="left")
    # one scale for the two that can be read; text below the deepest dip
    lowest = min(float(np.nanmin(relative[image])) for image in ("HDE", "output"))
    highest = max(float(np.nanmax(relative[image])) for image in ("HDE", "output"))
    depth = max(highest - lowest, 0.1)
    for axes, image in zip(panels, IMAGES, strict=True):
        if image != "LDE":
            axes.set_ylim(lowest - 0.55 * depth, highest + 0.06 * depth)
        else:
            low, high = float(np.nanmin(relative[image])), float(np.nanmax(relative[image]))
            axes.set_ylim(low - 0.55 * (high - low), high + 0.06 * (high - low))
    panels[0].set_ylabel("intensity / background")
    _save(figure, path, tuple(_COLORS.values()))


# ---- parts of figures


def _begin(ratio: float, example: Example | None = None) -> Figure:
    from matplotlib.figure import Figure

    if example is not None:  # fields that are not square
        ratio *= example.lde.shape[0] / example.lde.shape[1]
    return Figure((_WIDTH_INCH, _WIDTH_INCH * ratio), layout="constrained", dpi=_DPI)


def _draw_steps(axes: Axes, histogram: Histogram, color: str, label: str = "") -> None:
    counts = np.where(histogram.counts > 0, histogram.counts, np.nan)
    axes.stairs(counts, histogram.edges, color=color, label=label or None, lw=1)


def _choose_grey(image: AnyFloat) -> tuple[float, float]:
    """Black and white of a frame: the same transmissions where the noise allows, else all of the noise."""
    level = float(np.nanmedian(image))
    low, high = (float(v) for v in np.nanpercentile(image, (2, 98)))
    if level <= 0:  # a model that has learnt nothing
        return low, high
    low, high = low / level, high / level
    return level * min(0.45, low), level * max(1.05, high)


def _draw_image(axes: Axes, image: AnyFloat, example: Example) -> None:
    """Draw a frame with its boxes, lines and a scale bar."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.0, foreground="white")]
    low, high = _choose_grey(image)
    axes.imshow(image, "gray", vmin=low, vmax=high, interpolation="antialiased", aspect=_aspect(example))
    for name, (row, col, rows, cols) in example.boxes.items():
        x, y = np.array([0, cols, cols, 0, 0]) + col, np.array([0, 0, rows, rows, 0]) + row
        axes.plot(x, y, "--", lw=0.9, color=_BOX, path_effects=halo)
        axes.text(
            col, row - 6, name, color=_BOX, fontweight="bold", va="bottom", path_effects=halo, fontsize=8
        )
    for name, line in example.lines.items():
        (y0, x0), (y1, x1) = line.start, line.stop
        axes.plot((x0, x1), (y0, y1), color=_LINE, lw=0.9)
        unit = np.array([x1 - x0, y1 - y0]) / np.hypot(x1 - x0, y1 - y0)
        for letter, end, sign in ((name[0], (x0, y0), -1), (name[-1], (x1, y1), 1)):
            at = np.array(end) + sign * 0.03 * image.shape[1] * unit
            axes.text(
                at[0], at[1], letter, color=_LINE, ha="center", va="center", path_effects=halo, fontsize=8
            )
    _frame_axes(axes, image, example)


def _aspect(example: Example) -> float:
    return example.size_nm[0] / example.size_nm[1] if example.size_nm else 1.0


def _draw_inset(
    axes: Axes, image: AnyFloat, name: str, box: tuple[int, int, int, int], example: Example
) -> None:
    """Draw a box enlarged, in the greys of its frame."""
    row, col, rows, cols = box
    low, high = _choose_grey(image)
    part = image[row : row + rows, col : col + cols]
    axes.imshow(part, "gray", vmin=low, vmax=high, interpolation="nearest", aspect=_aspect(example))
    axes.set_title(name, fontsize=8, color=_BOX, pad=2)
    _frame_axes(axes, part, example)


def _frame_axes(axes: Axes, image: AnyFloat, example: Example) -> None:
    """End the axes where the image ends, and draw a scale bar where the pixel size is known."""
    rows, cols = image.shape
    extent = Extent(-0.5, cols - 0.5, rows - 0.5, -0.5)
    axes.set(xticks=[], yticks=[], xlim=(extent.left, extent.right), ylim=(extent.bottom, extent.top))
    if example.size_nm is not None:
        draw_scale_bar(axes, extent, "nm", example.size_nm[1], share=0.4)


def _draw_profile(axes: Axes, profile: Profile, found: Mapping[str, Measurement]) -> AnyFloat:
    """Draw a profile over its background; circles are the points of the fit `paper`. Return the profile."""
    paper = found["paper"]
    known = [m.background.level for m in found.values() if m.background is not None]
    ends = np.r_[profile.intensity[:8], profile.intensity[-8:]]
    level = known[0] if known else float(np.nanmedian(ends))
    relative = profile.intensity / level
    axes.plot(profile.position, relative, color="0.55", lw=0.5)
    draw_points(axes, profile.position, relative, None if paper.refused else paper.used, "0.35")
    axes.axhline(1, color="0.2", ls=":", lw=1)
    labels = []
    for way, m in found.items():
        if m.refused:
            reason = m.refused.split(" (")[0].split(";")[0].split(", ")[0]
            labels.append((fill(f"{way}: refused, {reason}", 34), _COLORS[way]))
            continue
        for particle in m.particles:  # a fit of points near the centre has one piece a particle
            inside = np.abs(m.position - particle.center) < particle.diameter / 2
            part = inside if way == "paper" else np.ones(len(m.position), bool)
            axes.plot(m.position[part], m.curve[part] / level, color=_COLORS[way], lw=1.3)
            axes.axvline(particle.center, color="0.75", lw=0.6, ls=":", zorder=0)
        names = ("d",) if len(m.particles) == 1 else ("d$_1$", "d$_2$")
        parts = [
            f"{name} {_with_error(p.diameter, p.diameter_se)}"
            for name, p in zip(names, m.particles, strict=False)
        ]
        if m.separation is not None:
            parts.append(f"l {_with_error(m.separation, m.separation_se)}")
        labels.append(
            (f"{way}: {', '.join(parts[:2])}" + "".join(f"\n    {p}" for p in parts[2:]), _COLORS[way])
        )
    row = 0
    for label, color in reversed(labels):
        box = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.5}
        at = 0.02, 0.02 + 0.075 * row
        axes.text(
            at[0], at[1], label, transform=axes.transAxes, color=color, fontsize=6.5, va="bottom", bbox=box
        )
        row += 1 + label.count("\n")
    axes.set(xlim=(0, profile.length), xlabel=f"position [{profile.unit}]")
    hide_spines(axes)
    return np.asarray(relative)


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.1f}" + (f" ± {error:.1f}" if error is not None else "")


# ---- files


def _save(figure: Figure, path: Path, tints: Sequence[str] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=_DPI)
    if tints:
        _reduce_colours(path, tints)


def _reduce_colours(path: Path, tints: Sequence[str]) -> None:
    """Leave greys and shades of a few colours; text and lines keep smooth edges."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    share = np.linspace(0, 0.85, _TINTS)[:, None]
    greys = np.repeat(np.linspace(0, 1, _GREYS)[:, None], 3, axis=1)
    shades = [np.array(to_rgb(color)) * (1 - share) + share for color in tints]
    palette = np.round(255 * np.concatenate([greys, *shades])).astype(np.uint8)
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
    # what Pillow maps to a palette is a few levels off, so that white would be grey
    colors, index = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    distance = ((colors[:, None].astype(float) - palette[None]) ** 2).sum(2)
    few = Image.fromarray(distance.argmin(1)[index].reshape(rgb.shape[:2]).astype(np.uint8), "P")
    few.putpalette(palette.tobytes())
    with replacing(path) as partial:
        few.save(partial, "PNG", optimize=True)
