"""How a low-dose frame lies on a high-dose frame that is also turned and of slightly other magnification."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.pairs.register import Complex, coarsen, fill_gaps, measure_noise_power, taper

LARGEST_ROTATION_DEG = 6.0
LARGEST_SCALE = 1.06
"""Bounds of the search; magnifications down to its inverse."""

# No study chose these numbers; tests/pairs/test_similarity.py bounds the errors and checks what is refused.
_SIDE_PX, _SEARCH_SIDE_PX = 512, 128  # what frames are reduced to, at least, to be fitted and searched
_LEAST_PX = 64  # side from which frames are registered
_REACH = 1 / 8  # of the side, searched for the shift
_STEP_DEG, _STEP_SCALE = 1.0, 0.012  # of the search: about a pixel at the rim of 128 px
_STARTS = 3  # best places of the search that a fit starts from
_ROUNDS = 8  # of Gauss–Newton, at most
_FINEST_PX, _WIDEST_PX = 0.7, 20.0  # structure between which is matched, in frames of 512 px
_OUTLIER = 6.0  # standard deviations beyond which pixels are held down: X-rays
_LEAST_CONFIDENCE = 0.8  # stricter than `register`: four unknowns match noise more easily than two
_LARGEST_ERROR_PX, _LARGEST_ERROR_DEG, _LARGEST_ERROR_SCALE = 0.75, 0.4, 0.006  # standard errors accepted


@dataclass(frozen=True)
class Similarity:
    """How an image lies on a reference: magnified and turned about the middle of the frame, then shifted.

    Parameters
    ----------
    shift_px
        How far its middle lies off (rows, columns) [px].
    rotation_deg
        How far it is turned, positive counter-clockwise as seen on the screen, rows downwards [degree].
    scale
        How much larger it shows things than the reference.
    confidence
        As in `Registration`.
    refused
        Why shift, rotation and scale cannot be told; they are then 0, 0 and 1. Empty where they can.
    shift_se_px, rotation_se_deg, scale_se
        Standard errors predicted from the frame's noise, that of the shift in its worst direction.
    shape
        (rows, columns) of the frames [px].
    """

    shift_px: tuple[float, float] = (0.0, 0.0)
    rotation_deg: float = 0.0
    scale: float = 1.0
    confidence: float = 0.0
    refused: str = ""
    shift_se_px: float = math.inf
    rotation_se_deg: float = math.inf
    scale_se: float = math.inf
    shape: tuple[int, int] = (0, 0)

    def apply(self, reference: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Bring the reference onto the image.

        Parameters
        ----------
        reference
            (rows, columns), on its own grid or on one that is finer or coarser by a factor.

        Returns
        -------
        The same shape, NaN where the reference does not cover it.
        """
        pixels = np.asarray(reference, np.float32)
        finer = pixels.shape[0] / self.shape[0] if self.shape[0] else 1.0
        shift = (self.shift_px[0] * finer, self.shift_px[1] * finer)
        finite = np.isfinite(pixels)
        matrix, offset = _invert(pixels.shape, shift, math.radians(self.rotation_deg), self.scale)
        moved = ndimage.affine_transform(fill_gaps(pixels), matrix, offset, order=3, mode="mirror")
        known = ndimage.affine_transform(finite.astype(np.float32), matrix, offset, order=1, mode="constant")
        return np.where(known > 1 - 1e-3, moved, np.nan).astype(np.float32)


