"""The full fit: blurred spheres, background and slope together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.background import MeasuredBackground, find_background_segments
from napari_lowdose_tem.measure.errors import estimate_covariance
from napari_lowdose_tem.measure.first_guess import FirstGuess, guess_background
from napari_lowdose_tem.measure.fit_result import FitResult, RefusedError
from napari_lowdose_tem.measure.measurement import Background, FitOptions
from napari_lowdose_tem.measure.profile import Profile, measure_inflation
from napari_lowdose_tem.measure.sphere import OVERSAMPLING, model_line
from napari_lowdose_tem.measure.thresholds import (
    BEYOND_LINE,
    LARGEST_CONTRAST,
    LARGEST_LEVEL,
    LARGEST_RADIUS,
    LARGEST_SIGMA,
    LARGEST_SIGMA_PX,
    LARGEST_SLOPE,
    LARGEST_STRETCH,
    LEAST_CONTRAST,
    NETWORK_BLUR_PX,
    NETWORK_BLUR_SPREAD,
    NETWORK_NOISE,
    PIXEL_SIGMA_PX,
    SHARP,
    SMALLEST_RADIUS_PX,
)


def fit_full(
    profile: Profile, guess: FirstGuess, marked: MeasuredBackground | None, options: FitOptions
) -> FitResult:
    """Fit blurred spheres, background and slope together."""
    from scipy.optimize import least_squares

    finite = np.isfinite(profile.intensity)
    level = float(np.median(guess_background(profile)[finite])) if marked is None else marked.background.level
    model = _FullModel(profile, len(guess.centers), level, not options.offset_known, options.is_enhanced)
    limits = model.limit(guess)
    found = least_squares(
        model.misfit_and_prior,
        np.clip(limits.first, np.add(limits.low, 1e-6), np.subtract(limits.high, 1e-6)),
        model.derive_all, bounds=(limits.low, limits.high), x_scale=model.scale,
        max_nfev=80, xtol=1e-8, ftol=1e-9, gtol=1e-12,
    )  # fmt: skip
    spheres = found.x[: 3 * model.count].reshape(model.count, 3)
    values = np.append(spheres[np.argsort(spheres[:, 0])], found.x[3 * model.count :])
    model.check(values, limits)
    return model.report(values, options)


class _Parameters(NamedTuple):
    """Spheres [unit], blur [unit], background at the middle and its change along the line [level]."""

    centers: F64
    radii: F64
    contrasts: F64
    sigma: float
    height: float
    slope: float
    stretch: float


class _Limits(NamedTuple):
    """First values of the fit and their bounds."""

    first: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True, eq=False)
class _FullModel:
    """The profile as a function of `values`.

    These are place, logarithm of the radius and of K of each sphere, logarithm of the blur, background, its
    slope, and for stretched images the logarithm of the stretch.
    """

    profile: Profile
    count: int
    level: float
    stretched: bool
    is_enhanced: bool

    @property
    def _sigma(self) -> int:
        """Index of the blur, behind which the background and its slope follow."""
        return 3 * self.count

    @cached_property
    def _finite(self) -> npt.NDArray[np.bool_]:
        return np.isfinite(self.profile.intensity)

    @cached_property
    def _x(self) -> F64:
        return (self.profile.position - self.profile.length / 2) / self.profile.length

    @property
    def scale(self) -> list[float]:
        """Return how far each value changes the profile about as much as the others."""
        stretch = [0.2] if self.stretched else []
        return [*[self.profile.pixel, 0.1, 0.1] * self.count, 0.2, 0.01, 0.02, *stretch]

    @property
    def _least_sigma(self) -> float:
        return PIXEL_SIGMA_PX * self.profile.pixel

    def limit(self, guess: FirstGuess) -> _Limits:
        """Return where to begin, and where to end."""
        pixel, length = self.profile.pixel, self.profile.length
        largest_sigma = max(LARGEST_SIGMA_PX * pixel, LARGEST_SIGMA * length)
        contrasts = np.clip(guess.contrasts, 2 * LEAST_CONTRAST, 0.5 * LARGEST_CONTRAST)
        first = [
            *np.stack([guess.centers, np.log(guess.radii), np.log(contrasts)], 1).ravel(),
            math.log(1.2 * max(pixel, self.profile.step)), 1.0, 0.0,
        ]  # fmt: skip
        least_radius = math.log(0.5 * SMALLEST_RADIUS_PX * pixel)
        low = [
            *[-BEYOND_LINE * length, least_radius, math.log(LEAST_CONTRAST)] * self.count,
            math.log(self._least_sigma), 0.0, -LARGEST_SLOPE,
        ]  # fmt: skip
        high = [
            *[(1 + BEYOND_LINE) * length, math.log(LARGEST_RADIUS * length), math.log(LARGEST_CONTRAST)]
            * self.count,
            math.log(largest_sigma), LARGEST_LEVEL, LARGEST_SLOPE,
        ]  # fmt: skip
        if not self.stretched:
            return _Limits(first, low, high)
        return _Limits([*first, 0.3], [*low, 0.0], [*high, math.log(LARGEST_STRETCH)])

    def split(self, values: F64) -> _Parameters:
        """Return the parameters behind the values."""
        spheres = values[: self._sigma].reshape(self.count, 3)
        sigma, height, slope = values[self._sigma : self._sigma + 3]
        stretch = math.exp(values[-1]) if self.stretched else 1.0
        return _Parameters(
            spheres[:, 0], np.exp(spheres[:, 1]), np.exp(spheres[:, 2]),
            math.exp(sigma), height, slope, stretch,
        )  # fmt: skip

    def misfit(self, values: F64) -> F64:
        """Model less data at the samples with a value [level]."""
        p = self.split(values)
        transmission = model_profile(
            self.profile, self.profile.position, p.centers, p.radii, p.contrasts, p.sigma
        )
        model = np.asarray((p.height + p.slope * self._x) * (1 - p.stretch * (1 - transmission)))
        data = self.profile.intensity[self._finite]
        return np.asarray((model[self._finite] * self.level - data) / self.level)

    def derive(self, values: F64) -> F64:
        """Return the derivatives of `misfit` (samples, values)."""
        data, x = self.profile.intensity[self._finite], self._x[self._finite]
        steps = np.asarray(self.scale) * 1e-4
        height, slope = self._sigma + 1, self._sigma + 2
        jacobian = np.empty((len(data), len(values)))
        at = self.misfit(values)
        for column in range(len(values)):
            if column in (height, slope):
                continue
            move = np.zeros(len(values))
            move[column] = steps[column]
            jacobian[:, column] = (self.misfit(values + move) - at) / steps[column]
        # background and slope enter linearly
        base = values[height] + values[slope] * x
        loss = (at + data / self.level) / np.where(base > 0, base, 1.0)
        jacobian[:, height] = loss
        jacobian[:, slope] = loss * x
        return jacobian

    @property
    def _prior(self) -> float:
        """Weight of what is known of a network's blur.

        A network draws edges of its own; without some knowledge of its blur one line cannot tell blur,
        contrast and diameter apart.
        """
        return NETWORK_NOISE / NETWORK_BLUR_SPREAD if self.is_enhanced else 0.0

    def misfit_and_prior(self, values: F64) -> F64:
        """Return `misfit`, and the blur's distance from a network's."""
        blur = values[self._sigma] - math.log(NETWORK_BLUR_PX * self.profile.pixel)
        return np.append(self.misfit(values), self._prior * blur)

    def derive_all(self, values: F64) -> F64:
        """Return the derivatives of `misfit_and_prior`."""
        return np.vstack([self.derive(values), self._prior * (np.arange(len(values)) == self._sigma)])

    def check(self, values: F64, limits: _Limits) -> None:
        """Refuse a fit that ended at a limit."""
        p = self.split(values)
        span = np.subtract(limits.high, limits.low)
        stuck = (values - limits.low < 1e-4 * span) | (np.subtract(limits.high, values) < 1e-4 * span)
        stuck[self._sigma] &= p.sigma > SHARP * self._least_sigma  # as sharp as the pixel is a result
        stuck[self._sigma + 3 :] = False  # no offset is a result
        names = ["position", "radius", "contrast"] * self.count + ["blur", "background", "slope", "stretch"]
        at = [names[i] for i in np.flatnonzero(stuck)]
        if at and at[0] == "position":
            raise RefusedError(
                "the particle extends past the end of the line; draw the line from background to background"
            )
        if at:
            shape = "a sphere" if self.count == 1 else f"{self.count} spheres"
            raise RefusedError(
                f"not {shape}: the fit hit its {at[0]} limit; draw the line across round particles"
            )
        if p.sigma > p.radii.min():
            raise RefusedError(
                "the particle is no larger than the blur and has no measurable diameter; "
                "use higher magnification"
            )

    def covariance(self, values: F64) -> tuple[F64, float]:
        """Of the values, and the degrees of freedom."""
        free = np.ones(len(values), bool)
        # a blur at its lower bound is known: that of the pixel
        free[self._sigma] = self.split(values).sigma > SHARP * self._least_sigma
        covariance = np.zeros((len(values),) * 2)
        try:
            covariance[np.ix_(free, free)], dof = estimate_covariance(
                self.derive(values)[:, free], self.misfit(values), measure_inflation(self.profile)
            )
        except np.linalg.LinAlgError:
            raise RefusedError(
                f"the profile does not constrain {self.count} particle{'s' * (self.count > 1)}; "
                + ("choose fewer, or " if self.count > 1 else "")
                + "draw the line longer, past the particle on both sides"
            ) from None
        return covariance, dof

    def report(self, values: F64, options: FitOptions) -> FitResult:
        """Return what was found, with its errors."""
        profile, count, unit, p = self.profile, self.count, self.level, self.split(values)
        covariance, dof = self.covariance(values)
        residuals = self.misfit(values)
        places = np.arange(3 * count).reshape(count, 3)
        transform = np.zeros((2 * count, len(values)))
        for i, (center, log_radius, _) in enumerate(places):
            transform[2 * i, center], transform[2 * i + 1, log_radius] = 1.0, p.radii[i]
        fine = np.linspace(0, profile.length, (len(profile.position) - 1) * OVERSAMPLING + 1)
        base_fine = unit * (p.height + p.slope * (fine / profile.length - 0.5))
        curve = model_profile(profile, fine, p.centers, p.radii, p.contrasts, p.sigma, 1)
        n = len(residuals)
        scatter = math.sqrt(float(residuals @ residuals) / max(n - len(values), 1))
        inflation = n / (dof + len(values))
        return FitResult(
            centers=p.centers,
            radii=p.radii,
            contrasts=p.contrasts,
            sigma=p.sigma,
            background=Background(
                unit * p.height,
                unit * math.sqrt(covariance[self._sigma + 1, self._sigma + 1]),
                unit * p.slope / profile.length,
                options.background or find_background_segments(profile, p.centers, p.radii, p.sigma),
            ),
            covariance=transform @ covariance @ transform.T,
            contrast_se=p.contrasts * np.sqrt(np.diag(covariance)[places[:, 2]]),
            dof=dof,
            significance=_weigh_dips(profile, p) / max(scatter * math.sqrt(inflation), 1e-12),
            base=unit * (p.height + p.slope * self._x),
            position=fine,
            curve=base_fine * (1 - p.stretch * (1 - curve)),
            used=self._finite,
            misfit=float(np.sqrt(np.mean(residuals**2))),
        )


def model_profile(
    profile: Profile,
    position: F64,
    centers: Sequence[float] | F64,
    radii: Sequence[float] | F64,
    contrasts: Sequence[float] | F64,
    sigma: float,
    oversampling: int = OVERSAMPLING,
) -> npt.NDArray[np.floating[Any]]:
    """Transmission along a profile's line, with its width and pixels; arguments as `model_line`."""
    return model_line(
        position, tuple(centers), tuple(radii), tuple(contrasts), sigma, profile.width, oversampling,
        profile.across_excess,
    )  # fmt: skip


def _weigh_dips(profile: Profile, p: _Parameters) -> F64:
    """Strength of each dip, as a matched filter sees it."""
    dips = [
        1 - model_profile(profile, profile.position, (c,), (r,), (k,), p.sigma)
        for c, r, k in zip(p.centers, p.radii, p.contrasts * p.stretch, strict=True)
    ]
    return np.asarray(np.sqrt([float(dip @ dip) for dip in dips]))
