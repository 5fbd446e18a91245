"""The mean level of counts, which an X-ray hit must not shift."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_OUTLIER = 20.0  # an X-ray adds up to this many mean levels to the mean, not its tens of thousands of counts


def measure_level(counts: npt.NDArray[Any]) -> float:
    """Mean of finite counts, outliers held down; 0 for no pixels."""
    if counts.size == 0:
        return 0.0
    if is_short(counts):  # exact either way, and a frame's level is measured at camera speed
        mean = int(counts.sum(axis=-1, dtype=np.uint32).sum(dtype=np.uint64)) / counts.size
    else:
        mean = float(counts.mean(dtype=np.float64))
    if mean > 0 and float(counts.max()) > _OUTLIER * mean:
        mean = float(np.minimum(np.asarray(counts, np.float32), _OUTLIER * mean).mean(dtype=np.float64))
    return mean


def is_short(counts: npt.NDArray[Any]) -> bool:
    """Whether counts are of at most 16 bits without sign, a row's sum of at most 32."""
    return counts.dtype.kind == "u" and counts.dtype.itemsize <= 2 and counts.shape[-1] <= 2**16
