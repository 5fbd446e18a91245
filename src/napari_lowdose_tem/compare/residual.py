"""What an output took away from a low-dose frame: noise alone, or part of the particles too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from napari_lowdose_tem.detect import divide_by_background

Floats = npt.NDArray[np.float32]


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
        What the noise of the low-dose frame amounts to, from differences of its neighbouring pixels [counts];
        None for frames too small.
    correlation
        Of the map with itself, moved by −2…2 rows and columns (5, 5); 1 in the middle. Cameras whose pixels
        share light or whose read-out lines have streaks give values above 0 for noise alone.
    is_white
        Whether nothing but noise is in it.
    verdict
        The same in a sentence.
    """

    map: Floats
    mean: float
    rms: float
    expected_rms: float | None
    correlation: npt.NDArray[np.float64]
    is_white: bool
    verdict: str


_FILM = 0.05  # depth below which a pixel is background, at least
_NOISY_FILM = 3.5  # standard deviations of a noisy output's background
_MOST_FILM = 0.2
_FILM_SIGMA_PX = 3.0
_BESIDE_PX = 8  # what particles' edges reach
_FINE_PX, _COARSE_PX = 1.0, 4.0  # what the structure of an edge lies between
_FAR_PX = 32  # where noise does not correlate with structure any more
_LEAST_PX = 4 * _FAR_PX
_SIGNIFICANT = 5.0  # standard deviations
_LEAST_LOSS = 0.02  # of the particles' contrast
_BLOB_PX, _LARGE_PX = 5.0, 32.0
_BLOB = 6.5  # standard deviations from which on a dark place is no noise: one in 10⁴ frames has one by chance
_NOISE_KEPT = 0.1  # of the noise, that makes an output a noisy one


def measure_residual(lde: npt.ArrayLike, output: npt.ArrayLike) -> Residual:
    """Measure what an output took away from a low-dose frame.

    Noise alone is not white: it is correlated along read-out lines, and weaker in dark particles. So the
    residual is asked whether it goes with the structure that the output shows, more than noise goes with it
    by chance (moved by 32 px and more) and more than on bare film, where an output can only follow the noise:

    - with the depth of the particles, which finds contrast taken away,
    - with their edges, which finds smoothing; what depends on the grey alone, such as noise cut off at 0
      counts, is taken out before,
    - and whether there are dark places in it where the output shows nothing.

    Parameters
    ----------
    lde, output
        (rows, columns) on one grid [counts]; what is not finite in both is left out.

    Raises
    ------
    ValueError
        For frames of different shapes, and without a pixel that is finite in both.
    """
    raw, made = np.asarray(lde, np.float32), np.asarray(output, np.float32)
    if raw.shape != made.shape or raw.ndim != 2:
        raise ValueError(
            f"low-dose frame of shape {raw.shape}, output {made.shape}; bring both to one grid first"
        )
    rest = raw - made
    finite = np.isfinite(rest)
    if not finite.any():
        raise ValueError(f"no pixel is finite in both frames of shape {raw.shape}")
    rest = np.where(finite, rest, np.float32(np.nan))
    mean = float(rest[finite].mean(dtype=np.float64))
    noise = np.where(finite, rest - np.float32(mean), np.float32(0))
    rms = math.sqrt(float(np.sum(noise * noise, dtype=np.float64)) / np.count_nonzero(finite))
    expected = _expect_rms(raw)
    is_white, verdict = _judge(noise, made, finite, rms, expected)
    return Residual(rest, mean, rms, expected, _correlate(noise, finite), is_white, verdict)


def _expect_rms(raw: Floats) -> float | None:
    """Noise of a pixel from second differences across both directions, which leave structure out."""
    if min(raw.shape) < 8:
        return None
    bends = raw[2:, 2:] - raw[:-2, 2:] - raw[2:, :-2] + raw[:-2, :-2]
    known = bends[np.isfinite(bends)]
    return float(np.sqrt(np.mean(known.astype(np.float64) ** 2))) / 2 if known.size else None


