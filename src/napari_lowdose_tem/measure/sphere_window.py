"""A sphere on the pixels around a line: its model, the judgement of a fit, and what is reported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_lowdose_tem.camera.streaks import WHITE, Streaks
from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.outliers import find_hot
from napari_lowdose_tem.measure.profile import Profile
from napari_lowdose_tem.measure.sphere import model_disc
from napari_lowdose_tem.measure.thresholds import (
    INFLATION_BLOCK_PX,
    LARGEST_ERROR,
    LEAST_SIGNIFICANCE,
    NEIGHBOUR_DEPTH,
    NEIGHBOUR_MARGIN_PX,
    NEIGHBOUR_SIGMAS,
    SMALLEST_RADIUS_PX,
    WINDOW_MARGIN_PX,
    WINDOW_REACH,
)


class SphereParameters(NamedTuple):
    """A sphere on a background: centre, radius and blur [unit], K = -ln T_min, level, its slopes [1/unit]."""

    row: float
    col: float
    radius: float
    contrast: float
    sigma: float
    level: float = 0.0
    row_slope: float = 0.0
    col_slope: float = 0.0


@dataclass(frozen=True)
class SphereFit:
    """A sphere on a frame, or the reason why there is none.

    Parameters
    ----------
    unit
        "nm", or "px" for a frame without calibration.
    row_px, col_px
        Centre [px].
    off_line
        Distance of the centre from the line [unit]; positive to the right of its direction.
    diameter, diameter_se, diameter_ci95
        [unit].
    t_min, sigma
        Transmission at the centre; Gaussian blur [unit].
    bound
        Cramér–Rao bound of the diameter for the electrons of the background, each counted once [unit]; None
        where their number is not known.
    significance
        Of the dip, over its error.
    refused
        Empty, or why there is no number.
    notes
        What to know about the numbers.
    """

    unit: str
    row_px: float = math.nan
    col_px: float = math.nan
    off_line: float = math.nan
    diameter: float = math.nan
    diameter_se: float = math.nan
    diameter_ci95: tuple[float, float] = (math.nan, math.nan)
    t_min: float = math.nan
    sigma: float = math.nan
    bound: float | None = None
    significance: float = 0.0
    refused: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; keys of lengths end in the unit."""
        u = self.unit
        known = not self.refused
        return {
            "unit": u,
            "row_px": self.row_px if known else None,
            "col_px": self.col_px if known else None,
            f"off_line_{u}": self.off_line if known else None,
            f"diameter_{u}": self.diameter if known else None,
            f"diameter_se_{u}": self.diameter_se if known else None,
            f"diameter_ci95_{u}": list(self.diameter_ci95) if known else None,
            f"diameter_bound_{u}": self.bound,
            f"edge_sigma_{u}": self.sigma if known else None,
            "t_min": self.t_min if known else None,
            "significance": self.significance,
            "refused": self.refused or None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class Window:
    """Pixels around a particle with their places [unit]; `kept` are those that count."""

    pixels: F64
    rows: F64
    cols: F64
    kept: npt.NDArray[np.bool_]
    pixel: float
    scale: float
    read: float = 0.0  # variance of a pixel beyond its mean

    @classmethod
    def around(
        cls, frame: npt.NDArray[Any], profile: Profile, values: SphereParameters, scale: float = 1.0
    ) -> Window:
        """Cut the window around the sphere of `values` out of a frame, its pixels over `scale`."""
        row_size, col_size = profile.pixel_size
        reach = WINDOW_REACH * values.radius + WINDOW_MARGIN_PX * profile.pixel
        low = [
            max(0, math.floor((v - reach) / s)) for v, s in zip(values[:2], profile.pixel_size, strict=True)
        ]
        high = [
            min(n, math.ceil((v + reach) / s) + 1)
            for v, s, n in zip(values[:2], profile.pixel_size, frame.shape, strict=True)
        ]
        part = np.asarray(frame[low[0] : high[0], low[1] : high[1]], np.float64) / scale
        rows = (np.arange(low[0], high[0]) * row_size)[:, None]
        cols = (np.arange(low[1], high[1]) * col_size)[None]
        near = np.hypot(rows - values.row, cols - values.col) <= reach
        kept = near & np.isfinite(part) & ~find_hot(part)
        return cls(np.nan_to_num(part), rows, cols, kept, profile.pixel, scale)

    def moved(self, frame: npt.NDArray[Any], profile: Profile, values: SphereParameters) -> Window:
        """Cut the window anew, around other values."""
        return Window.around(frame, profile, values, self.scale)

    def model(self, values: SphereParameters) -> F64:
        """Return the frame of a sphere."""
        return self.background(values) * self.transmission(values)

    def background(self, values: SphereParameters) -> F64:
        """Return the frame without the sphere."""
        return np.asarray(
            values.level
            * (1 + values.row_slope * (self.rows - values.row) + values.col_slope * (self.cols - values.col))
        )

    def transmission(self, values: SphereParameters) -> F64:
        """Return the sphere's transmission."""
        distance = np.hypot(self.rows - values.row, self.cols - values.col)
        disc = model_disc(distance.ravel(), values.radius, values.contrast, values.sigma, self.pixel)
        return np.asarray(disc.reshape(distance.shape))

    def dip(self, values: SphereParameters) -> F64:
        """Return what the sphere takes away."""
        return self.background(values) * (1 - self.transmission(values))

    def steps(self, values: SphereParameters) -> F64:
        """Return steps to take derivatives by."""
        tilt = 1e-3 / (WINDOW_REACH * values.radius)
        return np.array(
            [0.02 * self.pixel, 0.02 * self.pixel, 5e-3 * values.radius,
             1e-2 * values.contrast, 1e-2 * values.sigma,
             1e-3 * values.level, tilt, tilt]
        )  # fmt: skip

    def slope(self, values: SphereParameters) -> F64:
        """Return the derivatives of the model by its values, (8, pixels)."""
        moves = np.diag(self.steps(values))
        at = np.array(values)
        return np.stack(
            [
                (self.model(SphereParameters(*(at + m))) - self.model(SphereParameters(*(at - m)))).ravel()
                / (2 * m.max())
                for m in moves
            ]
        )

    def find_neighbours(self, values: SphereParameters) -> npt.NDArray[np.bool_]:
        """Pixels beyond the particle that are too dark for background."""
        misfit = np.where(self.kept, self.pixels - self.model(values), 0.0)
        smooth = ndimage.uniform_filter(misfit, 3)
        scatter = float(np.median(np.abs(smooth[self.kept]))) / 0.6745
        beyond = np.hypot(self.rows - values.row, self.cols - values.col) > values.radius + values.sigma
        dark = beyond & (smooth < -NEIGHBOUR_SIGMAS * scatter) & (smooth < -NEIGHBOUR_DEPTH * values.level)
        return (
            np.asarray(ndimage.binary_dilation(dark, iterations=NEIGHBOUR_MARGIN_PX) & beyond)
            if dark.any()
            else dark
        )

    def weigh(self, values: SphereParameters) -> F64:
        """Return one over the standard deviation, 0 where a pixel does not count."""
        variance = np.maximum(self.model(values), 1e-3 * abs(values.level)) + self.read
        return np.where(self.kept, 1 / np.sqrt(variance), 0.0)

    def inflation(self, values: SphereParameters, streaks: Streaks = WHITE) -> float:
        """Noise of block means times their side over that of white pixels or of given streaks, at least 1."""
        misfit = np.where(self.kept, (self.pixels - self.model(values)) * self.weigh(values), np.nan)
        means = _average_blocks(misfit)
        single = float(np.nanstd(misfit[self.kept]))
        if not means.size or single == 0:
            return 1.0
        shared = 0.0
        if not streaks.is_white:
            lag = np.abs(np.subtract.outer(np.arange(INFLATION_BLOCK_PX), np.arange(INFLATION_BLOCK_PX)))
            shared = float(streaks.correlation[lag].sum()) / INFLATION_BLOCK_PX - 1
        expected = single * math.sqrt(1 + shared) / INFLATION_BLOCK_PX
        return max(1.0, float(np.sqrt(np.mean(means**2))) / expected)

    def structure(self, values: SphereParameters) -> float:
        """Return what the sphere leaves of the pixels, their noise averaged away (r.m.s. of block means)."""
        means = _average_blocks(np.where(self.kept, self.pixels - self.model(values), np.nan))
        return float(np.sqrt(np.mean(means**2))) if means.size else 0.0


def _average_blocks(pixels: F64) -> F64:
    """Means of blocks, those that are complete (n,)."""
    rows, cols = (n // INFLATION_BLOCK_PX for n in pixels.shape)
    if min(rows, cols) < 3:
        return np.empty(0)
    blocks = pixels[: rows * INFLATION_BLOCK_PX, : cols * INFLATION_BLOCK_PX].reshape(
        rows, INFLATION_BLOCK_PX, cols, INFLATION_BLOCK_PX
    )
    means = blocks.mean((1, 3))
    return np.asarray(means[np.isfinite(means)])


def invert(information: F64) -> F64:
    """Invert a symmetric matrix whose parameters have different units."""
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    normal = information / np.outer(scale, scale)
    return np.asarray(np.linalg.pinv(normal, rcond=1e-10) / np.outer(scale, scale))


def conclude(
    profile: Profile,
    values: SphereParameters,
    diameter_se: float,
    significance: float,
    bound: float | None,
    least_significance: float = LEAST_SIGNIFICANCE,
) -> SphereFit:
    """Judge the values of a fit and report them."""
    row, col = values.row / profile.pixel_size[0], values.col / profile.pixel_size[1]
    diameter, se = 2 * float(values.radius), diameter_se
    unit = profile.unit

    def refuse(reason: str) -> SphereFit:
        return SphereFit(unit, bound=bound, significance=significance, refused=reason)

    if significance < least_significance:
        return refuse(
            f"too noisy: the dip is {significance:.1f} σ, {least_significance:g} σ needed; average frames"
        )
    reach = [values.radius / size for size in profile.pixel_size]
    if any(
        at - half < -1.0 or at + half > n
        for at, half, n in zip((row, col), reach, profile.shape, strict=True)
    ):
        return refuse("the particle is cut off by the frame edge; choose one that lies inside")
    if diameter < 2 * SMALLEST_RADIUS_PX * profile.pixel:
        return refuse("the particle is smaller than 2 px; record it at higher magnification")
    if not (math.isfinite(se) and se <= LARGEST_ERROR * diameter):
        return refuse(f"too noisy: the diameter is {diameter:.1f} ± {se:.1f} {unit}; average frames")
    start = np.asarray(profile.line.start) * profile.pixel_size
    along = (np.asarray(profile.line.stop) * profile.pixel_size - start) / profile.length
    offset = np.array(values[:2]) - start
    beside = float(along[1] * offset[0] - along[0] * offset[1])
    if abs(beside) > values.radius or not -values.radius < offset @ along < profile.length + values.radius:
        return refuse(
            "the fit moved to a particle beside the line; draw the line through the particle's centre"
        )
    return SphereFit(
        unit,
        row_px=float(row),
        col_px=float(col),
        off_line=beside,
        diameter=diameter,
        diameter_se=se,
        diameter_ci95=(max(0.0, diameter - 1.96 * se), diameter + 1.96 * se),
        t_min=math.exp(-values.contrast),
        sigma=float(values.sigma),
        bound=bound,
        significance=significance,
    )
