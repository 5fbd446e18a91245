"""Standard errors: from residuals whose errors are correlated, and from what the electrons allow.

A network's output is smooth, so that its residuals hardly show its errors. What it can know is bounded by
the electrons of the frame it was made from: to the error from the residuals comes, for such frames, a
multiple of the Cramér–Rao bound of the same sphere at the noise of the raw frame. The multiple is calibrated
on simulated frames of known truth (docs/measurement.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64, Image
from napari_lowdose_tem.measure.sphere import model_disc

_MOST_LAGS = 12
_BLOCK_PX = 4

NETWORK_FACTOR = 1.3
"""Times the bound: error of an enhanced frame, beside that seen in the residuals."""


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
    lags = min(_MOST_LAGS, n // 5)
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


def read_raw_noise(image: Image) -> float | None:
    """Return what an enhanced image's provenance says of `measure_raw_noise`; None where it says nothing."""
    made = image.provenance.get("enhanced")
    known = made.get("raw_noise") if isinstance(made, Mapping) else None
    if isinstance(known, int | float) and math.isfinite(known) and known > 0:
        return float(known)
    return None


def measure_raw_noise(frame: npt.NDArray[np.generic]) -> float:
    """Noise of a pixel of a raw frame relative to its mean level (r.m.s.), as it counts over some pixels.

    From differences of neighbouring blocks of 4 px, times 4: the noise of single pixels would leave out what
    the camera spreads over neighbours and along read-out lines.

    Parameters
    ----------
    frame
        (rows, columns) [counts], without offset.

    Raises
    ------
    ValueError
        For frames too small or without signal.
    """
    pixels = np.asarray(frame, np.float64)
    if pixels.ndim != 2 or min(pixels.shape) < 3 * _BLOCK_PX:
        raise ValueError(
            f"noise is measured on a frame of at least {3 * _BLOCK_PX} px a side, got {pixels.shape}"
        )
    rows, cols = (n // _BLOCK_PX for n in pixels.shape)
    blocks = (
        pixels[: rows * _BLOCK_PX, : cols * _BLOCK_PX].reshape(rows, _BLOCK_PX, cols, _BLOCK_PX).mean((1, 3))
    )
    level = float(np.nanmedian(blocks)) if np.isfinite(blocks).any() else 0.0
    # to both sides at once: neither slopes nor a background that bends in one direction count
    bends = blocks[:-1, :-1] - blocks[1:, :-1] - blocks[:-1, 1:] + blocks[1:, 1:]
    bends = bends[np.isfinite(bends)]
    if not (level > 0 and bends.size):
        raise ValueError("no signal in the raw frame")
    return float(np.median(np.abs(bends)) / 0.6745 / 2 * _BLOCK_PX / level)
