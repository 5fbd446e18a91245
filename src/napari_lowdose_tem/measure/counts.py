"""Spheres on raw counts, by the likelihood of the electrons."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.camera.streaks import measure_streaks
from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.fit_result import LEAST_SIGNIFICANCE
from napari_lowdose_tem.measure.profile import Line, sample_line
from napari_lowdose_tem.measure.sphere_fit import guess_values
from napari_lowdose_tem.measure.sphere_window import SphereFit, Window, conclude, invert

BLUR_PX = 1.1
"""Gaussian σ of optics, camera and pixel [px], for raw frames, in which no blur can be seen."""

_ROUNDS = 40
_FREE = np.array([0, 1, 2, 3, 5, 6, 7])  # of the parameters, without the blur
_RADIUS = 2
_QUANTILE = 1.96
_FACTORS = (0.7, 1.0, 1.4)
_LEAST_READ = 0.1  # variance beyond Poisson's that counts, of the background
_LEAST_ALONE = 6.0  # significance of a sphere found on the counts alone
_STEPS = 14  # towards an end of the interval
_MOST_CONTRAST = 6.0
_FARTHEST = 2.5  # times the best radius


def fit_counts(
    counts: npt.NDArray[Any],
    line: Line,
    pixel_size_nm: tuple[float, float] | None = None,
    counts_per_electron: float | None = None,
    *,
    start: SphereFit | None = None,
    blur_px: float = BLUR_PX,
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
    first: F64 | str
    if start is not None and not start.refused:
        place = [start.row_px * profile.pixel_size[0], start.col_px * profile.pixel_size[1]]
        first = np.array([*place, start.diameter / 2, -math.log(start.t_min), 0, 0, 0, 0])
        factors: tuple[float, ...] = (1.0,)
    else:
        # as wide as the frame allows: the first that lies on it
        widths = [max(line.width_px, line.length_px / 4 / 2**i) for i in range(4)]
        wide = [sample_line(counts, replace(line, width_px=w), pixel_size_nm) for w in widths]
        first = guess_values(next((p for p in wide if np.isfinite(p.intensity).all()), wide[-1]))
        factors = _FACTORS
    if isinstance(first, str):
        return SphereFit(profile.unit, refused=first)
    candidates = [np.where(np.arange(8) == _RADIUS, f, 1.0) * first for f in factors]
    window = Window.around(counts, profile, candidates[-1], counts_per_electron or 1.0)
    level = float(np.mean(window.pixels[window.kept])) if window.kept.any() else 0.0
    if not level > 0:
        return SphereFit(profile.unit, refused="no counts above zero around the line; choose the raw frame")
    for candidate in candidates:
        candidate[4:6] = blur_px * profile.pixel, level
    likelihood = _Likelihood(window, streaks.invert(window.pixels.shape[1]))
    found = [likelihood.maximise(candidate) for candidate in candidates]
    values = likelihood.choose(found)
    mean = window.model(values)[window.kept]
    read = float(np.var(window.pixels[window.kept] - mean) - mean.mean())
    if counts_per_electron and read > _LEAST_READ * level:
        # a camera's own noise does not fall with the intensity: dark pixels tell no more than others
        window = replace(window, read=read)
        likelihood = replace(likelihood, window=window)
        found = [likelihood.maximise(candidate) for candidate in found]
        values = likelihood.choose(found)
    if values[3] > 0.99 * _MOST_CONTRAST:
        reason = "no electrons pass through the particle's centre; use the full fit on a line"
        return SphereFit(profile.unit, refused=reason)
    weight = window.weigh(values)
    dispersion = likelihood.misfit(values, weight) / max(int(window.kept.sum()) - len(_FREE), 1)
    dispersion *= window.inflation(values, streaks) ** 2
    bound = None
    if counts_per_electron:
        ideal = window.slope(values)[_FREE] * replace(window, read=0.0).weigh(values).ravel()
        bound = 2 * math.sqrt(max(invert(ideal @ ideal.T)[_RADIUS, _RADIUS], 0))
    dip = window.dip(values) * weight
    significance = math.sqrt(max(float(np.sum(dip * (dip @ likelihood.whiten))), 0) / dispersion)
    if start is None and likelihood.is_ambiguous(found, values, dispersion):
        reason = "more than one sphere fits the counts; start from the enhanced frame, or average frames"
        return SphereFit(profile.unit, bound=bound, significance=significance, refused=reason)
    low, high = likelihood.find_interval(values, dispersion)
    least = LEAST_SIGNIFICANCE if start is not None else _LEAST_ALONE
    result = conclude(profile, values, (high - low) / _QUANTILE, significance, bound, least)
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
        errors = (self.window.pixels - self.window.model(values)) * weight
        return float(np.sum(errors * (errors @ self.whiten)))

    def choose(self, found: list[F64]) -> F64:
        """Return the values of least misfit, all by the same weights."""
        weight = self.window.weigh(found[0])
        return min(found, key=lambda values: self.misfit(values, weight))

    def is_ambiguous(self, found: list[F64], best: F64, dispersion: float) -> bool:
        """Whether another sphere explains the counts about as well."""
        weight = self.window.weigh(best)
        least = self.misfit(best, weight)
        for values in found:
            is_other = abs(values[_RADIUS] / best[_RADIUS] - 1) > 0.3
            is_other |= bool(np.hypot(*(values[:2] - best[:2])) > best[_RADIUS] / 2)
            if is_other and self.misfit(values, weight) - least < _QUANTILE**2 * dispersion:
                return True
        return False

    def maximise(self, first: F64, free: F64 = _FREE, weight: F64 | None = None) -> F64:
        """Fisher scoring with damping over the `free` parameters; with a given weight, least squares."""
        window, values, damping = self.window, first.copy(), 1e-3
        reach = 1.5 * first[_RADIUS]

        def limit(trial: F64) -> F64:
            trial[:2] = np.clip(trial[:2], first[:2] - reach, first[:2] + reach)
            trial[2] = np.clip(trial[2], 0.75 * window.pixel, 2.2 * first[2])
            trial[3] = np.clip(trial[3], 0.01, _MOST_CONTRAST)
            trial[5] = max(trial[5], 1e-3 * first[5])
            return trial

        for _ in range(_ROUNDS):
            # a round's own weights judge its step: those of the trial would reward high means
            now = window.weigh(values) if weight is None else weight
            slope = window.slope(values)[free].reshape(len(free), *now.shape) * now
            whitened = slope @ self.whiten
            errors = (window.pixels - window.model(values)) * now
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
        weight = self.window.weigh(best)
        others = _FREE[_FREE != _RADIUS]
        least = self.misfit(best, weight)

        def rise(radius: float, values: F64) -> tuple[float, F64]:
            values = values.copy()
            values[_RADIUS] = radius
            values = self.maximise(values, others, weight)
            return math.sqrt(max(self.misfit(values, weight) - least, 0.0) / dispersion), values

        def find_end(sign: float) -> float:
            inner, outer, at_inner = float(best[_RADIUS]), 0.0, 0.0
            factor, values = 1.05, best
            for _ in range(_STEPS):
                radius = inner * factor**sign
                height, moved = rise(radius, values)
                if height >= _QUANTILE:
                    outer = radius
                    break
                # as far again as the last step was short
                factor = min(1.3, 1 + (factor - 1) * min(2.0, _QUANTILE / max(height, 0.2)))
                inner, at_inner, values = radius, height, moved
                if not 1 / _FARTHEST < radius / best[_RADIUS] < _FARTHEST:
                    return float(radius)
            if not outer:
                return inner
            share = (_QUANTILE - at_inner) / max(height - at_inner, 1e-9)
            return float(inner + (outer - inner) * share)

        return find_end(-1.0), find_end(1.0)