def register_similarity(
    reference: npt.NDArray[Any], frame: npt.NDArray[Any], *, rotation: bool = True, scale: bool = True
) -> Similarity:
    """Find how a noisy frame lies on a nearly noise-free one that may be turned, magnified and shifted.

    A search over rotations and magnifications of the coarsened frames gives the start of a least-squares fit
    at full size. As in `register_frame`, what is finer than 1 px or wider than 20 px is left out, and every
    spatial frequency counts by the inverse of the noise there.

    Parameters
    ----------
    reference
        Nearly noise-free frame (rows, columns).
    frame
        Noisy frame of the same shape.
    rotation, scale
        What is sought beside the shift: rotations of up to 6 degrees, magnifications of 0.94 to 1.06. The
        shift is sought up to an eighth of the shorter side.

    Raises
    ------
    ValueError
        For frames of different shapes.
    """
    if np.ndim(reference) != 2 or np.shape(reference) != np.shape(frame):
        raise ValueError(
            f"reference of shape {np.shape(reference)}, frame {np.shape(frame)}; bring both to one grid first"
        )
    rows, cols = np.shape(reference)
    if min(rows, cols) < _LEAST_PX:
        return Similarity(refused=f"is {min(rows, cols)} px wide; registration needs {_LEAST_PX} px")
    coarser = max(1, min(rows, cols) // _SIDE_PX)
    known, noisy = (fill_gaps(coarsen(f, coarser)) for f in (reference, frame))
    more = max(1, min(known.shape) // _SEARCH_SIDE_PX)
    coarse = _Fitter(coarsen(known, more), coarsen(noisy, more), more)
    if not coarse.possible:
        return Similarity(refused="has no contrast to be registered by")
    free = np.array([True, True, rotation, scale])
    best = max((coarse.fit(start, free) for start in coarse.search(rotation, scale)), key=lambda f: f.height)
    start = best.at * np.array([more, more, 1, 1])
    fitter = _Fitter(known, noisy, 1)
    fit = fitter.fit(start, free)
    row, col, angle, log_scale = fit.at
    errors = fit.errors
    found = Similarity(
        shift_px=(float(row) * coarser, float(col) * coarser),
        rotation_deg=math.degrees(angle),
        scale=math.exp(log_scale),
        confidence=fit.confidence,
        shift_se_px=float(max(errors[:2])) * coarser,
        rotation_se_deg=math.degrees(errors[2]),
        scale_se=float(errors[3]),
        shape=(rows, cols),
    )
    if refused := _refuse(found, coarser):
        return Similarity(confidence=found.confidence, refused=refused, shape=(rows, cols))
    return found


def _refuse(found: Similarity, coarser: int) -> str:
    if found.confidence < _LEAST_CONFIDENCE:
        return (
            "cannot be told from noise on the high-dose frame: either too little contrast at this dose, "
            "or another field; average frames, or check that both show the same"
        )
    limit = 1 + 1e-6
    if abs(found.rotation_deg) > LARGEST_ROTATION_DEG * limit:
        return f"is turned by more than the {LARGEST_ROTATION_DEG:g} degrees searched; turn it roughly first"
    if not 1 / LARGEST_SCALE / limit < found.scale < LARGEST_SCALE * limit:
        return f"differs in scale by more than the factor {LARGEST_SCALE:g} searched; check the pixel sizes"
    if (
        found.shift_se_px > _LARGEST_ERROR_PX * coarser
        or found.rotation_se_deg > _LARGEST_ERROR_DEG
        or found.scale_se > _LARGEST_ERROR_SCALE
    ):
        return (
            f"has too little contrast: it would be known to {found.shift_se_px:.1f} px, "
            f"{found.rotation_se_deg:.1f} degrees and {found.scale_se:.1%} of scale only; average frames"
        )
    return ""


@dataclass(frozen=True, eq=False)
class _Fit:
    """Shift, angle and logarithm of the scale (4,), their standard errors (4,), and how well they match.

    The height of the match is in standard deviations of the noise.
    """

    at: F64
    errors: F64
    confidence: float = 0.0
    height: float = 0.0


class _Fitter:
    """Weighted least squares between a transformed frame and a noisy one, scaled as in `register`."""

    def __init__(self, known: F64, noisy: F64, coarseness: int) -> None:
        self._shape = rows, cols = known.shape
        widest = max(_WIDEST_PX / coarseness, 4.0)
        known, noisy = (frame - ndimage.gaussian_filter(frame, widest) for frame in (known, noisy))
        limit = _OUTLIER * float(np.std(noisy))
        self._window = np.outer(taper(rows), taper(cols))
        self._noisy = fft.rfft2(noisy.clip(-limit, limit) * self._window)
        row, col = 2 * np.pi * fft.fftfreq(rows)[:, None], 2 * np.pi * fft.rfftfreq(cols)[None]
        power = measure_noise_power(self._noisy, rows, cols)
        self.possible = bool(np.any(known)) and bool(power.min() > 0)
        finest = _FINEST_PX / coarseness
        self._weight = np.exp(-(finest**2) * (row**2 + col**2)) / (power if self.possible else 1.0)
        self._twice = np.where((col == 0) | (col == np.pi), 1.0, 2.0)
        self._known = known * self._window
        self._spline = ndimage.spline_filter(self._known, 3, mode="mirror")
        self._row, self._col = (
            np.arange(rows)[:, None] - (rows - 1) / 2,
            np.arange(cols)[None] - (cols - 1) / 2,
        )

    def search(self, rotation: bool, scale: bool) -> list[F64]:
        """Give shifts, angles and logarithms of the scale where the two match best, apart from each other."""
        angles = _ladder(LARGEST_ROTATION_DEG if rotation else 0.0, _STEP_DEG)
        scales = _ladder(math.log(LARGEST_SCALE) if scale else 0.0, _STEP_SCALE)
        reach = max(2, round(_REACH * min(self._shape)))
        noisy = self._noisy * self._weight
        found: list[tuple[float, F64]] = []
        for angle in np.radians(angles):
            for log_scale in scales:
                moved = fft.rfft2(self._move(np.array([0, 0, angle, log_scale]), 1))
                norm = math.sqrt(self._product(moved, moved))
                surface = fft.irfft2(noisy * moved.conj(), self._shape)
                near = np.roll(surface, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
                height = float(near.max()) / norm if norm > 0 else -math.inf
                row, col = np.unravel_index(int(np.argmax(near)), near.shape)
                found.append((height, np.array([row - reach, col - reach, angle, log_scale], float)))
        apart = 1.5 * np.array([1.0, 1.0, math.radians(_STEP_DEG), _STEP_SCALE])
        starts: list[F64] = []
        for _, start in sorted(found, key=lambda entry: -entry[0]):
            if all(np.any(np.abs(start - other) > apart) for other in starts):
                starts.append(start)
            if len(starts) == _STARTS:
                break
        return starts

    def fit(self, start: F64, free: npt.NDArray[np.bool_]) -> _Fit:
        """Fit contrast, shift, angle and scale by Gauss–Newton; those that are not free stay."""
        at, used = start.copy(), np.flatnonzero(np.r_[True, free])
        for _ in range(_ROUNDS):
            moved = self._move(at, 3)
            basis = [fft.rfft2(x * self._window) for x in self._derive(moved, at)]
            basis = [basis[i] for i in used]
            normal = np.array([[self._product(x, y) for y in basis] for x in basis])
            contrast, *steps = np.linalg.lstsq(normal, [self._product(self._noisy, x) for x in basis])[0]
            if not contrast > 0:
                return _Fit(start, np.full(4, math.inf))
            step = np.zeros(4)
            step[free] = np.array(steps) / contrast
            largest = np.array([2.0, 2.0, math.radians(_STEP_DEG), _STEP_SCALE])
            step = np.clip(step, -largest, largest)
            at = at + step
            if np.all(np.abs(step) < largest / 1000):
                break
        if np.abs(at - start)[:2].max() > 8 or np.abs(at - start)[2:].max() > 4 * _STEP_SCALE:
            return _Fit(start, np.full(4, math.inf))  # no top there
        left = self._noisy - contrast * basis[0]
        surface = fft.irfft2(left * basis[0].conj() * self._weight, self._shape)
        chance = float(np.abs(surface).max()) * surface.size / (contrast * normal[0, 0])
        errors = np.zeros(4)
        errors[free] = np.sqrt(np.maximum(np.diag(np.linalg.pinv(normal))[1:], 0)) / contrast
        height = float(contrast) * math.sqrt(normal[0, 0])
        return _Fit(at, errors, max(0.0, 1 - float(chance) ** 2), height)

    def _move(self, at: F64, order: int) -> F64:
        row, col, angle, log_scale = (float(x) for x in at)
        matrix, offset = _invert(self._shape, (row, col), angle, math.exp(log_scale))
        source = self._spline if order == 3 else self._known
        return np.asarray(
            ndimage.affine_transform(source, matrix, offset, order=order, mode="constant", prefilter=False)
        )

    def _derive(self, moved: F64, at: F64) -> list[F64]:
        """Give the moved frame and its derivatives by shift, angle and logarithm of the scale."""
        by_row, by_col = np.gradient(moved)
        row, col = self._row - at[0], self._col - at[1]
        return [moved, -by_row, -by_col, by_row * col - by_col * row, -by_row * row - by_col * col]

    def _product(self, x: Complex, y: Complex) -> float:
        return float(np.sum((x * y.conj()).real * self._weight * self._twice))


def _ladder(most: float, step: float) -> F64:
    n = math.ceil(most / step - 1e-9)
    return np.linspace(-most, most, 2 * n + 1)


def _invert(
    shape: tuple[int, ...], shift: tuple[float, float], angle: float, scale: float
) -> tuple[F64, F64]:
    """Matrix and offset that lead from a pixel of the image to its place in the reference."""
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    matrix = np.array([[cos, sin], [-sin, cos]])
    middle = (np.array(shape, float) - 1) / 2
    return matrix, middle - matrix @ (middle + shift)
