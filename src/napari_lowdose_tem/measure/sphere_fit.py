"""Spheres in two dimensions, by least squares.

A line that misses a particle's centre by b shows a diameter too small by √(1 - (b/r)²), and does not show
that it does. These fits find the centre.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.errors import bound_sphere
from napari_lowdose_tem.measure.first_guess import FirstGuesses, guess_background
from napari_lowdose_tem.measure.fit import fit_profile
from napari_lowdose_tem.measure.fit_result import BACKGROUND_NOT_POSITIVE, RefusedError
from napari_lowdose_tem.measure.measurement import FitOptions
from napari_lowdose_tem.measure.profile import Line, Profile, sample_line
from napari_lowdose_tem.measure.sphere_window import SphereFit, SphereParameters, Window, conclude, invert
from napari_lowdose_tem.measure.thresholds import (
    CONTRAST_SPAN,
    GUESS_CONTRASTS,
    LARGEST_SIGMA_PX,
    LEVEL_SPAN,
    NETWORK_FACTOR,
    NO_RAW_FACTOR,
    ODD_INFLATION,
    ODD_MISFIT,
    PIXEL_SIGMA_PX,
    RADIUS_SPAN,
    TILT_SPAN,
)

_FIELDS = SphereParameters._fields
_RADIUS = _FIELDS.index("radius")


def fit_sphere(
    pixels: npt.NDArray[Any],
    line: Line,
    pixel_size_nm: tuple[float, float] | None = None,
    *,
    is_enhanced: bool = False,
    raw_noise: float | None = None,
) -> SphereFit:
    """Fit a blurred sphere to the frame around a line, by least squares.

    Parameters
    ----------
    pixels
        Frame (rows, columns) without offset.
    line
        Across the particle; its middle need not be the particle's.
    pixel_size_nm
        (row, column) [nm/px]; None gives lengths in px.
    is_enhanced, raw_noise
        As in `FitOptions` and `fit_profile`.

    Raises
    ------
    ValueError
        As `sample_line`.
    """
    profile = sample_line(pixels, line, pixel_size_nm)
    first = _guess_from_line(profile, FitOptions(particles=1, is_enhanced=is_enhanced))
    if isinstance(first, str):
        return SphereFit(profile.unit, refused=first)
    window = Window.around(pixels, profile, first)
    try:
        values = _fit_squares(window, first)
        neighbours = window.find_neighbours(values)
        if neighbours.any():
            window = replace(window, kept=window.kept & ~neighbours)
        else:
            window = window.moved(pixels, profile, values)
        values = _fit_squares(window, values)
    except RefusedError as refusal:
        return SphereFit(profile.unit, refused=str(refusal))
    misfit = (window.pixels - window.model(values))[window.kept]
    inflation = window.inflation(values)
    noise = math.sqrt(float(misfit @ misfit) / max(len(misfit) - 8, 1)) * inflation
    slope = window.slope(values)[:, window.kept.ravel()]
    covariance = invert(slope @ slope.T) * noise**2
    network = None
    if is_enhanced and raw_noise is not None:
        try:
            network = bound_sphere(
                values.radius, values.contrast, values.sigma, profile.pixel, raw_noise
            ).diameter
        except np.linalg.LinAlgError:
            network = math.inf
    elif is_enhanced:
        covariance = NO_RAW_FACTOR**2 * covariance
    variance = 4 * covariance[_RADIUS, _RADIUS] + (
        0.0 if network is None else (NETWORK_FACTOR * network) ** 2
    )
    dip = window.dip(values)[window.kept]
    significance = float(np.linalg.norm(dip)) / max(noise, 1e-300)
    result = conclude(profile, values, math.sqrt(max(variance, 0.0)), significance, None)
    structure = window.structure(values) / abs(values.level)
    if not result.refused and inflation > ODD_INFLATION and structure > ODD_MISFIT:
        said = f"not quite a sphere: fit residual {100 * structure:.1f} % of the background (r.m.s.)"
        return replace(result, notes=(said,))
    return result


def snap_to_center(
    pixels: npt.NDArray[Any], line: Line, pixel_size_nm: tuple[float, float] | None = None
) -> Line:
    """Move a line across itself onto the centre of its particle.

    Raises
    ------
    ValueError
        Where there is no single particle to measure, with the reason; as `sample_line`.
    """
    found = fit_sphere(pixels, line, pixel_size_nm)
    if found.refused:
        raise ValueError(f"no particle to snap to: {found.refused}")
    size = np.asarray(pixel_size_nm or (1.0, 1.0))
    along = (np.asarray(line.stop) - line.start) * size
    along /= np.linalg.norm(along)
    offset = np.array([found.row_px - line.start[0], found.col_px - line.start[1]]) * size
    across = (offset - (offset @ along) * along) / size
    moved = line.shifted(float(across[0]), float(across[1]))
    sample_line(pixels, moved, pixel_size_nm)  # refuses a line that would leave the frame
    return moved


def _guess_from_line(profile: Profile, options: FitOptions) -> SphereParameters | str:
    """Return the sphere of the profile's own fit, or its reason for not giving any."""
    found = fit_profile(profile, options)
    if found.refused or not found.background:
        return found.refused
    particle = found.particles[0]
    row, col = profile.locate(particle.center)
    place = row * profile.pixel_size[0], col * profile.pixel_size[1]
    contrast = -math.log(particle.t_min or 0.5)
    sigma = particle.edge_sigma or profile.pixel
    return SphereParameters(*place, particle.diameter / 2, contrast, sigma, found.background.level)


