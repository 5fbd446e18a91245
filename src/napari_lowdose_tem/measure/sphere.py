"""The image of spheres: exponential contrast of the chord, blurred, along a line and around a centre.

A sphere of radius r transmits T(ρ) = exp(-2√(r² - ρ²)/λ) at the distance ρ from its centre, at its centre
T_min = exp(-K) with K = 2r/λ; overlapping spheres multiply. A Gaussian σ stands for optics and pixel. Across
the line the blur is taken at Gauss–Hermite nodes, along it on a fine grid of cells whose mean chord is known
in closed form, so that the model is smooth in all parameters although the chord's edge is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from napari_lowdose_tem.image import AnyFloat

OVERSAMPLING = 6
_NODES = 13
_REACH_SIGMAS = 4.5
_MOST_OFFSETS = 5
_LONG = 600  # cells of a kernel


def model_line(
    position: AnyFloat,
    centers: Sequence[float],
    radii: Sequence[float],
    contrasts: Sequence[float],
    sigma: float,
    width: float = 0.0,
    oversampling: int = OVERSAMPLING,
    across_excess: float = 0.0,
) -> AnyFloat:
    """Transmission along a line through the centres of spheres.

    Parameters
    ----------
    position
        Evenly spaced samples (n,) [any unit of length].
    centers, radii, contrasts
        Of each sphere: place along the line and radius [the same unit], K.
    sigma
        Blur [the same unit].
    width
        Over which the image is averaged across the line [the same unit].
    oversampling
        Cells a sample.
    across_excess
        Variance by which the blur across the line is larger than along it: pixels need not be square.
    """
    step = float(position[1] - position[0]) / oversampling
    reach = max(1, math.ceil(_REACH_SIGMAS * sigma / step))
    edges = float(position[0]) + step * (
        np.arange(-reach, (len(position) - 1) * oversampling + reach + 2) - 0.5
    )
    across, weights = _place_nodes(math.sqrt(max(sigma**2 + across_excess, 0.0)), width)
    exponent = np.zeros((len(across), len(edges) - 1))
    for center, radius, contrast in zip(centers, radii, contrasts, strict=True):
        first, last = np.searchsorted(edges, (center - radius, center + radius))
        near = slice(max(first - 1, 0), min(last + 1, len(edges)))
        if near.stop - near.start > 1:
            chords = _mean_chords(edges[near] - center, radius, across, step)
            exponent[:, near.start : near.stop - 1] += contrast * chords
    loss = weights @ -np.expm1(-exponent)
    # the mean over a cell is a blur too
    variance = max(sigma**2 - step**2 / 12, step**2 / 4)
    kernel = np.exp(-0.5 * (step * np.arange(-reach, reach + 1)) ** 2 / variance)
    return 1 - _convolve(loss, kernel / kernel.sum())[::oversampling]


def _convolve(values: AnyFloat, kernel: AnyFloat) -> AnyFloat:
    if len(kernel) < _LONG:
        return np.convolve(values, kernel, "valid")
    # long lines allow wide blurs, whose sums would take minutes
    from scipy.signal import fftconvolve  # slow to import

    return np.asarray(fftconvolve(values, kernel, "valid"))


def _mean_chords(edges: AnyFloat, radius: float, across: AnyFloat, step: float) -> AnyFloat:
    """Mean over cells of √(r² - x² - y²)/r, (nodes y, cells), by its antiderivative."""
    inner = np.sqrt(np.maximum(radius**2 - across**2, 0.0))[:, None]
    x = np.clip(edges, -inner, inner)
    with np.errstate(invalid="ignore", divide="ignore"):
        angle = np.arcsin(x / inner)
    angle = np.where(inner > 0, angle, 0.0)
    area = 0.5 * (x * np.sqrt(np.maximum(inner**2 - x**2, 0.0)) + inner**2 * angle)
    return np.asarray(np.diff(area, axis=1) / (step * radius))


def _place_nodes(sigma: float, width: float) -> tuple[AnyFloat, AnyFloat]:
    """Distances from the line and weights for a Gaussian blur and the line's width; symmetric ones once."""
    nodes, weights = _hermite()
    if width <= 0:
        return nodes[: _NODES // 2 + 1] * sigma, _fold(weights)
    offsets, shares = _legendre()
    half = len(offsets) // 2 + 1
    across = offsets[:half, None] * (width / 2) + nodes * sigma
    return across.ravel(), (_fold(shares)[:, None] * weights).ravel()


def _fold(weights: AnyFloat) -> AnyFloat:
    half = weights[: len(weights) // 2 + 1].copy()
    half[:-1] *= 2
    return half


@lru_cache
def _hermite() -> tuple[AnyFloat, AnyFloat]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return nodes, weights / weights.sum()


@lru_cache
def _legendre() -> tuple[AnyFloat, AnyFloat]:
    nodes, weights = np.polynomial.legendre.leggauss(_MOST_OFFSETS)
    return nodes, weights / weights.sum()


def model_disc(distance: AnyFloat, radius: float, contrast: float, sigma: float, step: float) -> AnyFloat:
    """Transmission of one sphere at distances from its centre, any shape [the unit of `radius`].

    `step` is the pixel [the same unit]; between samples of a sixth of it is interpolated.
    """
    n = math.ceil((radius + _REACH_SIGMAS * sigma) / step) + 2
    radial = np.arange(n * OVERSAMPLING) * (step / OVERSAMPLING)
    values = model_line(radial, (0.0,), (radius,), (contrast,), sigma, oversampling=1)
    return np.interp(distance, radial, values, right=1.0)
