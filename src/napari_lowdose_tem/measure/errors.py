"""Standard errors: from residuals whose errors are correlated, and from what the electrons allow.

A network's output is smooth, so that its residuals hardly show its errors. What it can know is bounded by
the electrons of the frame it was made from: to the error from the residuals comes, for such frames, a
multiple of the Cramér–Rao bound of the same sphere at the noise of the raw frame. The multiple is calibrated
on simulated frames of known truth (docs/measurement.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.sphere import model_disc
from napari_lowdose_tem.measure.thresholds import MOST_LAGS


@dataclass(frozen=True)
class SphereErrors:
    """Standard errors of centre (along one axis) and diameter [the unit of the radius]."""

    center: float
    diameter: float


def estimate_covariance(jacobian: F64, residuals: F64, least_inflation: float = 1.0) -> tuple[F64, float]:
    """Covariance of least-squares parameters, inflated by the correlation of the residuals.

    Parameters
    ----------
    jacobian
        Of the residuals, (samples, parameters).
    residuals
        At the solution (samples,).
    least_inflation
        Inflation of the variance that is known beforehand, as of `measure_inflation`.

    Returns
    -------
    Covariance (parameters, parameters), and the degrees of freedom that the correlation leaves.

    Raises
    ------
    numpy.linalg.LinAlgError
        Where the data do not determine the parameters.
    """
    n, p = jacobian.shape
    scale = np.linalg.norm(jacobian, axis=0)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise np.linalg.LinAlgError("a parameter changes nothing")
    scaled = jacobian / scale
    information = scaled.T @ scaled
    if np.linalg.cond(information) > 1e12:
        raise np.linalg.LinAlgError("the parameters cannot be told apart")
    inverse = np.linalg.inv(information)
    lags = min(MOST_LAGS, n // 5)
    total = float(residuals @ residuals)
    if total == 0:
        return np.zeros((p, p)), float(n - p)
    correlation = 0.0
    for lag in range(1, lags + 1):
        r = float(residuals[lag:] @ residuals[:-lag]) / total
        if r <= 1 / math.sqrt(n):  # what follows is chance
            break
        correlation += r
    inflation = max(1 + 2 * correlation, least_inflation)
    plain = inverse * (total / max(n - p, 1)) * inflation
    return np.asarray(plain / np.outer(scale, scale)), max(1.0, n / inflation - p)


def bound_sphere(
    radius: float, contrast: float, sigma: float, pixel: float, noise: float, *, poisson: bool = False
) -> SphereErrors:
    """Cramér–Rao bound of one sphere alone; arguments and errors as `bound_spheres`."""
    covariance = bound_spheres([0.0], [radius], [contrast], sigma, pixel, noise, poisson=poisson)
    place, radius_se, _ = np.sqrt(np.diag(covariance)).tolist()
    return SphereErrors(place, 2 * radius_se)


def bound_spheres(
    centers: npt.ArrayLike,
    radii: npt.ArrayLike,
    contrasts: npt.ArrayLike,
    sigma: float,
    pixel: float,
    noise: float,
    *,
    poisson: bool = False,
) -> F64:
    """Cramér–Rao bound of spheres in a row on a level background, from a whole frame of independent pixels.

    Places, radii, contrasts and background are unknown, the blur known. Of spheres that touch or overlap
    each is known less well than it would be alone, and the errors of neighbours depend on each other.

    Parameters
    ----------
    centers, radii
        Of the spheres (n,): place along the row, and radius [one unit of length].
    contrasts
        K = -ln T_min (n,).
    sigma, pixel
        Blur, and side of a pixel [the same unit].
    noise
        Of a pixel of bare background, relative to it (r.m.s.).
    poisson
        The variance falls with the intensity; else it is the same everywhere.

    Returns
    -------
    Covariance (3n, 3n) of place, radius and contrast of the spheres in turn.

    Raises
    ------
    numpy.linalg.LinAlgError
        For spheres that are no different from the background or from each other.
    """
    spheres = np.stack([np.asarray(v, np.float64) for v in (centers, radii, contrasts)], axis=1)
    reach = 1.6 * spheres[:, 1] + 3 * sigma + pixel
    first, last = float((spheres[:, 0] - reach).min()), float((spheres[:, 0] + reach).max())
    across = np.arange(math.ceil(reach.max() / pixel) + 1) * pixel  # both sides are alike
    along = np.arange(math.floor(first / pixel), math.ceil(last / pixel) + 1) * pixel
    times = np.where(across > 0, 2.0, 1.0)[:, None]

    def disc(sphere: F64) -> F64:
        x, r, k = sphere.tolist()
        return np.asarray(model_disc(np.hypot(across[:, None], along - x), r, k, sigma, pixel))

    discs = [disc(sphere) for sphere in spheres]
    mean = np.prod(discs, axis=0)
    slopes = []
    for sphere, own in zip(spheres, discs, strict=True):
        steps = np.array([0.02 * pixel, 0.005 * sphere[1], max(0.01 * sphere[2], 1e-4)])
        for move, step in zip(np.diag(steps), steps.tolist(), strict=True):
            slopes.append((disc(sphere + move) - disc(sphere - move)) / (2 * step) * mean / own)
    slope = np.stack([*slopes, mean]).reshape(len(slopes) + 1, -1)
    weight = np.broadcast_to(times / mean if poisson else times, mean.shape).ravel()
    information = (slope * weight) @ slope.T
    scale = np.sqrt(np.diag(information))
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise np.linalg.LinAlgError("a sphere is no different from the background")
    information /= np.outer(scale, scale)
    if np.linalg.cond(information) > 1e12:
        raise np.linalg.LinAlgError("the spheres cannot be told apart")
    covariance = np.linalg.inv(information) * noise**2 / np.outer(scale, scale)
    return np.asarray(covariance[:-1, :-1])
