"""First guesses: how many spheres a profile shows, where, and how large.

y = -ln(I/B) is the sum of the chords over λ, linear in 1/λ. Spheres of a coarse set of places and radii are
tried one by one, two by two, then one more at a time, each with its best 1/λ ≥ 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_lowdose_tem.measure.profile import Profile
from napari_lowdose_tem.measure.result import MOST_PARTICLES

Floats = npt.NDArray[np.float64]

_SAMPLES = 96
_PLACES, _RADII = 36, 9
_SMALLEST_RADIUS_PX = 1.5
_BLUR = 1.2  # samples
_LOWEST = 0.02  # of the background
_TINY = 1e-9  # a sphere between two samples is seen by none
_ENDS = 0.12  # of the line, at either end


@dataclass(frozen=True, eq=False)
class Start:
    """Spheres to start from: places and radii [unit], K."""

    centers: Floats
    radii: Floats
    contrasts: Floats


def guess_background(profile: Profile) -> Floats:
    """Line through the medians of both ends of the profile, at every sample [intensity]."""
    position, intensity = profile.position, profile.intensity
    n = max(3, round(_ENDS * len(position)))
    (x0, y0), (x1, y1) = (
        (position[part].mean(), np.nanmedian(intensity[part])) for part in (slice(None, n), slice(-n, None))
    )
    return np.asarray(y0 + (y1 - y0) * (position - x0) / (x1 - x0))


def find_starts(profile: Profile, background: Floats, most: int = MOST_PARTICLES) -> list[Start]:
    """Guess one, two … `most` spheres.

    Parameters
    ----------
    profile
        As `sample_line` returns it; samples that are not finite are left out.
    background
        At every sample (n,) [intensity], positive.
    most
        Spheres.
    """
    position, y = _thin_out(profile.position, _take_log(profile, background))
    pixel = profile.pixel
    length = profile.length
    places = np.linspace(0, length, _PLACES)
    smallest = min(_SMALLEST_RADIUS_PX * pixel, 0.1 * length)
    radii = np.geomspace(smallest, 0.55 * length, _RADII)
    center, radius = (a.ravel() for a in np.meshgrid(places, radii, indexing="ij"))
    kept = (center - radius > -0.1 * length) & (center + radius < 1.1 * length)
    center, radius = center[kept], radius[kept]
    atoms = np.sqrt(np.maximum(1 - ((position - center[:, None]) / radius[:, None]) ** 2, 0))
    atoms = ndimage.gaussian_filter1d(atoms, _BLUR * len(position) / len(profile.position), mode="nearest")
    starts = []
    chosen: list[int] = []
    for n in range(1, most + 1):
        chosen = _choose_pair(atoms, y) if n == 2 else _choose_next(atoms, y, chosen)
        contrasts = _solve(atoms[chosen], y)
        order = np.argsort(center[chosen])
        picked = np.asarray(chosen)[order]
        starts.append(Start(center[picked], radius[picked], contrasts[order]))
    return starts


def measure_noise(values: Floats) -> float:
    """Robust white noise of evenly spaced samples from their second differences, r.m.s."""
    values = values[np.isfinite(values)]
    if len(values) < 5:
        return 0.0
    bends = values[:-2] - 2 * values[1:-1] + values[2:]
    return float(np.median(np.abs(bends)) / 0.6745 / np.sqrt(6))


def _take_log(profile: Profile, background: Floats) -> Floats:
    transmission = profile.intensity / background
    return np.asarray(-np.log(np.maximum(transmission, _LOWEST)))


def _thin_out(position: Floats, y: Floats) -> tuple[Floats, Floats]:
    block = -(-len(y) // _SAMPLES)
    n = len(y) // block
    finite = np.isfinite(y[: n * block]).reshape(n, block)
    total = np.where(finite, y[: n * block].reshape(n, block), 0).sum(1)
    kept = finite.any(1)
    mean = total[kept] / finite.sum(1)[kept]
    return position[: n * block].reshape(n, block).mean(1)[kept], mean


def _choose_pair(atoms: Floats, y: Floats) -> list[int]:
    gram, along = atoms @ atoms.T, atoms @ y
    square = np.diag(gram)
    determinant = square[:, None] * square - gram**2
    safe = np.where(determinant > 1e-3 * square[:, None] * square, determinant, np.inf)
    first = (square * along[:, None] - gram * along) / safe
    explained = first * along[:, None] + first.T * along
    explained[(first <= 0) | (first.T <= 0)] = -np.inf
    best = np.unravel_index(int(np.argmax(explained)), explained.shape)
    if not np.isfinite(explained[best]):
        single = _choose_next(atoms, y, [])[0]
        return [single, single]
    return [int(best[0]), int(best[1])]


def _choose_next(atoms: Floats, y: Floats, chosen: list[int]) -> list[int]:
    left = y
    if chosen:
        left = y - _solve(atoms[chosen], y) @ atoms[chosen]
    return [*chosen, int(np.argmax((atoms @ left) / np.sqrt((atoms**2).sum(1) + _TINY)))]


def _solve(atoms: Floats, y: Floats) -> Floats:
    from scipy.optimize import nnls

    return np.asarray(nnls(atoms.T, y)[0])
