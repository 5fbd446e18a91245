"""How far frames of one field lie off each other, and whether they are of one field at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from napari_lowdose_tem.image import F64

Complex = npt.NDArray[np.complexfloating[Any, Any]]

# No study chose these numbers; tests/pairs/test_register.py bounds the errors and checks what is refused.
_REACH_PX = 8  # searched for the shift, of frames about `_SIDE_PX` wide
_SIDE_PX = 512  # larger frames are registered at about this size
_FINEST_PX, _WIDEST_PX = 1.0, 20.0  # structure between which is matched
_NOISE = (0.15, 0.35)  # where noise is measured [cycles/px]
_OUTLIER = 6.0  # standard deviations beyond which pixels are held down: X-rays
_LARGEST_ERROR_PX = 1.0  # standard error accepted
_LEAST_CONFIDENCE = 0.1  # below which the shift is not believed
_SURE = 0.5  # confidence, and share of the contrast expected, to believe in a large shift
_ENOUGH_CONTRAST = 10.0  # standard deviations of the noise from which a frame must be recognised
_UNRELATED = (
    "shows nothing of the high-dose frame, although its contrast is enough to be seen at this dose; "
    "is it of another field?"
)


@dataclass(frozen=True)
class Registration:
    """Where an image lies on a reference.

    Parameters
    ----------
    shift_px
        How far it lies off (rows, columns) [px]; zeros where that cannot be told.
    confidence
        How far the match stands above chance: 1 − (n/p)², with p the height of the correlation's peak and n
        that of the highest point which that peak does not explain. Near 1 for frames of one field with
        enough contrast, 0 for empty or unrelated ones.
    refused
        Why they are not frames of one field; empty if nothing speaks against it.
    """

    shift_px: tuple[float, float] = (0.0, 0.0)
    confidence: float = 0.0
    refused: str = ""


def find_shift(reference: npt.NDArray[Any], image: npt.NDArray[Any]) -> tuple[float, float]:
    """Find how far `image` lies off `reference` (rows, columns) [px]; as `register_frame`."""
    return register_frame(reference, image).shift_px


def register_frame(reference: npt.NDArray[Any], image: npt.NDArray[Any]) -> Registration:
    """Find how far `image` lies off `reference`: the shift of least squares between their structure.

    Both are smoothed: what is finer than 1 px or wider than 20 px is left out (the reference's own noise
    would be taken for sharp edges). Every spatial frequency counts by the inverse of the image's noise there,
    which also takes away streaks and offsets of read-out lines.

    Parameters
    ----------
    reference
        Nearly noise-free frame (rows, columns).
    image
        Noisy frame of the same shape.

    Returns
    -------
    Registration
        Its shift is within 8 px (of frames 512 px wide; in proportion for larger ones) and known to 1 px
        (predicted standard error, in the direction where it is known worst), or zero. Frames are refused
        where the reference has enough contrast to be recognised at this noise, but is not, or only elsewhere.
    """
    coarser = max(1, round(min(reference.shape) / _SIDE_PX))
    if min(reference.shape) < 8 * _REACH_PX * coarser:
        return Registration()
    known, noisy = (fill_gaps(coarsen(frame, coarser)) for frame in (reference, image))
    match = _Match(known, noisy)
    if not match.possible:
        return Registration()
    near = match.fit(match.highest(_REACH_PX))
    if near.confidence < _LEAST_CONFIDENCE:
        expected = noisy.mean() / known.mean() if known.mean() > 0 else 0.0
        if expected * match.strength < _ENOUGH_CONTRAST:
            return Registration()
        far = match.fit(match.highest(min(known.shape) // 4))
        refused = _UNRELATED
        if far.confidence >= _SURE and far.contrast >= _SURE * expected:
            row, col = (s * coarser for s in far.shift_px)
            refused = _too_far(row, col, _REACH_PX * coarser)
        return Registration(confidence=near.confidence, refused=refused)
    if near.error_px > _LARGEST_ERROR_PX:
        return Registration()
    row, col = (s * coarser for s in near.shift_px)
    return Registration((row, col), near.confidence)


@dataclass(frozen=True)
class _Fit:
    """A shift, its standard error in the direction where it is known worst, and its confidence."""

    contrast: float
    shift_px: tuple[float, float]
    error_px: float
    confidence: float


class _Match:
    """Least squares between a frame and a noisy one, weighted by the noise, in the frequency domain.

    Products are scaled so that the noise's product with x has the variance of x's product with itself: the
    height of a peak over the root of the reference's product with itself is in standard deviations.
    """

    def __init__(self, known: F64, noisy: F64) -> None:
        self._shape = rows, cols = known.shape
        known, noisy = (frame - ndimage.gaussian_filter(frame, _WIDEST_PX) for frame in (known, noisy))
        limit = _OUTLIER * float(np.std(noisy))  # X-rays
        # the outermost pixels have no counterpart, and the border must not be seen as an edge
        self._window = np.outer(taper(rows), taper(cols))
        self._known = fft.rfft2(known)
        self._noisy = fft.rfft2(noisy.clip(-limit, limit) * self._window)
        # in radians per px
        self._row, self._col = 2 * np.pi * fft.fftfreq(rows)[:, None], 2 * np.pi * fft.rfftfreq(cols)[None]
        power = measure_noise_power(self._noisy, rows, cols)
        self.possible = bool(np.any(known)) and bool(power.min() > 0)
        smooth = np.exp(-(_FINEST_PX**2) * (self._row**2 + self._col**2))
        self._weight = smooth / power if self.possible else power
        # rfft keeps one of two equal halves
        self._twice = np.where((self._col == 0) | (self._col == np.pi), 1.0, 2.0)
        self._at_rest = self._windowed(self._known)
        self.strength = math.sqrt(self._product(self._at_rest, self._at_rest))

    def highest(self, reach: int) -> tuple[int, int]:
        """Give the shift (rows, columns) where the two match best, among those of up to `reach` [px]."""
        surface = self._surface(self._noisy)
        lags = [fft.fftfreq(n, 1 / n).round().astype(int) for n in self._shape]
        rows, cols = (np.flatnonzero(np.abs(lag) <= reach) for lag in lags)
        row, col = np.unravel_index(np.argmax(surface[np.ix_(rows, cols)]), (len(rows), len(cols)))
        return int(lags[0][rows[row]]), int(lags[1][cols[col]])

    def fit(self, start: tuple[int, int]) -> _Fit:
        """Fit contrast and shift by Gauss–Newton from a shift that is off by a pixel at most."""
        shift = np.array(start, float)
        for _ in range(3):
            moved = self._known * np.exp(-1j * (self._row * shift[0] + self._col * shift[1]))
            basis = [self._windowed(x) for x in (moved, -1j * self._row * moved, -1j * self._col * moved)]
            normal = np.array([[self._product(x, y) for y in basis] for x in basis])
            contrast, *steps = np.linalg.lstsq(normal, [self._product(self._noisy, x) for x in basis])[0]
            if not contrast > 0:
                return _Fit(0.0, (0.0, 0.0), math.inf, 0.0)
            step = np.array(steps) / contrast
            if np.abs(shift + step - start).max() > 2:  # no top there
                return _Fit(0.0, (0.0, 0.0), math.inf, 0.0)
            shift += step
        left = self._surface(self._noisy - contrast * basis[0])
        chance = float(np.abs(left).max()) * left.size / (contrast * normal[0, 0])
        slopes = normal[1:, 1:] - np.outer(normal[0, 1:], normal[0, 1:]) / normal[0, 0]
        least = float(np.linalg.eigvalsh(slopes)[0])
        error = 1 / (contrast * math.sqrt(least)) if least > 0 else math.inf
        return _Fit(
            float(contrast), (float(shift[0]), float(shift[1])), error, max(0.0, 1 - float(chance) ** 2)
        )

    def _windowed(self, spectrum: Complex) -> Complex:
        return np.asarray(fft.rfft2(fft.irfft2(spectrum, self._shape) * self._window))

    def _surface(self, spectrum: Complex) -> F64:
        return np.asarray(fft.irfft2(spectrum * self._known.conj() * self._weight, self._shape))

    def _product(self, x: Complex, y: Complex) -> float:
        return float(np.sum((x * y.conj()).real * self._weight * self._twice))


def measure_noise_power(spectrum: Complex, rows: int, cols: int) -> F64:
    """Power of the noise: white, and streaks along rows or columns, seen where objects have hardly any."""
    power = np.abs(spectrum) ** 2
    row, col = np.abs(fft.fftfreq(rows)), fft.rfftfreq(cols)
    high_row, high_col = (row > _NOISE[0]) & (row < _NOISE[1]), (col > _NOISE[0]) & (col < _NOISE[1])
    white = power[np.ix_(high_row, high_col)].mean()
    streaks = power[high_row].mean(0)[None] + power[:, high_col].mean(1)[:, None] - 2 * white
    return np.asarray(white + np.maximum(streaks, 0))


def taper(n: int) -> F64:
    """Give a window that is 0 for the reach of the search at both ends."""
    inside = np.minimum(np.arange(n), np.arange(n)[::-1]) - _REACH_PX + 1
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(inside / _REACH_PX, 0, 1)))


def coarsen(frame: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """Average over factor × factor pixels; what does not fill such a block is left out."""
    if factor == 1:
        return frame
    rows, cols = (n // factor for n in frame.shape)
    blocks = frame[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor)
    return np.asarray(blocks.mean((1, 3), dtype=np.float64))


def fill_gaps(frame: npt.NDArray[Any]) -> F64:
    """Give pixels that are not finite the mean of the others."""
    pixels = np.asarray(frame, np.float64)
    finite = np.isfinite(pixels)
    return np.where(finite, pixels, pixels[finite].mean() if finite.any() else 0.0)


def _too_far(row: float, col: float, reach: int) -> str:
    return (
        f"lies {abs(row):.0f} rows and {abs(col):.0f} columns off, more than the {reach} px searched; "
        "crop both to the same field"
    )
