"""First guesses: how many spheres a profile shows, where, and how large.

y = -ln(I/B) is the sum of the chords over λ, linear in 1/λ: spheres of a coarse set of places and radii are
combined, each with its best 1/λ ≥ 0.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.profile import Profile
from napari_lowdose_tem.measure.thresholds import (
    ALIKE,
    GUESS_BEYOND,
    GUESS_BLUR,
    GUESS_CENTERS,
    GUESS_LARGEST_RADIUS,
    GUESS_RADII,
    GUESS_ROUNDS,
    GUESS_SAMPLES,
    GUESS_SMALLEST_RADIUS_PX,
    LEAST_PROMINENCE,
    LEAST_TRANSMISSION,
    LINE_ENDS,
    MOST_EXCHANGES,
    MOST_GUESSES,
    PAIR_RADII,
    PAIR_RIM,
    PEAK_WIDTH,
)

_TINY = 1e-9  # a sphere between two samples is seen by none


@dataclass(frozen=True, eq=False)
class FirstGuess:
    """Spheres where a fit begins: places and radii [unit], K."""

    centers: F64
    radii: F64
    contrasts: F64


def guess_background(profile: Profile) -> F64:
    """Line through the medians of both ends of the profile, at every sample [intensity]."""
    position, intensity = profile.position, profile.intensity
    n = max(3, round(LINE_ENDS * len(position)))
    finite = np.flatnonzero(np.isfinite(intensity))
    (x0, y0), (x1, y1) = (
        (position[part].mean(), np.median(intensity[part])) for part in (finite[:n], finite[-n:])
    )
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
    return np.asarray(y0 + slope * (position - x0))


class FirstGuesses:
    """Guesses of one, two … spheres on a profile.

    Parameters
    ----------
    profile
        As `sample_line` returns it; samples that are not finite are left out.
    background
        At every sample (n,) [intensity], positive.
    """

    def __init__(self, profile: Profile, background: F64) -> None:
        self._position, self._y = _thin_out(profile.position, _take_log(profile, background))
        length = profile.length
        smallest = min(GUESS_SMALLEST_RADIUS_PX * profile.pixel, 0.1 * length)
        places, radii = (
            np.linspace(0, length, GUESS_CENTERS),
            np.geomspace(smallest, GUESS_LARGEST_RADIUS * length, GUESS_RADII),
        )
        center, radius = (a.ravel() for a in np.meshgrid(places, radii, indexing="ij"))
        beyond = GUESS_BEYOND * length
        kept = (center - radius > -beyond) & (center + radius < length + beyond)
        self._center, self._radius = center[kept], radius[kept]
        chord = 1 - ((self._position - self._center[:, None]) / self._radius[:, None]) ** 2
        self._step = float(np.diff(self._position).min())
        self._blur = GUESS_BLUR * len(self._position) / len(profile.position)
        self._smooth = ndimage.gaussian_filter1d(self._y, self._blur, mode="nearest")
        atoms = ndimage.gaussian_filter1d(np.sqrt(np.maximum(chord, 0)), self._blur, mode="nearest")
        self._atoms = atoms / np.sqrt((atoms**2).sum(1) + _TINY)[:, None]
        self._norm = 1 / np.sqrt((atoms**2).sum(1) + _TINY)

    def find(self, count: int) -> list[FirstGuess]:
        """Guess `count` spheres, in several ways where one may mislead; none where fewer are seen."""
        found = [self._solve_contrasts(self._pursue(count))]
        if count == 2:
            found += self._span_pairs()
        if count > 1 and (peaks := self._find_peaks(count)):
            found.append(peaks)
        found = [guess for guess in found if (guess.contrasts > 0).all()]
        return self._refine(found) if count > 1 and found else found

    def _solve_contrasts(self, indices: list[int]) -> FirstGuess:
        contrasts = _solve(self._atoms[indices], self._y) * self._norm[indices]
        return FirstGuess(self._center[indices], self._radius[indices], contrasts)

    def _refine(self, guesses: list[FirstGuess]) -> list[FirstGuess]:
        """Fit all guesses to the logarithm of the profile by damped Gauss–Newton; the best that differ."""
        values = np.stack([[s.centers, np.log(s.radii), s.contrasts] for s in guesses]).swapaxes(1, 2)
        n, count, _ = values.shape
        length, step = float(self._position[-1]), self._step
        low = np.array([-0.1 * length, np.log(0.5 * step), 1e-3])
        high = np.array([1.1 * length, np.log(length), 8.0])
        moves = np.array([0.1 * step, 0.02])
        damping = np.full(n, 0.01)
        values = np.clip(values, low, high)
        spheres = self._model(values)
        misfit = self._y - spheres.sum(1)
        for _ in range(GUESS_ROUNDS):
            slopes = [
                (self._model(values + move * np.eye(3)[i]) - spheres) / move for i, move in enumerate(moves)
            ]
            slope = np.stack([*slopes, spheres / values[:, :, 2:]], axis=2).reshape(n, 3 * count, -1)
            normal = slope @ slope.swapaxes(1, 2)
            diagonal = np.einsum("nii->ni", normal)
            diagonal += damping[:, None] * diagonal + _TINY
            change = np.linalg.solve(normal, slope @ misfit[:, :, None]).reshape(values.shape)
            tried = np.clip(values + change, low, high)
            spheres_there = self._model(tried)
            misfit_there = self._y - spheres_there.sum(1)
            better = (misfit_there**2).sum(1) < (misfit**2).sum(1)
            values[better], spheres[better] = tried[better], spheres_there[better]
            misfit[better] = misfit_there[better]
            damping *= np.where(better, 0.3, 5.0)
        chosen: list[FirstGuess] = []
        for i in np.argsort((misfit**2).sum(1)).tolist():
            centers, log_radii, contrasts = values[i][np.argsort(values[i, :, 0])].T
            guess = FirstGuess(centers, np.exp(log_radii), contrasts)
            if len(chosen) < MOST_GUESSES and not any(_is_alike(guess, other) for other in chosen):
                chosen.append(guess)
        return chosen

    def _model(self, values: F64) -> F64:
        """Logarithm of each sphere's image (guesses, spheres, samples) of place, log radius and K."""
        radius = np.exp(values[:, :, 1, None])
        edges = self._position + self._step * np.array([[-0.5], [0.5]])
        u = np.clip((edges[:, None, None] - values[:, :, :1]) / radius, -1, 1)
        area = 0.5 * (u * np.sqrt(1 - u**2) + np.arcsin(u))
        chords = (area[1] - area[0]) * radius / self._step
        blurred = ndimage.gaussian_filter1d(chords, self._blur, axis=2, mode="nearest")
        return np.asarray(values[:, :, 2:] * blurred)

    def _pursue(self, count: int) -> list[int]:
        """Add spheres one by one, then exchange each for a better one as long as there is any."""
        chosen: list[int] = []
        for _ in range(count):
            chosen.append(self._best_beside(chosen))
        for _ in range(MOST_EXCHANGES if count > 1 else 0):
            before = list(chosen)
            for i in range(count):
                chosen[i] = self._best_beside(chosen[:i] + chosen[i + 1 :])
            if chosen == before:
                break
        return chosen

    def _best_beside(self, others: list[int]) -> int:
        """Index of the sphere that explains most beside others, all refitted."""
        atoms, y = self._atoms, self._y
        if others:
            basis = np.linalg.qr(atoms[others].T)[0]
            atoms, y = atoms - (atoms @ basis) @ basis.T, y - basis @ (basis.T @ y)
        norm = (atoms**2).sum(1)
        gain = np.where(norm > _TINY, (atoms @ y) / np.sqrt(np.maximum(norm, _TINY)), -np.inf)
        return int(np.argmax(gain))

    def _span_pairs(self) -> list[FirstGuess]:
        """Pairs of spheres of one material that reach from end to end of what is dark, of many sizes."""
        y = self._smooth
        if not y.max() > 0:
            return []
        dark = np.flatnonzero(y > PAIR_RIM * y.max())
        left, right = self._position[dark[0]] - 0.5 * self._step, self._position[dark[-1]] + 0.5 * self._step
        pairs = []
        for first, second in itertools.product(PAIR_RADII, PAIR_RADII):
            radii = np.array([first, second]) * (right - left)
            centers = np.array([left + radii[0], right - radii[1]])
            image = self._model(np.stack([centers, np.log(radii), radii], axis=1)[None])[0].sum(0)
            factor = float(image @ self._y) / float(image @ image + _TINY)
            pairs.append(FirstGuess(centers, radii, factor * radii))
        return pairs

    def _find_peaks(self, count: int) -> FirstGuess | None:
        """Spheres at the deepest dips, as wide as the way to half of the depth, or to the next one."""
        from scipy.signal import find_peaks  # slow to import

        y = self._smooth
        peaks, found = find_peaks(y, prominence=LEAST_PROMINENCE * float(y.max()))
        if len(peaks) < count:
            return None
        chosen = np.sort(peaks[np.argsort(found["prominences"])[::-1][:count]])
        borders = [0, *(chosen[1:] + chosen[:-1]) // 2, len(y) - 1]
        radii = []
        for peak, low, high in zip(chosen, borders, borders[1:], strict=False):
            shallow = np.flatnonzero(y[low : high + 1] < y[peak] / 2) + low
            left = max(shallow[shallow < peak], default=low)
            right = min(shallow[shallow > peak], default=high)
            radii.append(PEAK_WIDTH * min(peak - left, right - peak))
        return FirstGuess(self._position[chosen], np.array(radii) * self._step, y[chosen])


def _is_alike(guess: FirstGuess, other: FirstGuess) -> bool:
    apart = np.abs([guess.centers - other.centers, guess.radii - other.radii])
    return bool((apart < ALIKE * guess.radii).all())


def measure_noise(values: F64) -> float:
    """Robust white noise of evenly spaced samples from their fourth differences, r.m.s."""
    values = values[np.isfinite(values)]
    return float(np.median(np.abs(np.diff(values, 4))) / 0.6745 / np.sqrt(70))


def _take_log(profile: Profile, background: F64) -> F64:
    transmission = profile.intensity / background
    return np.asarray(-np.log(np.maximum(transmission, LEAST_TRANSMISSION)))


def _thin_out(position: F64, y: F64) -> tuple[F64, F64]:
    block = -(-len(y) // GUESS_SAMPLES)
    n = len(y) // block
    finite = np.isfinite(y[: n * block]).reshape(n, block)
    total = np.where(finite, y[: n * block].reshape(n, block), 0).sum(1)
    kept = finite.any(1)
    mean = total[kept] / finite.sum(1)[kept]
    return position[: n * block].reshape(n, block).mean(1)[kept], mean


def _solve(atoms: F64, y: F64) -> F64:
    return np.asarray(optimize.nnls(atoms.T, y)[0])
