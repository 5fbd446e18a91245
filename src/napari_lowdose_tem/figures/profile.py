"""Profiles, their fits and where they were taken, as a figure for a paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.figures.scale_bar import Extent, draw_scale_bar
from napari_lowdose_tem.image import F64
from napari_lowdose_tem.io.output import replacing
from napari_lowdose_tem.measure.measurement import Measurement
from napari_lowdose_tem.measure.profile import Line, Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


ENDINGS = (".png", ".svg", ".pdf")
SCALES = {"counts": "Intensity [counts]", "transmission": "Transmission", "unit": "Intensity, 0 … 1"}
LAYOUTS = ("stacked", "overlaid")

_WIDTH_IN, _ROW_IN = 7.0, 2.1  # two columns of a journal
_BAR_IN = 0.24
# colours that colour-blind people can distinguish
_COLORS = ("#0b62b3", "#b85c00", "#00805a", "#a0408e", "#555555", "#7d7600")
_LINE = "#ffb000"
FONT: Any = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,
    "svg.hashsalt": "lowdose-tem",
}


@dataclass(frozen=True, eq=False)
class ProfilePanel:
    """A frame (rows, columns), a profile of it and what was measured there, under a title."""

    title: str
    pixels: npt.NDArray[Any]
    profile: Profile
    measurement: Measurement | None = None


def draw(
    panels: Sequence[ProfilePanel], scale: str = "transmission", layout: str = "stacked", dpi: int = 300
) -> Figure:
    """Draw a figure: at the left the frames around the line with a scale bar, at the right the profiles.

    Measured points are dots, those the fit rests on circles; the fit is a line, the background dashed; bars
    show the diameters, with their standard errors.

    Parameters
    ----------
    panels
        One for each frame.
    scale
        "counts", "transmission" (divided by the fitted background) or "unit" (stretched to 0…1).
    layout
        "stacked": each profile beside its frame; "overlaid": all in one plot.
    dpi
        Resolution of bitmaps.

    Raises
    ------
    ValueError
        Without panels, and for unknown choices.
    """
    if not panels:
        raise ValueError("there is no profile to draw; measure one first")
    if scale not in SCALES or layout not in LAYOUTS:
        raise ValueError(
            f"cannot draw {scale!r}, {layout!r}; choose {', '.join(SCALES)} and {', '.join(LAYOUTS)}"
        )
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(FONT):
        n = len(panels)
        is_overlaid = layout == "overlaid" and n > 1
        figure = Figure(figsize=(_WIDTH_IN, max(_ROW_IN * n, 2.6)), dpi=dpi, layout="constrained")
        grid = figure.add_gridspec(n, 2, width_ratios=(1, 2.4))
        plots: list[Axes] = []
        for i, panel in enumerate(panels):
            _draw_frame(figure.add_subplot(grid[i, 0]), panel)
            if not (plots and is_overlaid):
                place = grid[:, 1] if is_overlaid else grid[i, 1]
                plots.append(figure.add_subplot(place, sharex=plots[0] if plots else None))
                plots[-1].set_ylabel(SCALES[scale])
            color = _COLORS[i % len(_COLORS)]
            _draw_profile(plots[-1], panel, scale, color, n - 1 - i if is_overlaid else 0)
        plots[-1].set_xlabel(f"Distance from the start of the line [{panels[0].profile.unit}]")
        for axes in plots:
            _finish(axes, n if is_overlaid else 1)
    return figure


def save(figure: Figure, path: str | Path, dpi: int = 300) -> Path:
    """Write a figure as PNG, SVG or PDF by its ending; never half of it.

    Raises
    ------
    ValueError
        For another ending.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"{path}: figures are written as {', '.join(ENDINGS)}; choose one of them")
    import matplotlib

    made_at: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(ending, {})
    with replacing(path) as partial, matplotlib.rc_context(FONT):
        figure.savefig(partial, dpi=dpi, metadata=made_at)
    return path


def scale_profile(profile: Profile, found: Measurement | None, scale: str) -> tuple[F64, F64, F64]:
    """Profile, fitted curve and background (at the profile's positions) on one of `SCALES`.

    Transmission divides by the fitted background, without a fit by the median at the line's ends.
    """
    values = np.asarray(profile.intensity, np.float64)
    curve, ground, along = np.zeros(0), np.zeros(0), np.zeros(0)
    if found is not None and not found.refused:
        curve, along = np.asarray(found.curve, np.float64), found.position
        if found.background is not None:
            ground = found.background.level + found.background.slope * (profile.position - profile.length / 2)
    if scale == "counts":
        return values, curve, ground
    if scale == "transmission":
        level: F64 = ground if ground.size else np.full(len(values), _level_of_ends(values))
        level = np.where(level == 0, np.nan, level)
        return values / level, curve / np.interp(along, profile.position, level), np.ones_like(ground)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    span = (high - low) or 1.0
    return (values - low) / span, (curve - low) / span, (ground - low) / span


