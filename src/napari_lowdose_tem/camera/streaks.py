"""Noise correlated along the read-out lines of a camera, measured on a raw frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, ndimage

from napari_lowdose_tem.image import F64

_LAGS_PX = 64
_BACKGROUND_PX = 40  # what is smoother than this is specimen
_LEAST = 4.0  # errors of the correlation
_OUTLIER = 6.0


@dataclass(frozen=True, eq=False)
class Streaks:
    """Correlation of the noise of two pixels of a read-out line, by their distance (lags,), 1 at 0."""

    correlation: F64
    along_columns: bool

    @property
    def is_white(self) -> bool:
        """Whether there are none."""
        return len(self.correlation) == 1

    def invert(self, n_px: int) -> F64:
        """Inverse of the correlation matrix of `n_px` neighbours in a line."""
        correlation = np.zeros(n_px)
        known = min(n_px, len(self.correlation))
        correlation[:known] = self.correlation[:known]
        correlation[known:] = self.correlation[-1] if not self.is_white else 0.0
        return np.asarray(linalg.inv(linalg.toeplitz(correlation)))


WHITE = Streaks(np.ones(1), False)


def measure_streaks(counts: npt.NDArray[Any]) -> Streaks:
    """Measure the correlation along read-out lines: what there is along rows more than along columns.

    A specimen is correlated in both directions alike, on average; the excess is fitted by an exponential and
    a constant, the offset of whole lines.

    Parameters
    ----------
    counts
        Raw frame (rows, columns) [counts].

    Returns
    -------
    `WHITE` for frames without streaks, or too small to tell.
    """
    pixels = np.asarray(counts, np.float64)
    if pixels.ndim != 2 or min(pixels.shape) < 2 * _LAGS_PX:
        return WHITE
    level = np.nanmedian(pixels)
    noise = np.nan_to_num(pixels, nan=level, posinf=level, neginf=level)
    noise = noise - ndimage.gaussian_filter(noise, _BACKGROUND_PX)
    limit = _OUTLIER * noise.std()
    noise = np.clip(noise, -limit, limit)
    variance = float(np.mean(noise**2))
    if not variance > 0:
        return WHITE
    lags = np.unique(np.r_[np.arange(2, 9), np.geomspace(9, _LAGS_PX, 8).astype(int)])
    rows = np.array([np.mean(noise[:, lag:] * noise[:, :-lag]) for lag in lags]) / variance
    cols = np.array([np.mean(noise[lag:] * noise[:-lag]) for lag in lags]) / variance
    excess = rows - cols
    chance = np.sqrt(2 / pixels.size)
    along_columns = bool(excess[:7].mean() < 0)
    excess = -excess if along_columns else excess
    if excess[:7].mean() < _LEAST * chance:
        return WHITE
    best = min((_fit(lags, excess, length) for length in np.geomspace(3, 64, 24)), key=lambda fit: fit[0])
    _, amplitude, plateau, length = best
    correlation = amplitude * np.exp(-np.arange(_LAGS_PX) / length) + plateau
    correlation[0] = 1.0
    return Streaks(np.minimum(correlation, 1.0), along_columns)


def _fit(lags: npt.NDArray[np.int_], excess: F64, length: float) -> tuple[float, float, float, float]:
    from scipy.optimize import nnls

    design = np.stack([np.exp(-lags / length), np.ones(len(lags))], axis=1)
    (amplitude, plateau), misfit = nnls(design, excess)
    return float(misfit), float(amplitude), float(plateau), float(length)
