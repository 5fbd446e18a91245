"""What an output took away from a low-dose frame: noise alone, or part of the particles too.

The residual is tested twice. Is it correlated with the structure that the output shows, more than noise is by
chance (measured by shifting one against the other)? And is it correlated with itself over the size of
particles in both directions, which a camera's streaks are not?

An output follows the noise of its own frame, above all where it places edges. In one frame that looks like
structure left in the residual. A second frame of the same field, whose noise the output does not know,
separates the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from napari_lowdose_tem.image import F32
from napari_lowdose_tem.particles.find import divide_by_background

Mask = npt.NDArray[np.bool_]

# No study chose these numbers; tests/judge/test_residual.py shows that neither true outputs nor plain noise
# raise an alarm and that blurred, flattened and incomplete outputs do. Depths are in transmission.
_SIDE_PX = 256  # that frames are averaged down to, at least, to be judged
_LEAST_PX = 128  # side from which a verdict is given
_FILM = 0.05  # depth below which a pixel is background, at least; as `particles.find.LEAST_DEPTH`
_NOISY_FILM, _MOST_FILM = 3.5, 0.2  # the same for noisy outputs, in their scatters, and at most
_LEAST_FILM = 0.02  # share of the frame that must be background
_FILM_SIGMA_PX, _BESIDE_PX = 3.0, 8  # blur before the depth is taken, and what particles' edges reach
_EDGE_PX = (1.0, 4.0)  # σ of the two Gaussians between which the structure of an edge lies
_FAR_PX = 32  # shift from which noise matches structure by chance only
_SIGNIFICANT = 4.5  # standard deviations of that chance from which structure is believed
_LEAST_LOSS = 0.02  # share of the contrast below which a loss is not reported
_PARTICLE_PX, _WIDE_PX = (6, 16), (40, 64)  # lags correlated within particles, and within the film only
_LEAST_SHADE = 0.02  # r.m.s. of shades over the level below which they are not reported
_GREY_PX = 4  # side of the blocks the dependence on grey is fitted to
_BLOB_PX, _LARGE_PX = 5.0, 32.0  # σ of the two Gaussians between which a missing particle lies
_BLOB = 6.5  # robust standard deviations from which a dark place is no noise
_NOISE_KEPT = 0.1  # share of the noise left in the output from which it is said


@dataclass(frozen=True, eq=False)
class Residual:
    """Low-dose frame − output.

    Parameters
    ----------
    map
        (rows, columns) [counts], NaN where either is not finite.
    mean, rms
        Of the map [counts]; the r.m.s. is that about the mean.
    expected_rms
        What the noise of the low-dose frame amounts to, from differences of its pixels [counts]; None for
        frames too small.
    correlation
        Of the map with itself, moved by −2…2 rows and columns (5, 5); 1 in the middle. Cameras whose pixels
        share light or whose read-out lines have streaks give values above 0 for noise alone.
    is_white
        Whether no structure was found in it; False, too, where that cannot be told.
    verdict
        What was found, in a sentence.
    contrast_lost, edges_lost
        Shares of the contrast, and of that at the edges, that are in the residual; negative where the output
        shows more than the low-dose frame, as where noise is cut off at 0 counts. None where there is nothing
        to measure them on.
    """

    map: F32
    mean: float
    rms: float
    expected_rms: float | None
    correlation: npt.NDArray[np.float64]
    is_white: bool
    verdict: str
    contrast_lost: float | None = None
    edges_lost: float | None = None


def measure_residual(
    lde: npt.ArrayLike, output: npt.ArrayLike, repeat: npt.ArrayLike | None = None
) -> Residual:
    """Measure what an output took away from a low-dose frame.

    Parameters
    ----------
    lde, output
        (rows, columns) on one grid [counts]; what is not finite in both is left out.
    repeat
        Another low-dose frame of the same field at rest, or the mean of several, from which the output was
        not made [counts]. The residual is then judged by it: smoothed edges are told from followed noise.

    Raises
    ------
    ValueError
        For frames of different shapes, and without a pixel that is finite in both.
    """
    raw, made = np.asarray(lde, np.float32), np.asarray(output, np.float32)
    other = raw if repeat is None else np.asarray(repeat, np.float32)
    if raw.ndim != 2 or not raw.shape == made.shape == other.shape:
        raise ValueError(
            f"low-dose frames of shape {raw.shape} and {other.shape}, output {made.shape}; "
            "bring all to one grid first"
        )
    rest = raw - made
    finite = np.isfinite(rest)
    if not finite.any():
        raise ValueError(f"no pixel is finite in both frames of shape {raw.shape}")
    rest[~finite] = np.nan
    mean = float(rest[finite].mean(dtype=np.float64))
    noise = rest - np.float32(mean)
    noise[~finite] = 0
    rms = math.sqrt(float(np.vdot(noise, noise)) / np.count_nonzero(finite))
    expected = _expect_rms(raw)
    found, is_white = _Structure(), False
    if min(raw.shape) < _LEAST_PX:
        verdict = f"Too small to tell noise from structure: needs {_LEAST_PX} px a side."
    elif not rms > 0:
        verdict = "The output is the low-dose frame itself."
    else:
        found = _find_structure(other - made, made)
        is_white, verdict = _word_verdict(
            found, repeat is not None, 1 - (rms / expected) ** 2 if expected else 0.0
        )
    return Residual(
        map=rest,
        mean=mean,
        rms=rms,
        expected_rms=expected,
        correlation=_correlate(noise, finite),
        is_white=is_white,
        verdict=verdict,
        contrast_lost=float(found.contrast.lost) if found.contrast else None,
        edges_lost=float(found.edges.lost) if found.edges else None,
    )


def _expect_rms(raw: F32) -> float | None:
    """Noise of a pixel from differences over 2 px in both directions at once, which leave structure out."""
    if min(raw.shape) < 8:
        return None
    bends = raw[2:, 2:] - raw[:-2, 2:] - raw[2:, :-2] + raw[:-2, :-2]
    known = bends[np.isfinite(bends)]
    return math.sqrt(float(np.vdot(known, known)) / known.size) / 2 if known.size else None


def _correlate(noise: F32, finite: Mask) -> npt.NDArray[np.float64]:
    rows, cols = noise.shape
    found = np.zeros((5, 5))
    whole = bool(finite.all())
    for row in range(min(3, rows)):
        for col in range(-2, 3):
            if abs(col) >= cols or (row == 0 and col < 0):
                continue
            here = slice(0, rows - row), slice(max(0, -col), cols - max(0, col))
            there = slice(row, rows), slice(max(0, col), cols + min(0, col))
            n = (rows - row) * (cols - abs(col))
            if not whole:
                n = int(np.count_nonzero(finite[here] & finite[there]))
            product = float(np.einsum("ij,ij->", noise[here], noise[there])) / max(n, 1)
            found[2 + row, 2 + col] = found[2 - row, 2 - col] = product
    return found / found[2, 2] if found[2, 2] > 0 else found


@dataclass(frozen=True)
class _Share:
    """Residual along a structure, in units of it, and the standard deviation that noise gives by chance."""

    value: float
    chance: float

    @property
    def lost(self) -> float:
        """Share of the contrast there was."""
        return _of_all(self.value)

    @property
    def is_sure(self) -> bool:
        return self.value > _SIGNIFICANT * self.chance and self.lost > _LEAST_LOSS

    @property
    def least(self) -> float:
        """What would be seen."""
        return _of_all(_SIGNIFICANT * self.chance)


def _of_all(value: float) -> float:
    return value / (1 + value) if value > -0.5 else -1.0


@dataclass(frozen=True)
class _Structure:
    """Structure in a residual: that of the output, and shades (r.m.s. over the level) it does not show."""

    contrast: _Share | None = None
    edges: _Share | None = None
    unseen: float = 0.0
    missing_at: tuple[int, int] | None = None


def _word_verdict(found: _Structure, is_repeat: bool, noise_kept: float) -> tuple[bool, str]:
    seen = []
    if found.contrast and found.contrast.is_sure:
        seen.append(f"{found.contrast.lost:.0%} of their contrast was smoothed away")
    smoothed = found.edges is not None and found.edges.is_sure
    if found.edges and smoothed and (is_repeat or seen):
        seen.append(f"their edges are smoothed ({found.edges.lost:.0%} of the contrast there)")
    if found.missing_at is not None:
        row, col = found.missing_at
        seen.append(f"something dark at row {row}, column {col} is missing from the output")
    elif found.unseen:
        seen.append(f"shades of {found.unseen:.0%} of the level are missing from the output")
    if seen:
        return False, f"The residual still shows structure of the specimen: {_join(seen)}."
    if smoothed:
        return False, (
            "The residual is correlated with the particles' edges: they are smoothed, or the output follows "
            "the noise there; a second frame of the same field shows which."
        )
    text = "Nothing but noise is left in the residual"
    if noise_kept > _NOISE_KEPT:
        text += f", but {noise_kept:.0%} of the noise is still in the output"
    if found.edges is None:
        return True, f"{text}."
    return True, f"{text}; less than {found.edges.least:.0%} of the contrast at edges would not be noticed."


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _find_structure(rest: F32, made: F32) -> _Structure:
    """Look for the output's structure in a residual, and for what the output does not show."""
    finite = np.isfinite(rest)
    level = made[finite].mean() if finite.any() else np.float32(0)
    noise = np.where(finite, rest - rest[finite].mean(), np.float32(0))
    made = np.where(finite, made, level)
    coarser = max(1, min(made.shape) // _SIDE_PX)
    noise, made = _reduce(noise, coarser), _reduce(made, coarser)
    transmission = divide_by_background(made)
    film = _find_film(transmission, coarser)
    near = ~film
    contrast = edges = None
    if near.any() and np.count_nonzero(film) > _LEAST_FILM * film.size:
        noise = noise - noise[film].mean()
        background = np.divide(made, transmission, out=np.zeros_like(made), where=transmission > 0)
        fine, coarse = (ndimage.gaussian_filter(made, sigma / coarser) for sigma in _EDGE_PX)
        far_px = _FAR_PX // coarser
        contrast = _measure_share(noise, made - background, near, film, far_px)
        # noise cut off at 0 counts changes the contrast, and depends on the grey alone
        edges = _measure_share(_remove_grey(noise, made, near), fine - coarse, near, film, far_px)
    noise = _remove_grey(noise, made, np.ones_like(film))
    shades, chance = _measure_shades(noise, coarser)
    unseen = math.sqrt(max(shades, 0.0)) / float(level) if level > 0 else 0.0
    if shades < _SIGNIFICANT * chance or unseen < _LEAST_SHADE:
        unseen = 0.0
    return _Structure(contrast, edges, unseen, _find_dark(noise, coarser))


def _measure_shades(noise: F32, coarser: int) -> tuple[float, float]:
    """Variance of what is as wide as particles in both directions, and its standard error by chance."""
    near, far = (range(a // coarser, b // coarser + 1) for a, b in (_PARTICLE_PX, _WIDE_PX))
    found = min(
        np.mean([_lag(noise, lag, axis) for lag in near]) - np.mean([_lag(noise, lag, axis) for lag in far])
        for axis in (0, 1)
    )
    n = noise.size * min(len(near), len(far)) / 2
    return float(found), float(noise.var()) / math.sqrt(n)


def _lag(noise: F32, lag: int, axis: int) -> float:
    a, b = (noise[:-lag], noise[lag:]) if axis == 0 else (noise[:, :-lag], noise[:, lag:])
    return float(np.einsum("ij,ij->", a, b)) / a.size


def _find_dark(noise: F32, coarser: int) -> tuple[int, int] | None:
    """Row and column of a place too dark for noise [px]."""
    blob = ndimage.gaussian_filter(noise, _BLOB_PX / coarser)
    blob -= ndimage.gaussian_filter(noise, _LARGE_PX / coarser)
    rim = round(2 * _BLOB_PX / coarser)  # averages over fewer pixels there
    blob = blob[rim:-rim, rim:-rim]
    row, col = (int(i) for i in np.unravel_index(int(np.argmin(blob)), blob.shape))
    scatter = float(np.median(np.abs(blob))) / 0.6745
    is_dark = scatter > 0 and float(blob[row, col]) < -_BLOB * scatter
    return ((row + rim) * coarser, (col + rim) * coarser) if is_dark else None


def _reduce(frame: F32, factor: int) -> F32:
    rows, cols = (n // factor for n in frame.shape)
    blocks = frame[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor)
    return np.asarray(blocks.mean((1, 3)), np.float32)


def _find_film(transmission: F32, coarser: int) -> Mask:
    smooth = ndimage.gaussian_filter(transmission, _FILM_SIGMA_PX / coarser)
    third, high = np.percentile(smooth, (75, 95))
    depth = min(_MOST_FILM, max(_FILM, _NOISY_FILM * float(high - third)))
    return np.asarray(~ndimage.maximum_filter(smooth < 1 - depth, 2 * _BESIDE_PX // coarser + 1))


def _remove_grey(noise: F32, made: F32, near: Mask) -> F32:
    """Take out what depends on the output's grey alone, as a parabola.

    It is fitted to means of blocks: pixel by pixel an output goes with the noise it follows.
    """
    share = _reduce(near.astype(np.float32), _GREY_PX)
    use, spread = share > 0.5, made[near].std()
    if np.count_nonzero(use) < 8 or not spread > 0:
        return noise
    x = (made - made[near].mean()) / spread
    powers = [np.ones_like(x), x, x * x]
    *basis, target = (_reduce(y * near, _GREY_PX)[use] / share[use] for y in (*powers, noise))
    fitted = np.linalg.lstsq(np.stack(basis, 1).astype(np.float64), target.astype(np.float64))[0]
    for power, factor in zip(powers, fitted.tolist(), strict=True):
        noise = noise - np.float32(factor) * power
    return noise


def _measure_share(noise: F32, structure: F32, near: Mask, film: Mask, far_px: int) -> _Share | None:
    """Measure the residual along a structure.

    What goes with the output on bare film, where there is nothing but followed noise, is taken off.
    """
    n = np.count_nonzero(near)
    inside = np.where(near, structure, np.float32(0))
    power = float(np.vdot(inside, inside)) / n
    if not power > 0:
        return None
    on_film, its_noise = structure[film], noise[film]
    products = (on_film - on_film.mean()) * (its_noise - its_noise.mean())
    followed = float(products.mean()) * float(noise[near].var()) / max(float(its_noise.var()), 1e-12)
    surface: Any = fft.irfft2(fft.rfft2(noise) * fft.rfft2(inside).conj(), noise.shape) / n
    by_chance = float(surface[far_px:-far_px, far_px:-far_px].std())
    followed_se = 3 * float(products.std()) / math.sqrt(products.size)  # neighbours go together
    return _Share((float(surface[0, 0]) - followed) / power, math.hypot(by_chance, followed_se) / power)
