"""Measure particles on a profile: diameter, edges, separation, each with its error, or a reason why not."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from scipy import special

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure import first_guess as guess
from napari_lowdose_tem.measure.background import Known, find_background, take_part
from napari_lowdose_tem.measure.central_fit import fit_arcs
from napari_lowdose_tem.measure.errors import NETWORK_FACTOR, bound_spheres
from napari_lowdose_tem.measure.fit_result import (
    LEAST_SIGNIFICANCE,
    MEASURABLE,
    MOST_ERROR,
    SMALLEST_RADIUS_PX,
    Fitted,
    RefusedError,
)
from napari_lowdose_tem.measure.full_fit import NETWORK_BLUR_PX, fit_full, model_profile
from napari_lowdose_tem.measure.measurement import FitOptions, Measurement, Particle
from napari_lowdose_tem.measure.profile import Profile
from napari_lowdose_tem.measure.widths import measure_edge, measure_pseudo_diameter

_MOST_SUGGESTED = 4
_GAIN = 0.6  # one sphere more must leave less than this of the misfit
_FLAT = 0.02  # misfit of one sphere that is good enough, of its depth
_FLAT_NETWORK = 0.06  # the same in enhanced frames, whose particles are no perfect spheres
_LEAST_SHARE = 0.12  # of the strongest sphere's depth
_LEAST_GAP = 0.35  # of two centres, in radii of the smaller sphere
_LARGEST_RATIO = 5.0  # of the radii
_WORSE = 1.2
_WIDEST = 1.1  # width of a line, in diameters: beyond, its mean is not the model's
_NOISE_LEFT, _EXACT = 1.05, 2.5e-4  # misfit that cannot be improved, of the noise and of the background
_ODD_NOISE, _ODD = 2.0, 0.01  # misfit worth telling
_LEAST_APART = (
    0.95  # of two centres in enhanced frames, in mean diameters: closer, most errors are far too small
)
_THIN = 0.25  # width of a line, in diameters, up to which an arc's model holds
_MAY_BE_ONE = (
    "overlapping spheres fit better than one, but a single crystal can look the same: "
    "check the image, or fit 1 particle"
)


class _OverlapError(RefusedError):
    """The spheres overlap, in an enhanced frame."""


def fit_profile(
    profile: Profile, options: FitOptions | None = None, raw_noise: float | None = None
) -> Measurement:
    """Measure the particles on a profile.

    Parameters
    ----------
    profile
        As `sample_line` returns it.
    options
        Model, number of particles, background.
    raw_noise
        For enhanced frames: noise of a background pixel of the raw frame, relative to the background
        (r.m.s.), as `measure_raw_noise` finds it. Without it the errors of an enhanced frame are too small,
        which the notes say.

    Returns
    -------
    Numbers, or `refused` with the reason; bad data raise nothing.
    """
    options = options or FitOptions()
    try:
        return _measure(profile, options, raw_noise)
    except RefusedError as refusal:
        return Measurement(profile.unit, options.model, options.rule, refused=str(refusal))


def suggest_particles(profile: Profile, options: FitOptions | None = None) -> int:
    """Suggest how many particles a line crosses, at least 1: the fewest spheres that explain the profile."""
    options = replace(options or FitOptions(), model="full")
    try:
        profile = take_part(profile, options.background)
        base, known = find_background(profile, options.background)
        return _count(profile, base, known, options)[0]
    except RefusedError:
        return 1


def _count(
    profile: Profile, base: F64, known: Known | None, options: FitOptions
) -> tuple[int, Fitted | None]:
    """Fit one sphere more as long as that explains most of what was left."""
    starts, noise = guess.Starts(profile, base), guess.measure_noise(profile.intensity / base)
    best: tuple[int, Fitted | None] = (1, None)
    left = math.inf
    for count in range(1, _MOST_SUGGESTED + 1):
        try:
            fitted = _fit_best(profile, starts, noise, count, known, options)
        except RefusedError:
            continue  # neighbours may not look like one sphere
        depths = -np.expm1(-fitted.contrasts)
        even = (
            depths.min() > _LEAST_SHARE * depths.max()
            and fitted.radii.max() < _LARGEST_RATIO * fitted.radii.min()
        )
        if count > 1 and not (_least_gap(fitted) > _LEAST_GAP and even and fitted.misfit < _GAIN * left):
            continue
        best, left = (count, fitted), fitted.misfit
        flat = _FLAT_NETWORK if options.is_enhanced else _FLAT
        if left < max(1.5 * noise, flat * float(depths.max())):
            break
    return best


def _fit_best(
    profile: Profile, starts: guess.Starts, noise: float, count: int, known: Known | None, options: FitOptions
) -> Fitted:
    """Full fit from each guess until one leaves nothing but noise; the best of those that are possible."""
    found: list[Fitted] = []
    reason = _explain_no_dip(count)
    for start in starts.find(count):
        try:
            found.append(fit_full(profile, start, known, options))
        except RefusedError as refusal:
            reason = str(refusal)
            continue
        if found[-1].misfit < max(_NOISE_LEFT * noise, _EXACT):
            break
    if not found:
        raise RefusedError(reason)
    # of fits about as good, the one of particles beside each other
    return min(found, key=lambda fitted: fitted.misfit * (1 if _least_gap(fitted) > _LEAST_GAP else _WORSE))


def _explain_no_dip(count: int) -> str:
    if count > 1:
        return f"fewer than {count} particles on the line; choose {count - 1}"
    return "no dip below the background; draw the line across a particle"


def _least_gap(fitted: Fitted) -> float:
    """Least distance of two centres, in radii of the smallest sphere."""
    return float(np.diff(np.sort(fitted.centers)).min(initial=math.inf) / fitted.radii.min())


def _measure(profile: Profile, options: FitOptions, raw_noise: float | None) -> Measurement:
    profile = take_part(profile, options.background)
    base, known = find_background(profile, options.background)
    if options.particles is not None:
        return _measure_count(profile, base, known, options, raw_noise, options.particles)
    count, fitted = _count(profile, base, known, replace(options, model="full"))
    while True:
        try:
            found = _measure_count(profile, base, known, options, raw_noise, count, fitted)
            break
        except _OverlapError:
            raise  # one sphere less would be one of both
        except RefusedError:
            if count == 1:
                raise
            count, fitted = count - 1, None  # as many as the data support
    if any(
        b.center - a.center < (a.diameter + b.diameter) / 2 for a, b in itertools.pairwise(found.particles)
    ):
        return replace(found, notes=(*found.notes, _MAY_BE_ONE))
    return found


def _measure_count(
    profile: Profile,
    base: F64,
    known: Known | None,
    options: FitOptions,
    raw_noise: float | None,
    count: int,
    fitted: Fitted | None = None,
) -> Measurement:
    noise = guess.measure_noise(profile.intensity / base)
    if options.model != "full":
        guessed = guess.Starts(profile, base).find(count)
        if not guessed:
            raise RefusedError(_explain_no_dip(count))
        fitted = fit_arcs(profile, guessed[0], base, known, options)
    elif fitted is None:
        fitted = _fit_best(profile, guess.Starts(profile, base), noise, count, known, options)
    if options.is_enhanced:
        fitted = _add_network_error(profile, fitted, raw_noise)
    _check(profile, fitted, options.is_enhanced)
    if fitted.misfit > max(_ODD_NOISE * noise, _ODD):
        said = f"not quite spheres: fit residual {100 * fitted.misfit:.1f} % of the background (r.m.s.)"
        fitted = replace(fitted, notes=(*fitted.notes, said))
    if options.model != "full" and profile.width > _THIN * 2 * fitted.radii.min():
        said = f"the {options.model} fit ignores the line width; narrow the line to a quarter of the particle"
        fitted = replace(fitted, notes=(*fitted.notes, said))
    if profile.hot:
        said = f"{profile.hot} hot pixel{'s' if profile.hot > 1 else ''} near the line left out"
        fitted = replace(fitted, notes=(*fitted.notes, said))
    return _report(profile, fitted, options)


def _check(profile: Profile, fitted: Fitted, is_enhanced: bool) -> None:
    """Refuse numbers the data do not support."""
    unit, length = profile.unit, profile.length
    least_significance = LEAST_SIGNIFICANCE if is_enhanced else MEASURABLE
    for center, radius, weight in zip(fitted.centers, fitted.radii, fitted.significance, strict=True):
        name = f"the particle at {center:.1f} {unit}" if len(fitted.centers) > 1 else "the particle"
        if weight < least_significance:
            raise RefusedError(
                f"too noisy: the dip is {weight:.1f} σ, {least_significance:g} σ needed; "
                "widen the line, average frames, enhance them, or fit the raw counts around the line"
            )
        if center - radius < -0.5 * profile.step or center + radius > length + 0.5 * profile.step:
            raise RefusedError(
                f"{name} extends past the end of the line; draw the line from background to background"
            )
        row, col = profile.locate(float(center))
        reach = [radius / size for size in profile.pixel_size]
        rims = ((row, profile.shape[0], reach[0]), (col, profile.shape[1], reach[1]))
        if any(at - half < -1.0 or at + half > n for at, n, half in rims):
            raise RefusedError(f"{name} is cut off by the frame edge; choose one that lies inside")
        if profile.width > _WIDEST * 2 * radius:
            raise RefusedError(
                f"the line is {profile.width:.1f} {unit} wide, {name} only {2 * radius:.1f} {unit}; "
                "narrow the line to half the particle"
            )
        if radius < SMALLEST_RADIUS_PX * profile.pixel:
            raise RefusedError(f"{name} is smaller than 2 px; record it at higher magnification")
    for first, second in itertools.pairwise(np.argsort(fitted.centers).tolist()):
        places = f"{fitted.centers[first]:.1f} and {fitted.centers[second]:.1f} {unit}"
        apart = fitted.centers[second] - fitted.centers[first]
        if is_enhanced and apart < _LEAST_APART * (fitted.radii[first] + fitted.radii[second]):
            raise _OverlapError(
                f"the particles at {places} overlap: between them the enhanced frame is the network's guess; "
                "measure averaged raw frames, or fit 1 particle if it is one"
            )
        if apart < 0.2 * fitted.radii.min():
            raise RefusedError(f"the particles at {places} coincide; choose fewer")
    for center, radius, variance in zip(
        fitted.centers, fitted.radii, np.diag(fitted.covariance)[1::2], strict=True
    ):
        if 2 * math.sqrt(variance) > MOST_ERROR * 2 * radius:
            raise RefusedError(
                f"too noisy: the diameter at {center:.1f} {unit} is {2 * radius:.1f} ± "
                f"{2 * math.sqrt(variance):.1f} {unit}; widen the line, average frames, or enhance them"
            )


def _add_network_error(profile: Profile, fitted: Fitted, raw_noise: float | None) -> Fitted:
    """Enlarge the errors to what the electrons of the raw frame allow."""
    if raw_noise is None:
        note = (
            "errors are those of the fit, doubled: too small for an enhanced frame; "
            "give the raw frame for errors that follow from its electrons"
        )
        contrast_se = None if fitted.contrast_se is None else 2 * fitted.contrast_se
        return replace(
            fitted, covariance=4 * fitted.covariance, contrast_se=contrast_se, notes=(*fitted.notes, note)
        )
    count = len(fitted.radii)
    sigma = fitted.sigma or NETWORK_BLUR_PX * profile.pixel
    try:
        bound = bound_spheres(fitted.centers, fitted.radii, fitted.contrasts, sigma, profile.pixel, raw_noise)
    except np.linalg.LinAlgError:
        which = "this particle" if count == 1 else f"{count} particles; choose fewer"
        raise RefusedError(f"the raw frame has too few electrons to show {which}") from None
    bound = NETWORK_FACTOR**2 * bound
    places = np.flatnonzero(np.arange(3 * count) % 3 < 2)  # of (center, radius), without the contrasts
    contrast_se = fitted.contrast_se
    if contrast_se is not None:
        contrast_se = np.hypot(contrast_se, np.sqrt(np.diag(bound)[2::3]))
    return replace(
        fitted, covariance=fitted.covariance + bound[np.ix_(places, places)], contrast_se=contrast_se
    )


def _report(profile: Profile, fitted: Fitted, options: FitOptions) -> Measurement:
    factor = float(special.stdtrit(fitted.dof, 0.975))
    depth_of_data = np.where(np.isfinite(profile.intensity), fitted.base - profile.intensity, 0.0)
    particles = []
    for i, (center, radius) in enumerate(zip(fitted.centers.tolist(), fitted.radii.tolist(), strict=True)):
        contrast = float(fitted.contrasts[i])
        se = 2 * math.sqrt(fitted.covariance[2 * i + 1, 2 * i + 1])
        x, depth = profile.position, depth_of_data
        if fitted.sigma is not None:
            # a neighbour's side is not this one's edge
            x = fitted.position
            depth = 1 - model_profile(profile, x, (center,), (radius,), (contrast,), fitted.sigma, 1)
        peak = float(np.interp(center, x, depth))
        if options.rule == "first_crossing":
            across = measure_pseudo_diameter(profile.position, depth_of_data, center, options.rule, peak)
        else:
            across = measure_pseudo_diameter(x, depth, center, options.rule, peak)
        total = None if across is None else across - 2 * radius
        t_min = math.exp(-contrast)
        particles.append(
            Particle(
                center=center,
                center_se=math.sqrt(fitted.covariance[2 * i, 2 * i]),
                diameter=2 * radius,
                diameter_se=se,
                diameter_ci95=(max(0.0, 2 * radius - factor * se), 2 * radius + factor * se),
                pseudo_diameter=across,
                edge_total=total,
                edge_per_side=None if total is None else total / 2,
                edge_sigma=fitted.sigma,
                edge_10_90=measure_edge(x, depth, center, peak),
                t_min=t_min,
                t_min_se=None if fitted.contrast_se is None else t_min * float(fitted.contrast_se[i]),
            )
        )
    separation = separation_se = margin = margin_se = None
    if len(particles) == 2:
        move = np.array([-1.0, 0, 1, 0])
        room = np.array([-1.0, -1, 1, -1])
        separation = float(fitted.centers[1] - fitted.centers[0])
        margin = separation - float(fitted.radii.sum())
        separation_se, margin_se = (math.sqrt(float(v @ fitted.covariance @ v)) for v in (move, room))
    return Measurement(
        unit=profile.unit,
        fit=options.model,
        rule=options.rule,
        particles=tuple(particles),
        background=fitted.background,
        separation=separation,
        separation_se=separation_se,
        margin=margin,
        margin_se=margin_se,
        notes=fitted.notes,
        position=fitted.position,
        curve=fitted.curve,
        used=fitted.used,
    )