def _level_of_ends(values: F64) -> float:
    n = max(1, len(values) // 7)
    ends = np.concatenate([values[:n], values[-n:]])
    ends = ends[np.isfinite(ends)]
    return float(np.median(ends)) if ends.size else 1.0


def draw_points(
    axes: Axes, position: F64, values: F64, used: npt.NDArray[np.bool_] | None, color: str
) -> None:
    """Draw measured points, with circles around those that a fit rests on."""
    axes.plot(position, values, ".", ms=2.5, color=color, alpha=0.7, mew=0)
    if used is not None and used.size == values.size:
        axes.plot(position[used], values[used], "o", ms=3.2, mfc="none", mec=color, mew=0.6)


def hide_spines(axes: Axes) -> None:
    """Leave the axes at the left and below only."""
    axes.spines[["top", "right"]].set_visible(False)


def _draw_profile(axes: Axes, panel: ProfilePanel, scale: str, color: str, row: int) -> None:
    profile, found = panel.profile, panel.measurement
    values, curve, ground = scale_profile(profile, found, scale)
    is_fitted = found is not None and not found.refused
    draw_points(axes, profile.position, values, found.used if found and is_fitted else None, color)
    axes.plot([], [], color=color, label=panel.title)
    if found is None or found.refused:
        axes.plot(profile.position, values, color=color, lw=0.7, alpha=0.7)
        if found is not None:
            axes.set_title(f"{panel.title}: {found.refused}", fontsize=6.5, loc="left", wrap=True)
        return
    axes.plot(found.position, curve, color=color, lw=1.3)
    if ground.size:
        axes.plot(profile.position, ground, color=color, lw=0.7, ls=(0, (4, 3)))
    height = (row + 0.4) * _BAR_IN / _height_in(axes)
    across = axes.get_xaxis_transform()
    for particle in found.particles:
        ends = particle.center - particle.diameter / 2, particle.center + particle.diameter / 2
        axes.plot(ends, [height] * 2, color=color, lw=1.0, marker="|", ms=6, transform=across)
        error = "" if particle.diameter_se is None else f" ± {particle.diameter_se:.1f}"
        axes.annotate(
            f"{particle.diameter:.1f}{error} {found.unit}", (particle.center, height), (0, 2), color=color,
            xycoords=across, textcoords="offset points", fontsize=6.5, ha="center", va="bottom",
        )  # fmt: skip


def _finish(axes: Axes, rows: int) -> None:
    """Make room for the rows of bars below the profiles, and name them."""
    axes.margins(x=0)
    low, high = axes.get_ylim()
    share = rows * _BAR_IN / _height_in(axes)
    axes.set_ylim(low - share / (1 - share) * (high - low), high)
    axes.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(0, share), handlelength=1.2)
    hide_spines(axes)


def _height_in(axes: Axes) -> float:
    """Height of axes, roughly: the layout is found when the figure is drawn."""
    place: Any = axes.get_subplotspec()
    figure: Any = axes.figure
    rows = place.rowspan.stop - place.rowspan.start
    return float(figure.get_size_inches()[1] * rows / place.get_gridspec().nrows - 0.45)


def _draw_frame(axes: Axes, panel: ProfilePanel) -> None:
    profile = panel.profile
    line, size = profile.line, profile.pixel_size
    (top, bottom), (left, right) = _window(line, panel.pixels.shape, size)
    part = np.asarray(panel.pixels[top:bottom, left:right], np.float64)
    known = part[np.isfinite(part)]
    low, high = np.percentile(known, (0.5, 99.5)) if known.size else (0.0, 1.0)
    extent = Extent(
        (left - 0.5) * size[1], (right - 0.5) * size[1], (bottom - 0.5) * size[0], (top - 0.5) * size[0]
    )
    axes.imshow(
        part, cmap="gray", vmin=low, vmax=max(high, low + 1e-12), extent=extent, interpolation="nearest"
    )
    (y0, x0), (y1, x1) = ((end[0] * size[0], end[1] * size[1]) for end in (line.start, line.stop))
    if profile.width:
        corners = _band((y0, x0), (y1, x1), profile.width)
        axes.fill(corners[:, 1], corners[:, 0], color=_LINE, alpha=0.3, lw=0)
    axes.plot((x0, x1), (y0, y1), color=_LINE, lw=1.0)
    axes.plot(x0, y0, "o", color=_LINE, ms=3)  # the profile starts here
    draw_scale_bar(axes, extent, profile.unit)
    axes.set_title(panel.title, fontsize=8)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])
    axes.set_xticks([])
    axes.set_yticks([])


def _window(line: Line, shape: tuple[int, ...], size: tuple[float, float]) -> list[tuple[int, int]]:
    """(first, last + 1) row and column of a square around the line, as far as the frame goes."""
    half = 0.65 * math.hypot(*((b - a) * s for a, b, s in zip(line.start, line.stop, size, strict=True)))
    bounds = []
    for a, b, s, n in zip(line.start, line.stop, size, shape, strict=True):
        middle = (a + b) / 2
        low = min(max(0, math.floor(middle - half / s)), n - 1)
        bounds.append((low, max(low + 1, min(n, math.ceil(middle + half / s) + 1))))
    return bounds


def _band(start: tuple[float, float], stop: tuple[float, float], width: float) -> F64:
    """Corners (4, 2) of a band of a width around a line; all in one unit."""
    a, b = np.asarray(start), np.asarray(stop)
    along = (b - a) / np.linalg.norm(b - a)
    across = np.array([-along[1], along[0]]) * width / 2
    return np.array([a + across, b + across, b - across, a - across])
