"""A recursive average over time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F32


class RecursiveAverage:
    """Mean of all frames so far; a frame recorded t seconds ago has the weight exp(-t / time constant).

    The sum of the weights is kept beside the weighted sum, so that the first frames are weighted correctly
    and intervals may vary. Pixels that are not finite are left out.

    Parameters
    ----------
    time_constant_s
        0 returns the frames unchanged [s].
    """

    def __init__(self, time_constant_s: float) -> None:
        if not (math.isfinite(time_constant_s) and time_constant_s >= 0):
            raise ValueError(f"average over {time_constant_s:g} s; give 0 (none) or a time in seconds")
        self._time_constant_s = time_constant_s
        self._sum: F32 | None = None
        self._weight: F32 | float = 0.0
        self._last_s = 0.0

    def add(self, frame: npt.NDArray[Any], recorded_s: float) -> npt.NDArray[Any]:
        """Add a frame and return the average; a frame of another shape starts a new average."""
        if self._time_constant_s == 0:
            return frame
        new = np.asarray(frame, np.float32)
        if self._sum is None or self._sum.shape != new.shape:
            self._sum, self._weight, self._last_s = np.zeros_like(new), 0.0, recorded_s
        kept = math.exp(-max(0.0, recorded_s - self._last_s) / self._time_constant_s)
        self._last_s = recorded_s
        is_finite = np.isfinite(new)
        if is_finite.all() and isinstance(self._weight, float):
            self._sum = kept * self._sum + new
            self._weight = kept * self._weight + 1.0
            return self._sum / np.float32(self._weight)
        self._sum = kept * self._sum + np.where(is_finite, new, np.float32(0))
        self._weight = np.asarray(kept * self._weight + is_finite, np.float32)
        with np.errstate(invalid="ignore"):
            return np.asarray(self._sum / self._weight)