def _correlate(noise: Floats, finite: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    rows, cols = noise.shape
    found = np.zeros((5, 5))
    for row in range(min(3, rows)):
        for col in range(-2, 3):
            if abs(col) >= cols or (row == 0 and col < 0):
                continue
            here = (slice(0, rows - row), slice(max(0, -col), cols - max(0, col)))
            there = (slice(row, rows), slice(max(0, col), cols + min(0, col)))
            n = here[0].stop * (here[1].stop - here[1].start)
            if not finite.all():
                n = int(np.count_nonzero(finite[here] & finite[there]))
            product = float(np.einsum("ij,ij->", noise[here], noise[there])) / max(n, 1)
            found[2 + row, 2 + col] = found[2 - row, 2 - col] = product
    return found / found[2, 2] if found[2, 2] > 0 else found


def _judge(
    noise: Floats, made: Floats, finite: npt.NDArray[np.bool_], rms: float, expected: float | None
) -> tuple[bool, str]:
    if min(noise.shape) < _LEAST_PX:
        return False, f"Too small to tell: needs {_LEAST_PX} px a side."
    if not rms > 0:
        return False, "The output is the low-dose frame itself."
    level = float(made[finite].mean())
    filled = np.where(finite, made, np.float32(level))
    transmission = divide_by_background(filled)
    film = _find_film(transmission) & finite
    near = ~film & finite
    said = []
    if np.count_nonzero(near) and np.count_nonzero(film) > 0.02 * film.size:
        depth = np.where(transmission > 0, filled - filled / np.where(transmission > 0, transmission, 1), 0)
        loss, sure = _share(noise - noise[film].mean(), depth, near, film)
        if sure > _SIGNIFICANT and loss > _LEAST_LOSS:
            said.append(f"{loss:.0%} of the particles' contrast is missing from the output")
        edges = ndimage.gaussian_filter(filled, _FINE_PX) - ndimage.gaussian_filter(filled, _COARSE_PX)
        loss, sure = _share(_remove_grey(noise, filled, near), edges, near, film)
        if sure > _SIGNIFICANT and loss > _LEAST_LOSS:
            said.append(f"edges are smoothed: {loss:.0%} of their contrast is in the residual")
    blob = ndimage.gaussian_filter(noise, _BLOB_PX) - ndimage.gaussian_filter(noise, _LARGE_PX)
    scatter = float(np.median(np.abs(blob))) / 0.6745
    where = np.unravel_index(int(np.argmin(blob)), blob.shape)
    if scatter > 0 and blob[where] < -_BLOB * scatter:
        said.append(f"something dark at row {where[0]}, column {where[1]} is not in the output")
    if said:
        return False, "The residual still shows structure: " + "; ".join(said) + "."
    if expected and rms < (1 - _NOISE_KEPT / 2) * expected:
        return True, (
            "Nothing but noise is left in the residual, but not all of the noise: "
            f"{1 - (rms / expected) ** 2:.0%} of its power is still in the output."
        )
    return True, "Nothing but noise is left in the residual."


def _find_film(transmission: Floats) -> npt.NDArray[np.bool_]:
    smooth = ndimage.gaussian_filter(transmission, _FILM_SIGMA_PX)
    third, high = np.percentile(smooth, (75, 95))
    depth = min(_MOST_FILM, max(_FILM, _NOISY_FILM * float(high - third)))
    return np.asarray(~ndimage.maximum_filter(smooth < 1 - depth, 2 * _BESIDE_PX + 1))


def _remove_grey(noise: Floats, made: Floats, near: npt.NDArray[np.bool_]) -> Floats:
    """Take out what depends on the output's grey alone, as a parabola."""
    scale = float(made[near].std()) or 1.0
    x = (made - made[near].mean()) / np.float32(scale)
    basis = np.stack([np.ones_like(x[near]), x[near], x[near] ** 2])
    a, b, c = np.linalg.lstsq((basis @ basis.T).astype(float), (basis @ noise[near]).astype(float))[0]
    return np.asarray(noise - np.float32(a) - np.float32(b) * x - np.float32(c) * x * x)


def _share(
    noise: Floats, structure: Floats, near: npt.NDArray[np.bool_], film: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Share of a structure that is in the residual, and how many standard deviations that is above chance."""
    n = int(np.count_nonzero(near))
    inside = np.where(near, structure, np.float32(0))
    power = float(np.sum(inside * inside, dtype=np.float64)) / n
    if not power > 0:
        return 0.0, 0.0
    found = float(np.sum(noise * inside, dtype=np.float64)) / n
    # an output follows the noise on bare film too
    on_film, its_noise = structure[film], noise[film]
    products = (on_film - on_film.mean()) * (its_noise - its_noise.mean())
    follow = float(products.mean()) * float(noise[near].var()) / max(float(its_noise.var()), 1e-12)
    surface = fft.irfft2(fft.rfft2(noise) * fft.rfft2(inside).conj(), noise.shape) / n
    far = surface[_FAR_PX:-_FAR_PX, _FAR_PX:-_FAR_PX]
    chance = math.hypot(float(far.std()), 3 * float(products.std()) / math.sqrt(products.size))
    return (found - follow) / power, (found - follow) / max(chance, 1e-12)
