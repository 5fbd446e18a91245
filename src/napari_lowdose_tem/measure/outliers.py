"""Hot pixels and X-ray hits: bright single pixels, which particles never are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.measure.thresholds import HOT_NOISES, HOT_SHARE


def find_hot(
    pixels: npt.NDArray[np.float64], where: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """Pixels (rows, columns) far brighter than the brightest of their eight neighbours.

    `where` marks those that are judged; without it all are.
    """
    rows, cols = np.nonzero(np.ones(pixels.shape, bool) if where is None else where)
    hot = np.zeros(pixels.shape, bool)
    if len(rows) == 0:
        return hot
    last_row, last_col = pixels.shape[0] - 1, pixels.shape[1] - 1
    brightest = np.full(len(rows), -np.inf)
    for row_step in (-1, 0, 1):
        for col_step in (-1, 0, 1):
            if row_step or col_step:
                beside = pixels[np.clip(rows + row_step, 0, last_row), np.clip(cols + col_step, 0, last_col)]
                np.fmax(brightest, beside, out=brightest)
    here = pixels[rows, cols]
    known = np.isfinite(here) & np.isfinite(brightest)
    if not known.any():
        return hot
    excess = np.where(known, here, 0) - np.where(known, brightest, 0)
    middle, high = np.percentile(excess[known], (50, 98))
    # a few electrons a pixel have no median deviation
    noise = max(1.4826 * float(np.median(np.abs(excess[known] - middle))), float(high - middle) / 2)
    least = max(HOT_NOISES * noise, HOT_SHARE * abs(float(np.median(here[known]))))
    hot[rows, cols] = known & (excess > least)
    return hot
