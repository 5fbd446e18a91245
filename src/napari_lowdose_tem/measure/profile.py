"""A line on a frame and the intensities along it, in physical units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.outliers import find_hot
from napari_lowdose_tem.measure.thresholds import LEAST_PRESENT

SHORTEST_PX = 8.0
_REACH_PX = 12  # a cubic spline's coefficients forget what is farther away
_TOUCH = 1e-6
_PART = 12  # samples, enough to know how neighbours share pixels
_KERNEL_PX = 5


@dataclass(frozen=True)
class Line:
    """A straight line on a frame.

    Parameters
    ----------
    start, stop
        (row, column) of its ends [px]; the first pixel's centre is (0, 0).
    width_px
        Width over which the intensity is averaged across the line [px]; with pixels that are not square, of
        their geometric mean. Up to 1: the line itself.
    """

    start: tuple[float, float]
    stop: tuple[float, float]
    width_px: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no line."""
        for name in ("start", "stop"):
            row, col = getattr(self, name)
            object.__setattr__(self, name, (float(row), float(col)))
        if not all(map(math.isfinite, (*self.start, *self.stop))):
            raise ValueError(f"line from {self.start} to {self.stop} px: its ends must be numbers")
        if not (math.isfinite(self.width_px) and self.width_px > 0):
            raise ValueError(f"line width {self.width_px} px; give more than 0")

    @property
    def length_px(self) -> float:
        """Length [px]."""
        return math.dist(self.start, self.stop)

    def shifted(self, rows_px: float, cols_px: float) -> Line:
        """Return the line moved by (rows, columns) [px]."""
        moved = [(row + rows_px, col + cols_px) for row, col in (self.start, self.stop)]
        return Line(moved[0], moved[1], self.width_px)


@dataclass(frozen=True, eq=False)
class Profile:
    """Intensity along a line.

    `position` (n,) [unit] runs from the line's start, `intensity` (n,) is the mean over the width, NaN where
    the frame has no pixel. `unit` is "nm", or "px" for a frame without calibration; `pixel_size` (row,
    column) [unit/px], `width` [unit]; `shape` of the frame (rows, columns) [px]. `hot` pixels were left out.
    """

    position: F64
    intensity: F64
    unit: str
    width: float
    line: Line
    pixel_size: tuple[float, float]
    shape: tuple[int, int]
    hot: int = 0

    @property
    def step(self) -> float:
        """Distance of two samples [unit]."""
        return float(self.position[1] - self.position[0])

    @property
    def length(self) -> float:
        """Length of the line [unit]."""
        return float(self.position[-1])

    @property
    def pixel(self) -> float:
        """Geometric mean of the pixel's sides [unit]."""
        return math.sqrt(math.prod(self.pixel_size))

    @property
    def across_excess(self) -> float:
        """Variance of a pixel's extent across the line less that along it [unit²]."""
        row, col = self.pixel_size
        (row_0, col_0), (row_1, col_1) = self.line.start, self.line.stop
        drow, dcol = (row_1 - row_0) * row / self.length, (col_1 - col_0) * col / self.length
        return (row**2 - col**2) * (dcol**2 - drow**2) / 12

    def locate(self, position: float) -> tuple[float, float]:
        """(row, column) [px] of a position along the line [unit]."""
        share = position / self.length
        (row, col), (row_1, col_1) = self.line.start, self.line.stop
        return row + share * (row_1 - row), col + share * (col_1 - col)


def sample_line(
    pixels: npt.NDArray[Any], line: Line, pixel_size_nm: tuple[float, float] | None = None
) -> Profile:
    """Sample a frame along a line, one sample about every pixel, by cubic splines.

    Distances, and the perpendicular along which the width is averaged, are physical: pixels need not be
    square.

    Parameters
    ----------
    pixels
        Frame (rows, columns), any real type.
    line
        Where; its ends must lie on the frame.
    pixel_size_nm
        (row, column) sampling [nm/px]; None gives lengths in px.

    Raises
    ------
    ValueError
        For anything but a frame, a line that leaves it, is wider than it or shorter than 8 px, and pixel
        sizes that are not positive.
    """
    if pixels.ndim != 2:
        raise ValueError(f"a line is measured on one frame (rows, columns), got shape {pixels.shape}")
    if np.iscomplexobj(pixels):
        raise ValueError("a line is measured on real numbers; take the modulus of complex pixels")
    if pixels.dtype == bool:
        raise ValueError("a mask has no profile to measure; choose the image it was made from")
    for row, col in (line.start, line.stop):
        if not (-0.5 <= row <= pixels.shape[0] - 0.5 and -0.5 <= col <= pixels.shape[1] - 0.5):
            raise ValueError(
                f"the line's end at row {row:.1f}, column {col:.1f} lies outside the frame of "
                f"{pixels.shape[0]} × {pixels.shape[1]} px; move it inside"
            )
    if line.length_px < SHORTEST_PX:
        raise ValueError(f"the line is {line.length_px:.1f} px long; draw at least {SHORTEST_PX:.0f} px")
    if line.width_px > math.hypot(*pixels.shape):
        raise ValueError(
            f"the line is {line.width_px:g} px wide, the frame {pixels.shape[0]} × {pixels.shape[1]} px; "
            "narrow the line"
        )
    size = np.asarray(pixel_size_nm or (1.0, 1.0), np.float64)
    if not (np.isfinite(size).all() and (size > 0).all()):
        raise ValueError(f"pixel size {pixel_size_nm} nm/px; give more than 0, or None where it is unknown")
    start, stop = np.asarray(line.start), np.asarray(line.stop)
    length = float(np.linalg.norm((stop - start) * size))
    n_along = max(2, math.floor(line.length_px + _TOUCH) + 1)
    position = np.linspace(0, length, n_along)
    along = (stop - start) * size / length
    across = np.array([-along[1], along[0]])
    width = line.width_px * math.sqrt(math.prod(size))
    n_across = max(1, round(line.width_px))
    offset = ((np.arange(n_across) + 0.5) / n_across - 0.5) * (width if n_across > 1 else 0.0)
    places = start[:, None, None] + (
        (along[:, None, None] * position[:, None] + across[:, None, None] * offset) / size[:, None, None]
    )
    intensity, hot = _interpolate(pixels, places)
    # the mean of what is there: a line may run beside a dead pixel, or with its width along the rim
    present = np.isfinite(intensity)
    total = np.where(present, intensity, 0).sum(1)
    mean = np.where(present.sum(1) > LEAST_PRESENT * n_across, total / np.maximum(present.sum(1), 1), np.nan)
    unit = "px" if pixel_size_nm is None else "nm"
    return Profile(
        position,
        mean,
        unit,
        width if n_across > 1 else 0.0,
        line,
        (float(size[0]), float(size[1])),
        (pixels.shape[0], pixels.shape[1]),
        hot,
    )


