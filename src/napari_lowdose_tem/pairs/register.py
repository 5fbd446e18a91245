"""How far frames of one field lie off each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]

_LARGEST_SHIFT_PX = 8
_LARGEST_ERROR_PX = 0.5


def find_shift(reference: npt.NDArray[Any], image: npt.NDArray[Any]) -> tuple[float, float]:
    """Find how far `image` lies off `reference`: the shift of least squares between their fine structure.

    Parameters
    ----------
    reference
        Nearly noise-free frame (rows, columns).
    image
        Noisy frame of the same shape.

    Returns
    -------
    rows, columns
        Shift [px]; zeros where none within 8 px is found to 0.5 px (predicted standard error).
    """
    reach, shape = _LARGEST_SHIFT_PX, reference.shape
    if min(shape) < 8 * reach:
        return 0.0, 0.0
    known, noisy = _fill(reference), _fill(image)
    a, b = _structure(known), _structure(noisy)
    b -= b.mean(1, keepdims=True)  # read-out rows carry offsets of their own
    inner = np.zeros(shape)
    inner[reach:-reach, reach:-reach] = 1

    def correlate(x: Floats, y: Floats) -> Floats:
        product = np.fft.irfft2(np.fft.rfft2(x) * np.fft.rfft2(y).conj(), s=shape)
        return np.asarray(np.roll(product, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1])

    overlap, energy = correlate(inner * b, a), correlate(inner, a * a)
    match = overlap / np.sqrt(np.maximum(energy, np.finfo(float).tiny))
    row, col = (int(i) for i in np.unravel_index(np.argmax(match), match.shape))
    if not (match[row, col] > 0 and 0 < row < 2 * reach and 0 < col < 2 * reach):
        return 0.0, 0.0
    contrast = overlap[row, col] / energy[row, col]
    noise = float(np.std(noisy - ndimage.gaussian_filter(noisy, 2.0)))
    for slope in (np.gradient(a, axis=0), np.gradient(a, axis=1)):
        if noise * np.linalg.norm(_structure(slope)) > _LARGEST_ERROR_PX * contrast * np.sum(slope**2):
            return 0.0, 0.0
    return (
        row - reach + _vertex(match[row - 1 : row + 2, col]),
        col - reach + _vertex(match[row, col - 1 : col + 2]),
    )


def _structure(frame: Floats) -> Floats:
    """Keep what is between 1 and 20 px wide."""
    return np.asarray(ndimage.gaussian_filter(frame, 1.0) - ndimage.gaussian_filter(frame, 20.0))


def _fill(frame: npt.NDArray[Any]) -> Floats:
    pixels = np.asarray(frame, np.float64)
    finite = np.isfinite(pixels)
    return np.where(finite, pixels, pixels[finite].mean() if finite.any() else 0.0)


def _vertex(values: npt.NDArray[Any]) -> float:
    """Offset of the top of the parabola through three values about a maximum."""
    before, top, after = (float(v) for v in values)
    bend = before - 2 * top + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
