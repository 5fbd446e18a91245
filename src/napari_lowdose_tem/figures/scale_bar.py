"""The scale bar of every figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Extent(NamedTuple):
    """Edges of a frame in the units of its axes; rows run downwards, so the bottom is the larger."""

    left: float
    right: float
    bottom: float
    top: float


def round_length(most: float) -> float:
    """Return the longest of 1, 2, 5, 10, … that is not longer than `most`, in its unit."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= most * (1 + 1e-9))


def write_length(length: float, unit: str) -> str:
    """Write a length, 1000 nm and more in µm."""
    return f"{length / 1000:g} µm" if unit == "nm" and length >= 1000 else f"{length:g} {unit}"


def draw_scale_bar(
    axes: Axes,
    extent: Extent,
    unit: str,
    units_per_px: float = 1.0,
    *,
    share: float = 0.35,
    points: float = 6.5,
) -> None:
    """Draw a bar of a round length at the lower left of a frame.

    Parameters
    ----------
    axes
        Which show the frame.
    extent
        Of the frame in the units of the axes.
    unit
        Of the length: "nm" or "px".
    units_per_px
        Length of a unit of the axes: the pixel size [nm/px] where axes count pixels.
    share
        Of the frame's width that the bar takes at most.
    points
        Size of the text; the bar is as thick as suits it.
    """
    width, height = extent.right - extent.left, extent.bottom - extent.top
    length = round_length(share * width * units_per_px)
    x, y, reach = extent.left + 0.06 * width, extent.bottom - 0.07 * height, length / units_per_px
    for color, thick in (("black", 0.7), ("white", 0.3)):
        axes.plot((x, x + reach), (y, y), color=color, lw=thick * points, solid_capstyle="butt", zorder=5)
    axes.text(
        x + reach / 2, y - 0.04 * height, write_length(length, unit), color="white", fontsize=points,
        ha="center", va="bottom", zorder=5,
        bbox={"boxstyle": "round,pad=0.15", "fc": "black", "ec": "none", "alpha": 0.55},
    )  # fmt: skip
