"""Spheres on raw counts, by the likelihood of the electrons."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.camera.streaks import Streaks, measure_streaks
from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.profile import Line, Profile, sample_line
from napari_lowdose_tem.measure.sphere_fit import guess_from_counts
from napari_lowdose_tem.measure.sphere_window import SphereFit, SphereParameters, Window, conclude, invert
from napari_lowdose_tem.measure.thresholds import (
    COUNTS_BLUR_PX,
    COUNTS_CONTRASTS,
    COUNTS_RADII,
    COUNTS_ROUNDS,
    COUNTS_SHIFT,
    FARTHEST_RADIUS,
    FIRST_FACTORS,
    LEAST_READ_NOISE,
    LEAST_SIGNIFICANCE,
    LEAST_UNGUIDED_SIGNIFICANCE,
    OTHER_CENTER,
    OTHER_RADIUS,
)

_FIELDS = SphereParameters._fields
_RADIUS = _FIELDS.index("radius")
_FREE = np.array([i for i, name in enumerate(_FIELDS) if name != "sigma"])
_QUANTILE = 1.96


def fit_counts(
    counts: npt.NDArray[Any],
    line: Line,
    pixel_size_nm: tuple[float, float] | None = None,
    counts_per_electron: float | None = None,
    *,
    start: SphereFit | None = None,
    blur_px: float = COUNTS_BLUR_PX,
) -> SphereFit:
    """Fit a sphere to raw counts around a line by Poisson maximum likelihood.

    Noise beyond Poisson's law, and noise correlated along read-out lines, are measured on the frame and enter
    weights and errors: for such cameras it is a quasi-likelihood (Wedderburn 1974). The interval is where the
    likelihood, maximised over all else, falls by that of 1.96 standard deviations; it need not be symmetric.
    The standard error is half its width over 1.96.

    Parameters
    ----------
    counts
        Raw frame (rows, columns) [counts], dark level subtracted.
    line
        Across the particle.
    pixel_size_nm
        (row, column) [nm/px]; None gives lengths in px.
    counts_per_electron
        Detector gain, for the bound; None leaves that out.
    start
        A fit to begin at, as of the enhanced frame; found on the counts by themselves otherwise.
    blur_px
        Gaussian σ of the image [px], held fixed: a few electrons do not show it.

    Raises
    ------
    ValueError
        As `sample_line`, and for a gain or blur that is not positive.
    """
    for name, value in (("counts_per_electron", counts_per_electron), ("blur_px", blur_px)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} {value}; give more than 0")
    streaks = measure_streaks(counts)
    if streaks.along_columns:
        return _fit_turned(counts, line, pixel_size_nm, counts_per_electron, start, blur_px)
    profile = sample_line(counts, line, pixel_size_nm)
    candidates = _guess_spheres(counts, profile, pixel_size_nm, start)
    if isinstance(candidates, str):
        return SphereFit(profile.unit, refused=candidates)
    window = Window.around(counts, profile, candidates[-1], counts_per_electron or 1.0)
    level = float(np.mean(window.pixels[window.kept])) if window.kept.any() else 0.0
    if not level > 0:
        return SphereFit(profile.unit, refused="no counts above zero around the line; choose the raw frame")
    found = [np.array(c._replace(sigma=blur_px * profile.pixel, level=level)) for c in candidates]
    likelihood = _Likelihood(window, streaks.invert(window.pixels.shape[1]))
    likelihood, found = likelihood.maximise_all(found, level if counts_per_electron else None)
    return _conclude_counts(
        profile, likelihood, found, streaks, counts_per_electron is not None, start is None
    )


def _guess_spheres(
    counts: npt.NDArray[Any],
    profile: Profile,
    pixel_size_nm: tuple[float, float] | None,
    start: SphereFit | None,
) -> list[SphereParameters] | str:
    """Spheres to begin at, or why there is none."""
    if start is not None and not start.refused:
        row, col = start.row_px * profile.pixel_size[0], start.col_px * profile.pixel_size[1]
        return [SphereParameters(row, col, start.diameter / 2, -math.log(start.t_min), 0.0)]
    # as wide as the frame allows: the first that lies on it
    line = profile.line
    widths = [max(line.width_px, line.length_px / 4 / 2**i) for i in range(4)]
    wide = [sample_line(counts, replace(line, width_px=w), pixel_size_nm) for w in widths]
    first = guess_from_counts(next((p for p in wide if np.isfinite(p.intensity).all()), wide[-1]))
    return (
        first if isinstance(first, str) else [first._replace(radius=f * first.radius) for f in FIRST_FACTORS]
    )


def _conclude_counts(
    profile: Profile,
    likelihood: _Likelihood,
    found: list[F64],
    streaks: Streaks,
    gain_known: bool,
    unguided: bool,
) -> SphereFit:
    """Judge the spheres found and report the best."""
    window, best = likelihood.window, likelihood.choose(found)
    sphere = SphereParameters(*best)
    if sphere.contrast > 0.99 * COUNTS_CONTRASTS[1]:
        reason = "no electrons pass through the particle's centre; use the full fit on a line"
        return SphereFit(profile.unit, refused=reason)
    weight = window.weigh(sphere)
    dispersion = likelihood.misfit(best, weight) / max(int(window.kept.sum()) - len(_FREE), 1)
    dispersion *= window.inflation(sphere, streaks) ** 2
    bound = None
    if gain_known:
        ideal = window.slope(sphere)[_FREE] * replace(window, read=0.0).weigh(sphere).ravel()
        bound = 2 * math.sqrt(max(invert(ideal @ ideal.T)[_RADIUS, _RADIUS], 0))
    dip = window.dip(sphere) * weight
    significance = math.sqrt(max(float(np.sum(dip * (dip @ likelihood.whiten))), 0) / dispersion)
    if unguided and likelihood.is_ambiguous(found, best, dispersion):
        reason = "more than one sphere fits the counts; start from the enhanced frame, or average frames"
        return SphereFit(profile.unit, bound=bound, significance=significance, refused=reason)
    low, high = likelihood.find_interval(best, dispersion)
    least = LEAST_UNGUIDED_SIGNIFICANCE if unguided else LEAST_SIGNIFICANCE
    result = conclude(profile, sphere, (high - low) / _QUANTILE, significance, bound, least)
    return result if result.refused else replace(result, diameter_ci95=(2 * low, 2 * high))


def _fit_turned(
    counts: npt.NDArray[Any],
    line: Line,
    pixel_size_nm: tuple[float, float] | None,
    counts_per_electron: float | None,
    start: SphereFit | None,
    blur_px: float,
) -> SphereFit:
    """Fit with rows and columns exchanged, so that rows are read-out lines."""
    turned = Line(line.start[::-1], line.stop[::-1], line.width_px)
    size = None if pixel_size_nm is None else (pixel_size_nm[1], pixel_size_nm[0])
    if start is not None:
        start = replace(start, row_px=start.col_px, col_px=start.row_px)
    found = fit_counts(counts.T, turned, size, counts_per_electron, start=start, blur_px=blur_px)
    return replace(found, row_px=found.col_px, col_px=found.row_px, off_line=-found.off_line)


@dataclass(frozen=True, eq=False)
class _Likelihood:
    """Counts around a particle as Poisson numbers of correlated lines; `whiten` inverts the correlation."""

    window: Window
    whiten: F64

    def misfit(self, values: F64, weight: F64) -> float:
        """Squares of the errors over the weights' variances, whitened."""
        errors = (self.window.pixels - self.window.model(SphereParameters(*values))) * weight
        return float(np.sum(errors * (errors @ self.whiten)))

    def maximise_all(self, first: list[F64], level: float | None) -> tuple[_Likelihood, list[F64]]:
        """Maximise from each first sphere; with a camera's own noise where the `level` is known."""
        found = [self.maximise(values) for values in first]
        mean = self.window.model(SphereParameters(*self.choose(found)))[self.window.kept]
        read = float(np.var(self.window.pixels[self.window.kept] - mean) - mean.mean())
        if level is None or read <= LEAST_READ_NOISE * level:
            return self, found
        # a camera's own noise does not fall with the intensity: dark pixels tell no more than others
        noisy = replace(self, window=replace(self.window, read=read))
        return noisy, [noisy.maximise(values) for values in found]

    def choose(self, found: list[F64]) -> F64:
        """Return the values of least misfit, all by the same weights."""
        weight = self.window.weigh(SphereParameters(*found[0]))
        return min(found, key=lambda values: self.misfit(values, weight))

    def is_ambiguous(self, found: list[F64], best: F64, dispersion: float) -> bool:
        """Whether another sphere explains the counts about as well."""
        weight = self.window.weigh(SphereParameters(*best))
        least = self.misfit(best, weight)
        for values in found:
            is_other = abs(values[_RADIUS] / best[_RADIUS] - 1) > OTHER_RADIUS
            is_other |= bool(np.hypot(*(values[:2] - best[:2])) > OTHER_CENTER * best[_RADIUS])
            if is_other and self.misfit(values, weight) - least < _QUANTILE**2 * dispersion:
                return True
        return False

    def maximise(self, first: F64, free: F64 = _FREE, weight: F64 | None = None) -> F64:
        """Fisher scoring with damping over the `free` parameters; with a given weight, least squares."""
        window, values, damping = self.window, first.copy(), 1e-3
        start = SphereParameters(*first)
        reach = COUNTS_SHIFT * start.radius

        def limit(trial: F64) -> F64:
            row, col, radius, contrast, sigma, level, *slopes = trial
            return np.array(
                [
                    np.clip(row, start.row - reach, start.row + reach),
                    np.clip(col, start.col - reach, start.col + reach),
                    np.clip(radius, COUNTS_RADII[0] * window.pixel, COUNTS_RADII[1] * start.radius),
                    np.clip(contrast, *COUNTS_CONTRASTS),
                    sigma,
                    max(level, 1e-3 * start.level),
                    *slopes,
                ]
            )

        for _ in range(COUNTS_ROUNDS):
            # a round's own weights judge its step: those of the trial would reward high means
            sphere = SphereParameters(*values)
            now = window.weigh(sphere) if weight is None else weight
            slope = window.slope(sphere)[free].reshape(len(free), *now.shape) * now
            whitened = slope @ self.whiten
            errors = (window.pixels - window.model(sphere)) * now
            information = np.tensordot(whitened, slope, ((1, 2), (1, 2)))
            pull = np.tensordot(whitened, errors, ((1, 2), (0, 1)))
            diagonal = np.diag(information)
            before, gain = self.misfit(values, now), 0.0
            while damping < 1e6:
                step = np.zeros(8)
                # a parameter that changes nothing stays
                ridge = np.diag(np.where(diagonal > 0, damping * diagonal, 1.0))
                step[free] = np.linalg.solve(information + ridge, pull)
                trial = limit(values + step)
                gain = before - self.misfit(trial, now)
                if gain >= 0:
                    values, damping = trial, damping / 10
                    break
                damping *= 5
            if gain < 1e-5:
                break
        return values

    def find_interval(self, best: F64, dispersion: float) -> tuple[float, float]:
        """Radii at which the misfit, least over all else, is 1.96² dispersions above its least."""
        weight = self.window.weigh(SphereParameters(*best))
        others = _FREE[_FREE != _RADIUS]
        least = self.misfit(best, weight)

        def rise(radius: float, values: F64) -> tuple[float, F64]:
            values = values.copy()
            values[_RADIUS] = radius
            values = self.maximise(values, others, weight)
            return math.sqrt(max(self.misfit(values, weight) - least, 0.0) / dispersion), values

        def find_end(sign: float) -> float:
            inner, at_inner = float(best[_RADIUS]), 0.0
            factor, values = 1.05, best
            while True:
                radius = inner * factor**sign
                height, moved = rise(radius, values)
                if height >= _QUANTILE:
                    share = (_QUANTILE - at_inner) / max(height - at_inner, 1e-9)
                    return float(inner + (radius - inner) * share)
                # as far again as the last step was short
                factor = min(1.3, 1 + (factor - 1) * _QUANTILE / max(height, _QUANTILE / 2))
                inner, at_inner, values = radius, height, moved
                if not 1 / FARTHEST_RADIUS < radius / best[_RADIUS] < FARTHEST_RADIUS:
                    return float(radius)

        return find_end(-1.0), find_end(1.0)