def measure_inflation(profile: Profile) -> float:
    """Factor by which sampling between pixels inflates the variance of means over the samples.

    Samples of a line that runs askew share pixels; white noise of the pixels is then correlated along the
    line. The factor is 1 + 2 Σ ρ over the lags, from the spline's own weights on a middle part of the line.
    """
    n = min(len(profile.position), _PART)
    first = (len(profile.position) - n) // 2
    size = np.asarray(profile.pixel_size)
    points = np.array([profile.locate(float(x)) for x in profile.position[first : first + n]])
    along = (points[1] - points[0]) * size / profile.step
    across = np.array([-along[1], along[0]]) / size
    n_across = max(1, round(profile.width / profile.pixel))
    offset = ((np.arange(n_across) + 0.5) / n_across - 0.5) * profile.width
    places = points[:, None] + offset[:, None] * across
    low = np.floor(places.min((0, 1))) - _KERNEL_PX
    rows, cols = (
        _kernel(
            places[..., axis, None]
            - low[axis]
            - np.arange(math.ceil(np.ptp(places[..., axis])) + 2 * _KERNEL_PX)
        )
        for axis in (0, 1)
    )
    weights = np.einsum("nmr,nmc->nrc", rows, cols).reshape(n, -1)
    shared = weights @ weights.T
    variance = np.trace(shared) / n
    lags = [np.trace(shared, lag) / (n - lag) / variance for lag in range(1, min(4, n - 1))]
    return float(max(1.0, 1 + 2 * sum(lags)))


def _kernel(distance: F64) -> F64:
    """Cardinal cubic spline at distances [px]."""
    x, values = _tabulate_kernel()
    return np.interp(np.abs(distance), x, values, right=0.0)


@lru_cache
def _tabulate_kernel() -> tuple[F64, F64]:
    impulse = np.zeros(4 * _KERNEL_PX + 1)
    impulse[2 * _KERNEL_PX] = 1
    x = np.linspace(0, _KERNEL_PX, 64 * _KERNEL_PX + 1)
    return x, ndimage.map_coordinates(impulse, [x + 2 * _KERNEL_PX], order=3, mode="nearest")


def _interpolate(pixels: npt.NDArray[Any], places: F64) -> tuple[F64, int]:
    """Cubic-spline values at (2, …) rows and columns [px], and how many hot pixels were left out.

    NaN where pixels are missing, hot or not finite.
    """
    low = np.maximum(np.floor(places.min((1, 2))).astype(int) - _REACH_PX, 0)
    high = np.minimum(np.ceil(places.max((1, 2))).astype(int) + _REACH_PX + 1, pixels.shape)
    window = np.asarray(pixels[low[0] : high[0], low[1] : high[1]], np.float64)
    inner = places - low[:, None, None]
    hot = find_hot(window, _mark_near(inner, window.shape))
    missing = ~np.isfinite(window) | hot
    if missing.any():
        window = np.where(missing, np.nanmedian(window) if not missing.all() else 0.0, window)
    # the frame ends half a pixel beyond the outermost centres
    values = ndimage.map_coordinates(window, inner, order=3, mode="nearest")
    rows, cols = pixels.shape
    outside = (places[0] < -0.5) | (places[0] > rows - 0.5) | (places[1] < -0.5) | (places[1] > cols - 0.5)
    if missing.any():
        outside |= ndimage.map_coordinates(missing.astype(np.float64), inner, order=1, mode="nearest") > 0.01
    return np.where(outside, np.nan, values), int(hot.sum())


def _mark_near(places: F64, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Pixels of a frame that a spline's values at `places` [px] rest on most."""
    near = np.zeros(shape, bool)
    rows, cols = np.floor(places).astype(int)
    for row_step in range(-1, 3):
        for col_step in range(-1, 3):
            near[np.clip(rows + row_step, 0, shape[0] - 1), np.clip(cols + col_step, 0, shape[1] - 1)] = True
    return near
