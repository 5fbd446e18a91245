"""Noise of the raw frame an enhanced one was made from."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image

_BLOCK_PX = 4


def read_raw_noise(image: Image) -> float | None:
    """Return what an enhanced image's provenance says of `measure_raw_noise`; None where it says nothing."""
    made = image.provenance.get("enhanced")
    known = made.get("raw_noise") if isinstance(made, Mapping) else None
    if isinstance(known, int | float) and math.isfinite(known) and known > 0:
        return float(known)
    return None


def measure_raw_noise(frame: npt.NDArray[np.generic]) -> float:
    """Noise of a pixel of a raw frame relative to its mean level (r.m.s.), as it counts over some pixels.

    From differences of neighbouring blocks of 4 px, times 4: the noise of single pixels would leave out what
    the camera spreads over neighbours and along read-out lines.

    Parameters
    ----------
    frame
        (rows, columns) [counts], without offset.

    Raises
    ------
    ValueError
        For frames too small or without signal.
    """
    pixels = np.asarray(frame, np.float64)
    if pixels.ndim != 2 or min(pixels.shape) < 3 * _BLOCK_PX:
        raise ValueError(
            f"noise is measured on a frame of at least {3 * _BLOCK_PX} px a side, got {pixels.shape}"
        )
    rows, cols = (n // _BLOCK_PX for n in pixels.shape)
    blocks = (
        pixels[: rows * _BLOCK_PX, : cols * _BLOCK_PX].reshape(rows, _BLOCK_PX, cols, _BLOCK_PX).mean((1, 3))
    )
    level = float(np.nanmedian(blocks)) if np.isfinite(blocks).any() else 0.0
    # to both sides at once: neither slopes nor a background that bends in one direction count
    bends = blocks[:-1, :-1] - blocks[1:, :-1] - blocks[:-1, 1:] + blocks[1:, 1:]
    bends = bends[np.isfinite(bends)]
    if not (level > 0 and bends.size):
        raise ValueError("no signal in the raw frame")
    return float(np.median(np.abs(bends)) / 0.6745 / 2 * _BLOCK_PX / level)
