"""Frames on the grid that the numbers are computed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F32

if TYPE_CHECKING:
    from napari_lowdose_tem.widgets.compare.state import Alignment


@dataclass(frozen=True)
class Grid:
    """(rows, columns) [px] and pixel size [nm/px]; None where it is not known."""

    shape: tuple[int, int]
    pixel_size_nm: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class GridFrame:
    """A frame to bring to a grid; the role "mean" is the low-dose frame averaged."""

    role: str
    title: str
    pixels: npt.NDArray[Any]
    pixel_size_nm: tuple[float, float] | None


def resample_to_grid(frame: GridFrame, grid: Grid, alignment: Alignment | None = None) -> F32:
    """Resample a frame on a grid, aligned where that is known; NaN beside it.

    Raises
    ------
    ValueError
        When it cannot be of the same field.
    """
    from napari_lowdose_tem.pairs.grid import bring_to_grid

    shape, size = grid.shape, grid.pixel_size_nm
    own = frame.pixel_size_nm if size is not None else None
    if alignment is None:
        return bring_to_grid(frame.pixels, own, shape, size)
    found = alignment.similarity
    if not found.rotation_deg and found.scale == 1:
        return bring_to_grid(frame.pixels, own, shape, size, found.shift_px)
    return np.asarray(found.apply(bring_to_grid(frame.pixels, own, shape, size)))


def mean_of(frame: npt.NDArray[Any]) -> float:
    """Mean of the finite values, 0 where there are none."""
    known = frame[np.isfinite(frame)]
    return float(known.mean(dtype=np.float64)) if known.size else 0.0