def guess_from_counts(profile: Profile) -> SphereParameters | str:
    """Guess a sphere from a noisy profile, or say why not; blur and background stay 0."""
    if not np.isfinite(profile.intensity).all():
        return "invalid pixels on the line; draw it beside them"
    base = guess_background(profile)
    if not (base > 0).all():
        return BACKGROUND_NOT_POSITIVE
    found = FirstGuesses(profile, base).find(1)
    if not found:
        return "no dip below the background; draw the line across a particle"
    guess = found[0]
    row, col = profile.locate(float(guess.centers[0]))
    contrast = float(np.clip(guess.contrasts[0], *GUESS_CONTRASTS))
    place = row * profile.pixel_size[0], col * profile.pixel_size[1]
    return SphereParameters(*place, float(guess.radii[0]), contrast, 0.0)


def _fit_squares(window: Window, first: SphereParameters) -> SphereParameters:
    from scipy.optimize import least_squares

    level = float(np.median(window.pixels[window.kept])) if not first.level > 0 else float(first.level)

    def unfold(v: F64) -> SphereParameters:
        row, col, radius, contrast, sigma, share, row_slope, col_slope = v
        return SphereParameters(
            row,
            col,
            math.exp(radius),
            math.exp(contrast),
            math.exp(sigma),
            share * level,
            row_slope,
            col_slope,
        )

    def misfit(v: F64) -> F64:
        return np.asarray((window.model(unfold(v)) - window.pixels)[window.kept] / level)

    pixel, radius = window.pixel, first.radius
    at = np.array([first.row, first.col, *np.log(first[2:5]), 1.0, first.row_slope, first.col_slope])
    tilt = TILT_SPAN / radius
    span = np.array(
        [radius, radius, math.log(RADIUS_SPAN), math.log(CONTRAST_SPAN), 0.0, LEVEL_SPAN, tilt, tilt]
    )
    low, high = at - span, at + span
    sigma = _FIELDS.index("sigma")
    low[sigma] = math.log(PIXEL_SIGMA_PX * pixel)
    high[sigma] = max(math.log(LARGEST_SIGMA_PX * pixel), at[sigma] + 0.1)
    at[sigma] = np.clip(at[sigma], low[sigma] + 1e-6, high[sigma] - 1e-6)
    scale = np.array([pixel, pixel, 0.1, 0.1, 0.2, 0.01, 0.01 / radius, 0.01 / radius])
    found = least_squares(misfit, at, bounds=(low, high), x_scale=scale, max_nfev=40, xtol=1e-9, ftol=1e-10)
    for i, name in enumerate(("position", "position", "radius", "contrast")):
        if min(found.x[i] - low[i], high[i] - found.x[i]) < 1e-4 * span[i]:
            raise RefusedError(
                f"not a sphere: the fit hit its {name} limit; draw the line across one particle"
            )
    return unfold(found.x)
