"""A high-dose frame brought to the grid of low-dose frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_lowdose_tem.image import F64


def reduce_frame(frame: npt.NDArray[Any], factor: int, how: str = "area") -> F64:
    """Reduce a frame (rows, columns) `factor` times.

    Parameters
    ----------
    frame
        Counts; rows and columns multiples of `factor`.
    factor
        Pixels along a pixel of the result.
    how
        "area" averages all pixels; "paper" interpolates bilinearly at the new pixels' centres, as the authors
        do, and so uses 2 × 2 pixels at most.
    """
    rows, cols = (n // factor for n in frame.shape)
    if how == "area":
        return np.asarray(frame.reshape(rows, factor, cols, factor).mean((1, 3), dtype=np.float64))
    if how != "paper":
        raise ValueError(f"unknown reduction {how!r}; choose area or paper")
    scale, start = [float(factor)] * 2, (factor - 1) / 2
    return np.asarray(
        ndimage.affine_transform(
            frame, scale, start, (rows, cols), np.float64, order=1, mode="nearest", prefilter=False
        )
    )
