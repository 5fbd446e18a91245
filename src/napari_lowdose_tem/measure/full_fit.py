"""The full fit: blurred spheres, background and slope together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure import first_guess as guess
from napari_lowdose_tem.measure.background import Known, find_segments
from napari_lowdose_tem.measure.errors import estimate_covariance
from napari_lowdose_tem.measure.fit_result import SMALLEST_RADIUS_PX, Fitted, RefusedError
from napari_lowdose_tem.measure.measurement import Background, FitOptions
from napari_lowdose_tem.measure.profile import Profile, measure_inflation
from napari_lowdose_tem.measure.sphere import OVERSAMPLING, model_line

NETWORK_BLUR_PX = 1.4
"""Gaussian σ of edges in enhanced frames [px]."""

_SIGMA_PX = (0.29, 8.0)  # the pixel itself blurs by 1/√12
_CONTRAST = (0.003, 8.0)
_STRETCH = (1.0, 25.0)
_NETWORK_NOISE = 0.02  # of the background
_NETWORK_BLUR_SPREAD = 0.3  # of its logarithm


def fit_full(profile: Profile, start: guess.Start, known: Known | None, options: FitOptions) -> Fitted:
    """Fit blurred spheres, background and slope together."""
    from scipy.optimize import least_squares

    count, pixel, length = len(start.centers), profile.pixel, profile.length
    finite = np.isfinite(profile.intensity)
    data = profile.intensity[finite]
    x = (profile.position - length / 2) / length
    level = (
        float(np.median(guess.guess_background(profile)[finite])) if known is None else known.background.level
    )
    level = level if level > 0 else float(np.max(data))
    unit = level or 1.0
    stretched = not options.offset_known

    def split(values: F64) -> tuple[F64, F64, F64, float, float, float, float]:
        spheres = values[: 3 * count].reshape(count, 3)
        sigma, height, slope = math.exp(values[3 * count]), values[3 * count + 1], values[3 * count + 2]
        stretch = math.exp(values[3 * count + 3]) if stretched else 1.0
        return (
            spheres[:, 0], np.exp(spheres[:, 1]), np.exp(spheres[:, 2]), sigma, height, slope, stretch
        )  # fmt: skip

    def model(values: F64) -> F64:
        centers, radii, contrasts, sigma, height, slope, stretch = split(values)
        transmission = model_profile(profile, profile.position, centers, radii, contrasts, sigma)
        return np.asarray((height + slope * x) * (1 - stretch * (1 - transmission)))

    def misfit(values: F64) -> F64:
        return np.asarray((model(values)[finite] * unit - data) / unit)

    def derive(values: F64) -> F64:
        # background and slope enter linearly
        jacobian = np.empty((len(data), len(values)))
        at = misfit(values)
        for column in range(len(values)):
            if column in (3 * count + 1, 3 * count + 2):
                continue
            move = np.zeros(len(values))
            move[column] = steps[column]
            jacobian[:, column] = (misfit(values + move) - at) / steps[column]
        base = values[3 * count + 1] + values[3 * count + 2] * x[finite]
        loss = (at + data / unit) / np.where(base > 0, base, 1.0)
        jacobian[:, 3 * count + 1] = loss
        jacobian[:, 3 * count + 2] = loss * x[finite]
        return jacobian

    # a network draws edges of its own; without some knowledge of its blur one line cannot tell blur, contrast
    # and diameter apart
    prior = _NETWORK_NOISE / _NETWORK_BLUR_SPREAD if options.is_enhanced else 0.0

    def misfit_and_prior(values: F64) -> F64:
        blur = values[3 * count] - math.log(NETWORK_BLUR_PX * pixel)
        return np.append(misfit(values), prior * blur)

    def derive_all(values: F64) -> F64:
        return np.vstack([derive(values), prior * (np.arange(len(values)) == 3 * count)])

    low_sigma, high_sigma = (
        _SIGMA_PX[0] * pixel,
        max(_SIGMA_PX[1] * pixel, 0.1 * length),
    )
    contrasts = np.clip(start.contrasts, 2 * _CONTRAST[0], 0.5 * _CONTRAST[1])
    first = [
        *np.stack([start.centers, np.log(start.radii), np.log(contrasts)], 1).ravel(),
        math.log(min(1.2 * max(pixel, profile.step), 0.5 * high_sigma)), level / unit, 0.0,
    ]  # fmt: skip
    low = [
        *[-0.2 * length, math.log(0.5 * SMALLEST_RADIUS_PX * pixel), math.log(_CONTRAST[0])] * count,
        math.log(low_sigma), 0.0, -2.0,
    ]  # fmt: skip
    high = [
        *[1.2 * length, math.log(2 * length), math.log(_CONTRAST[1])] * count,
        math.log(high_sigma), 50.0, 2.0,
    ]  # fmt: skip
    scale = [*[pixel, 0.1, 0.1] * count, 0.2, 0.01, 0.02]
    if stretched:
        first, low, high, scale = (
            [*first, 0.3], [*low, math.log(_STRETCH[0])], [*high, math.log(_STRETCH[1])], [*scale, 0.2]
        )  # fmt: skip
    steps = np.asarray(scale) * 1e-4
    found = least_squares(
        misfit_and_prior,
        np.clip(first, np.add(low, 1e-6), np.subtract(high, 1e-6)),
        derive_all, bounds=(low, high), x_scale=scale, max_nfev=80, xtol=1e-8, ftol=1e-9, gtol=1e-12,
    )  # fmt: skip
    spheres = found.x[: 3 * count].reshape(count, 3)
    values = np.append(spheres[np.argsort(spheres[:, 0])], found.x[3 * count :])
    centers, radii, contrasts, sigma, height, slope, stretch = split(values)
    _check_bounds(values, low, high, count, sigma, radii, low_sigma)
    residuals = misfit(values)
    jacobian = derive(values)
    # a blur at its lower bound is known: that of the pixel
    free = np.ones(len(values), bool)
    free[3 * count] = sigma > 1.02 * low_sigma
    try:
        covariance = np.zeros((len(values),) * 2)
        covariance[np.ix_(free, free)], dof = estimate_covariance(
            jacobian[:, free], residuals, measure_inflation(profile)
        )
    except np.linalg.LinAlgError:
        raise RefusedError(
            f"the profile does not constrain {count} particle{'s' * (count > 1)}; "
            + ("choose fewer, or " if count > 1 else "")
            + "draw the line longer, past the particle on both sides"
        ) from None
    places = np.arange(3 * count).reshape(count, 3)
    transform = np.zeros((2 * count, len(values)))
    for i, (center, log_radius, _) in enumerate(places):
        transform[2 * i, center], transform[2 * i + 1, log_radius] = 1.0, radii[i]
    fine = np.linspace(0, length, (len(profile.position) - 1) * OVERSAMPLING + 1)
    base_fine = unit * (height + slope * (fine / length - 0.5))
    curve = model_profile(profile, fine, centers, radii, contrasts, sigma, 1)
    scatter = math.sqrt(float(residuals @ residuals) / max(len(data) - len(values), 1))
    return Fitted(
        centers=centers,
        radii=radii,
        contrasts=contrasts,
        sigma=sigma,
        background=Background(
            unit * height,
            unit * math.sqrt(covariance[3 * count + 1, 3 * count + 1]),
            unit * slope / length,
            options.background or find_segments(profile, centers, radii, sigma),
        ),
        covariance=transform @ covariance @ transform.T,
        contrast_se=contrasts * np.sqrt(np.diag(covariance)[places[:, 2]]),
        dof=dof,
        significance=_weigh_dips(
            profile, centers, radii, contrasts * stretch, sigma, scatter, len(data) / (dof + len(values))
        ),
        base=unit * (height + slope * x),
        position=fine,
        curve=base_fine * (1 - stretch * (1 - curve)),
        used=finite,
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


def _weigh_dips(
    profile: Profile,
    centers: F64,
    radii: F64,
    contrasts: F64,
    sigma: float,
    scatter: float,
    inflation: float,
) -> F64:
    """Depth of each dip over its standard error, as a matched filter sees it."""
    dips = [
        1 - model_profile(profile, profile.position, (c,), (r,), (k,), sigma)
        for c, r, k in zip(centers, radii, contrasts, strict=True)
    ]
    strength = np.sqrt([float(dip @ dip) for dip in dips])
    return strength / max(scatter * math.sqrt(inflation), 1e-12)


def _check_bounds(
    values: F64,
    low: Sequence[float],
    high: Sequence[float],
    count: int,
    sigma: float,
    radii: F64,
    low_sigma: float,
) -> None:
    span = np.subtract(high, low)
    stuck = (values - low < 1e-4 * span) | (np.subtract(high, values) < 1e-4 * span)
    names = ["position", "radius", "contrast"] * count + ["blur", "background", "slope", "stretch"]
    stuck[3 * count] &= sigma > 1.1 * low_sigma  # as sharp as the pixel is a result
    stuck[3 * count + 3 :] = False  # no offset is a result
    at = [names[i] for i in np.flatnonzero(stuck)]
    if at and at[0] == "position":
        raise RefusedError(
            "the particle extends past the end of the line; draw the line from background to background"
        )
    if at:
        shape = "a sphere" if count == 1 else f"{count} spheres"
        raise RefusedError(
            f"not {shape}: the fit hit its {at[0]} limit; draw the line across round particles"
        )
    if sigma > radii.min():
        raise RefusedError(
            "the particle is no larger than the blur and has no measurable diameter; use higher magnification"
        )
