"""Frames brought to one grid: averaged in time, resampled in space."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from napari_lowdose_tem.image import F32, Image

PixelSize = tuple[float, float]

_LEAST_COVERED = 0.99  # of a pixel's area
_LEAST_FINITE = 0.5  # of what covers it
_SAME = 0.02  # by which ratios of shapes may differ along rows and columns
LARGEST_EXTENT_RATIO = 4.0
"""Largest ratio of the extents [nm] of two images that may show one field, one of them cropped."""


def average_frames(image: Image, frame: int, n: int) -> F32:
    """Average `n` frames around `frame`: what recording longer, at rest, would have given.

    Parameters
    ----------
    image
        Frame or stack [counts].
    frame
        The frame in the middle, of an even number the one before; at the ends of the stack the frames
        averaged are the first or last `n`, all if there are fewer.

    Returns
    -------
    Mean (rows, columns) [counts].

    Raises
    ------
    ValueError
        For less than one frame, and a frame that is not in the stack.
    """
    if n < 1:
        raise ValueError(f"an average of {n} frames; needs 1 or more")
    if not 0 <= frame < image.n_frames:
        raise ValueError(f"frame {frame} is not within the stack's 0:{image.n_frames}")
    n = min(n, image.n_frames)
    first = min(max(0, frame - (n - 1) // 2), image.n_frames - n)
    frames = image.frames(first, first + n)
    if n == 1:
        return np.asarray(frames[0], np.float32)
    return np.asarray(frames.mean(0, dtype=np.float64), np.float32)


def bring_to_grid(
    pixels: npt.NDArray[Any],
    pixel_size_nm: PixelSize | None,
    shape: tuple[int, int],
    target_pixel_size_nm: PixelSize | None,
    shift_px: tuple[float, float] = (0.0, 0.0),
) -> F32:
    """Bring a frame to another grid; the corners of the first pixels of both lie on each other.

    Coarser pixels are means over their area; finer ones are interpolated linearly.

    Parameters
    ----------
    pixels
        Frame (rows, columns).
    pixel_size_nm, target_pixel_size_nm
        Sampling (row, column) of the frame and of the grid [nm/px]. Without one of them both are taken to
        show the same field, whole.
    shape
        (rows, columns) of the grid [px].
    shift_px
        How far what the frame shows lies off on the grid (rows, columns) [px], as `register_frame` gives it.

    Returns
    -------
    Frame of that shape, NaN where `pixels` does not cover it.

    Raises
    ------
    ValueError
        Where the two cannot be of the same field.
    """
    frame = np.asarray(pixels)
    if frame.ndim != 2 or 0 in frame.shape or min(shape) < 1:
        raise ValueError(f"cannot bring shape {frame.shape} to {shape} px; needs a frame (rows, columns)")
    steps = _pixels_per_pixel(frame.shape, pixel_size_nm, shape, target_pixel_size_nm)
    if frame.shape == tuple(shape) and steps == (1.0, 1.0) and not any(shift_px):
        return np.array(frame, np.float32)
    rows, row_cover = _weigh(frame.shape[0], shape[0], steps[0], shift_px[0])
    cols, col_cover = _weigh(frame.shape[1], shape[1], steps[1], shift_px[1])
    values, finite = np.asarray(frame, np.float32), np.isfinite(frame)
    covered = share = np.outer(row_cover, col_cover)
    if not finite.all():
        values = np.where(finite, values, np.float32(0))
        share = _spread(rows, cols, finite.astype(np.float32))
    known = (covered >= _LEAST_COVERED) & (share >= _LEAST_FINITE * covered)
    total = _spread(rows, cols, values)
    return np.asarray(np.divide(total, share, out=np.full(covered.shape, np.nan, np.float32), where=known))


def _spread(rows: Any, cols: Any, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray((cols @ (rows @ values).T).T)


def _pixels_per_pixel(
    shape: tuple[int, ...],
    size_nm: PixelSize | None,
    target_shape: tuple[int, int],
    target_nm: PixelSize | None,
) -> tuple[float, float]:
    """Pixels of the frame along a pixel of the grid (rows, columns)."""
    by_shape = shape[0] / target_shape[0], shape[1] / target_shape[1]
    if size_nm is None or target_nm is None:
        if abs(by_shape[0] / by_shape[1] - 1) > _SAME:
            raise ValueError(
                f"{shape[0]} × {shape[1]} px and {target_shape[0]} × {target_shape[1]} px are not the same "
                "field: their sides have different ratios; set the pixel sizes of both, or crop"
            )
        return by_shape
    steps = target_nm[0] / size_nm[0], target_nm[1] / size_nm[1]
    extents = [ratio / step for ratio, step in zip(by_shape, steps, strict=True)]
    if max(*extents, *(1 / e for e in extents)) > LARGEST_EXTENT_RATIO:
        field, other = (
            f"{n[0] * s[0]:.4g} × {n[1] * s[1]:.4g} nm"
            for n, s in ((shape, size_nm), (target_shape, target_nm))
        )
        raise ValueError(f"{field} and {other} are not the same field; check the pixel sizes of both")
    return steps


def _weigh(n: int, m: int, step: float, shift: float) -> tuple[Any, npt.NDArray[Any]]:
    """Weights (m, n) of a line's pixels in those of the grid, and how much of each of these is covered.

    A pixel of the grid is the mean over itself, or over one pixel of the frame where that is wider.
    """
    width = max(step, 1.0)
    middle = (np.arange(m) + 0.5 - shift) * step
    low, high = middle - width / 2, middle + width / 2
    if step < 1:  # interpolation ends at the outermost pixels' centres, what they show half a pixel later
        beyond = np.maximum(0, -low) - np.maximum(0, high - n)
        inside = (middle > 0) & (middle < n)
        low, high = np.where(inside, low + beyond, low), np.where(inside, high + beyond, high)
    first = np.floor(low).astype(int)
    index = first[:, None] + np.arange(int(np.ceil(width)) + 1)
    overlap = np.minimum(index + 1, high[:, None]) - np.maximum(index, low[:, None])
    weight = np.where((index >= 0) & (index < n), np.maximum(overlap, 0) / width, 0)
    row = np.broadcast_to(np.arange(m)[:, None], index.shape)
    use = weight > 0
    matrix = sparse.csr_matrix((weight[use].astype(np.float32), (row[use], index[use])), shape=(m, n))
    return matrix, weight.sum(1)
