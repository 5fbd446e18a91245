"""Frames side by side with a scale bar, as a figure for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.figures.profile import FONT, save
from napari_lowdose_tem.figures.scale_bar import Extent, draw_scale_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FramePanel", "choose_limits", "draw_comparison", "save"]

Limits = tuple[float, float]

_WIDTH_IN = 7.0  # two columns of a journal
_TEXT_IN, _BAR_IN = 0.4, 0.75
_MARK = "#ffb000"
_PERCENTILES = (0.5, 99.5)
_NOISIER = 2.0  # spread beyond which a panel does not take part in shared limits
_LEVELS = 2.0  # ratio of levels that limits are shared over


@dataclass(frozen=True, eq=False)
class FramePanel:
    """A frame and what is drawn on it.

    Parameters
    ----------
    title
        Above it.
    pixels
        (rows, columns), NaN for what is not covered.
    pixel_size_nm
        Sampling (row, column) [nm/px], or None.
    limits
        Values drawn black and white; None to choose.
    marks
        Points (row, column) [px], each an array (n, 2): a point, a line or the corners of a region.
    unit
        Of the values.
    """

    title: str
    pixels: npt.NDArray[Any]
    pixel_size_nm: tuple[float, float] | None = None
    limits: Limits | None = None
    marks: Sequence[npt.ArrayLike] = ()
    unit: str = "counts"


def choose_limits(panels: Sequence[FramePanel], shared: bool = True) -> tuple[list[Limits], str]:
    """Choose the values drawn black and white in each panel.

    Shared limits span the 0.5th to the 99.5th percentile of all panels but the noisy ones, which would leave
    nothing of the others; what lies beyond is black or white.

    Returns
    -------
    limits
        One pair a panel, the panel's own where it has some.
    why_not
        Why limits are not shared although they should be, in words; empty if they are.
    """
    own = [panel.limits or _span(panel.pixels) for panel in panels]
    if not shared or len(panels) < 2:
        return own, ""
    if len({panel.unit for panel in panels}) > 1:
        return own, "own limits: the units differ"
    levels = [_level(panel.pixels) for panel in panels]
    if not min(levels) > 0 or max(levels) > _LEVELS * min(levels):
        return own, "own limits: the levels differ more than twofold"
    spreads = [high - low for low, high in own]
    quiet = [limits for limits, s in zip(own, spreads, strict=True) if s <= _NOISIER * min(spreads)]
    low, high = min(low for low, _ in quiet), max(high for _, high in quiet)
    return [panel.limits or (low, high) for panel in panels], ""


def draw_comparison(
    panels: Sequence[FramePanel], shared: bool = True, scale_bar: bool = True, dpi: int = 300
) -> Figure:
    """Draw frames side by side.

    Parameters
    ----------
    panels
        One for each frame, from left to right.
    shared
        Whether all have the same limits, where unit and level allow; a colour bar then shows them. Otherwise
        each panel says its own.
    scale_bar
        Draw a bar of a round length [nm] in every frame, [px] without calibration.
    dpi
        Resolution of bitmaps.

    Raises
    ------
    ValueError
        Without panels, and for pixels that are no frame.
    """
    if not panels:
        raise ValueError("there is nothing to draw; choose an image first")
    for panel in panels:
        if np.ndim(panel.pixels) != 2 or 0 in np.shape(panel.pixels):
            raise ValueError(
                f"{panel.title}: shape {np.shape(panel.pixels)}; a panel needs one frame (rows, columns)"
            )
    import matplotlib
    from matplotlib.figure import Figure

    limits, why_not = choose_limits(panels, shared)
    is_shared = len(panels) > 1 and shared and len(set(limits)) == 1
    aspect = max(extent.bottom / extent.right for extent in map(_extent, panels))
    with matplotlib.rc_context(FONT):
        n = len(panels)
        width = _WIDTH_IN - (_BAR_IN if is_shared else 0.0)
        height = width / n * aspect + (_TEXT_IN if is_shared else _TEXT_IN + 0.2)
        figure = Figure(figsize=(_WIDTH_IN, height), dpi=dpi, layout="constrained")
        plots = figure.subplots(1, n, squeeze=False)[0]
        for axes, panel, (low, high) in zip(plots, panels, limits, strict=True):
            image = _draw_frame(axes, panel, (low, high))
            if not is_shared:
                axes.set_xlabel(f"{_plain(low)} to {_plain(high)} {panel.unit}".strip(), fontsize=7)
            if scale_bar:
                draw_scale_bar(axes, _extent(panel), "nm" if panel.pixel_size_nm else "px")
        if is_shared:
            bar = figure.colorbar(image, ax=list(plots), shrink=0.8, pad=0.01, aspect=25)
            bar.set_label(f"{panels[0].unit}, same in all", fontsize=7)
        elif why_not:
            figure.supxlabel(why_not, fontsize=6.5)
    return figure


def _draw_frame(axes: Axes, panel: FramePanel, limits: Limits) -> Any:
    extent, (row_nm, col_nm) = _extent(panel), panel.pixel_size_nm or (1.0, 1.0)
    low, high = limits
    image = axes.imshow(
        np.asarray(panel.pixels, np.float64), cmap="gray", vmin=low, vmax=max(high, low + 1e-12),
        extent=extent, interpolation="antialiased",
    )  # fmt: skip
    axes.set_facecolor("#7a8ca3")  # what is not covered
    for mark in panel.marks:
        at = (np.asarray(mark, np.float64).reshape(-1, 2) + 0.5) * (row_nm, col_nm)
        if len(at) == 1:
            axes.plot(at[:, 1], at[:, 0], "+", color=_MARK, ms=6, mew=1.0)
        elif len(at) == 2:
            axes.plot(at[:, 1], at[:, 0], color=_MARK, lw=1.0)
        else:
            axes.fill(at[:, 1], at[:, 0], ec=_MARK, fc="none", lw=1.0)
    axes.set_title(panel.title, fontsize=8)
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
    return image


def _extent(panel: FramePanel) -> Extent:
    """Edges of a frame [nm, px without calibration]."""
    row_nm, col_nm = panel.pixel_size_nm or (1.0, 1.0)
    rows, cols = panel.pixels.shape
    return Extent(0.0, cols * col_nm, rows * row_nm, 0.0)


def _span(pixels: npt.NDArray[Any]) -> Limits:
    known = np.asarray(pixels, np.float64)[np.isfinite(pixels)]
    if not known.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(known, _PERCENTILES))
    return (low, high) if high > low else (low, low + 1.0)


def _level(pixels: npt.NDArray[Any]) -> float:
    known = np.asarray(pixels, np.float64)[np.isfinite(pixels)]
    return float(known.mean()) if known.size else 0.0


def _plain(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
