"""Measure particles on a profile: diameter, edges, separation, each with its error, or a reason why not."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from scipy import special

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.background import MeasuredBackground, find_background, select_samples
from napari_lowdose_tem.measure.central_fit import fit_central
from napari_lowdose_tem.measure.errors import bound_spheres
from napari_lowdose_tem.measure.first_guess import FirstGuesses, measure_noise
from napari_lowdose_tem.measure.fit_result import FitResult, RefusedError
from napari_lowdose_tem.measure.full_fit import fit_full, model_profile
from napari_lowdose_tem.measure.measurement import FitOptions, Measurement, Particle
from napari_lowdose_tem.measure.profile import Profile
from napari_lowdose_tem.measure.thresholds import (
    EXACT_MISFIT,
    FLAT_MISFIT,
    FLAT_MISFIT_NETWORK,
    FLAT_NOISES,
    LARGEST_ERROR,
    LARGEST_RADIUS_RATIO,
    LARGEST_SHARE_LEFT,
    LEAST_DEPTH_SHARE,
    LEAST_DISTANCE,
    LEAST_GUESS_DISTANCE,
    LEAST_LINE_SIGNIFICANCE,
    LEAST_NETWORK_DISTANCE,
    LEAST_SIGNIFICANCE,
    MOST_SUGGESTED,
    NETWORK_BLUR_PX,
    NETWORK_FACTOR,
    NO_RAW_FACTOR,
    NOISE_LEFT,
    ODD_MISFIT,
    ODD_NOISES,
    OVERLAP_PENALTY,
    SMALLEST_RADIUS_PX,
    WIDEST_CENTRAL_LINE,
    WIDEST_LINE,
)
from napari_lowdose_tem.measure.widths import measure_edge, measure_pseudo_diameter

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
        profile = select_samples(profile, options.background)
        base, marked = find_background(profile, options.background)
        return _count(profile, base, marked, options)[0]
    except RefusedError:
        return 1


def _count(
    profile: Profile, base: F64, marked: MeasuredBackground | None, options: FitOptions
) -> tuple[int, FitResult | None]:
    """Fit one sphere more as long as that explains most of what was left."""
    guesses, noise = FirstGuesses(profile, base), measure_noise(profile.intensity / base)
    best: tuple[int, FitResult | None] = (1, None)
    left = math.inf
    for count in range(1, MOST_SUGGESTED + 1):
        try:
            fit = _fit_best(profile, guesses, noise, count, marked, options)
        except RefusedError:
            continue  # neighbours may not look like one sphere
        depths = -np.expm1(-fit.contrasts)
        even = (
            depths.min() > LEAST_DEPTH_SHARE * depths.max()
            and fit.radii.max() < LARGEST_RADIUS_RATIO * fit.radii.min()
        )
        if count > 1 and not (
            _least_gap(fit) > LEAST_GUESS_DISTANCE and even and fit.misfit < LARGEST_SHARE_LEFT * left
        ):
            continue
        best, left = (count, fit), fit.misfit
        flat = FLAT_MISFIT_NETWORK if options.is_enhanced else FLAT_MISFIT
        if left < max(FLAT_NOISES * noise, flat * float(depths.max())):
            break
    return best


def _fit_best(
    profile: Profile,
    guesses: FirstGuesses,
    noise: float,
    count: int,
    marked: MeasuredBackground | None,
    options: FitOptions,
) -> FitResult:
    """Full fit from each guess until one leaves nothing but noise; the best of those that are possible."""
    found: list[FitResult] = []
    reason = _explain_no_dip(count)
    for guess in guesses.find(count):
        try:
            found.append(fit_full(profile, guess, marked, options))
        except RefusedError as refusal:
            reason = str(refusal)
            continue
        if found[-1].misfit < max(NOISE_LEFT * noise, EXACT_MISFIT):
            break
    if not found:
        raise RefusedError(reason)
    # of fits about as good, the one of particles beside each other
    return min(
        found, key=lambda fit: fit.misfit * (1 if _least_gap(fit) > LEAST_GUESS_DISTANCE else OVERLAP_PENALTY)
    )


def _explain_no_dip(count: int) -> str:
    if count > 1:
        return f"fewer than {count} particles on the line; choose {count - 1}"
    return "no dip below the background; draw the line across a particle"


def _least_gap(fit: FitResult) -> float:
    """Least distance of two centres, in radii of the smallest sphere."""
    return float(np.diff(np.sort(fit.centers)).min(initial=math.inf) / fit.radii.min())


def _measure(profile: Profile, options: FitOptions, raw_noise: float | None) -> Measurement:
    profile = select_samples(profile, options.background)
    base, marked = find_background(profile, options.background)
    if options.particles is not None:
        return _measure_count(profile, base, marked, options, raw_noise, options.particles)
    count, fit = _count(profile, base, marked, replace(options, model="full"))
    while True:
        try:
            found = _measure_count(profile, base, marked, options, raw_noise, count, fit)
            break
        except _OverlapError:
            raise  # one sphere less would be one of both
        except RefusedError:
            if count == 1:
                raise
            count, fit = count - 1, None  # as many as the data support
    if any(
        b.center - a.center < (a.diameter + b.diameter) / 2 for a, b in itertools.pairwise(found.particles)
    ):
        return replace(found, notes=(*found.notes, _MAY_BE_ONE))
    return found


def _measure_count(
    profile: Profile,
    base: F64,
    marked: MeasuredBackground | None,
    options: FitOptions,
    raw_noise: float | None,
    count: int,
    fit: FitResult | None = None,
) -> Measurement:
    noise = measure_noise(profile.intensity / base)
    if options.model != "full":
        guessed = FirstGuesses(profile, base).find(count)
        if not guessed:
            raise RefusedError(_explain_no_dip(count))
        fit = fit_central(profile, guessed[0], base, marked, options)
    elif fit is None:
        fit = _fit_best(profile, FirstGuesses(profile, base), noise, count, marked, options)
    if options.is_enhanced:
        fit = _add_network_error(profile, fit, raw_noise)
    _check(profile, fit, options.is_enhanced)
    if fit.misfit > max(ODD_NOISES * noise, ODD_MISFIT):
        said = f"not quite spheres: fit residual {100 * fit.misfit:.1f} % of the background (r.m.s.)"
        fit = replace(fit, notes=(*fit.notes, said))
    if options.model != "full" and profile.width > WIDEST_CENTRAL_LINE * 2 * fit.radii.min():
        said = f"the {options.model} fit ignores the line width; narrow the line to a quarter of the particle"
        fit = replace(fit, notes=(*fit.notes, said))
    if profile.hot:
        said = f"{profile.hot} hot pixel{'s' if profile.hot > 1 else ''} near the line left out"
        fit = replace(fit, notes=(*fit.notes, said))
    return _report(profile, fit, options)


def _check(profile: Profile, fit: FitResult, is_enhanced: bool) -> None:
    """Refuse numbers the data do not support."""
    unit, length = profile.unit, profile.length
    least_significance = LEAST_SIGNIFICANCE if is_enhanced else LEAST_LINE_SIGNIFICANCE
    for center, radius, weight in zip(fit.centers, fit.radii, fit.significance, strict=True):
        name = f"the particle at {center:.1f} {unit}" if len(fit.centers) > 1 else "the particle"
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
        if profile.width > WIDEST_LINE * 2 * radius:
            raise RefusedError(
                f"the line is {profile.width:.1f} {unit} wide, {name} only {2 * radius:.1f} {unit}; "
                "narrow the line to half the particle"
            )
        if radius < SMALLEST_RADIUS_PX * profile.pixel:
            raise RefusedError(f"{name} is smaller than 2 px; record it at higher magnification")
    for first, second in itertools.pairwise(np.argsort(fit.centers).tolist()):
        places = f"{fit.centers[first]:.1f} and {fit.centers[second]:.1f} {unit}"
        apart = fit.centers[second] - fit.centers[first]
        if is_enhanced and apart < LEAST_NETWORK_DISTANCE * (fit.radii[first] + fit.radii[second]):
            raise _OverlapError(
                f"the particles at {places} overlap: between them the enhanced frame is the network's guess; "
                "measure averaged raw frames, or fit 1 particle if it is one"
            )
        if apart < LEAST_DISTANCE * fit.radii.min():
            raise RefusedError(f"the particles at {places} coincide; choose fewer")
    for center, radius, variance in zip(fit.centers, fit.radii, np.diag(fit.covariance)[1::2], strict=True):
        if 2 * math.sqrt(variance) > LARGEST_ERROR * 2 * radius:
            raise RefusedError(
                f"too noisy: the diameter at {center:.1f} {unit} is {2 * radius:.1f} ± "
                f"{2 * math.sqrt(variance):.1f} {unit}; widen the line, average frames, or enhance them"
            )


def _add_network_error(profile: Profile, fit: FitResult, raw_noise: float | None) -> FitResult:
    """Enlarge the errors to what the electrons of the raw frame allow."""
    if raw_noise is None:
        note = (
            "errors are those of the fit, doubled: too small for an enhanced frame; "
            "give the raw frame for errors that follow from its electrons"
        )
        contrast_se = None if fit.contrast_se is None else NO_RAW_FACTOR * fit.contrast_se
        return replace(
            fit,
            covariance=NO_RAW_FACTOR**2 * fit.covariance,
            contrast_se=contrast_se,
            notes=(*fit.notes, note),
        )
    count = len(fit.radii)
    sigma = fit.sigma or NETWORK_BLUR_PX * profile.pixel
    try:
        bound = bound_spheres(fit.centers, fit.radii, fit.contrasts, sigma, profile.pixel, raw_noise)
    except np.linalg.LinAlgError:
        which = "this particle" if count == 1 else f"{count} particles; choose fewer"
        raise RefusedError(f"the raw frame has too few electrons to show {which}") from None
    bound = NETWORK_FACTOR**2 * bound
    places = np.flatnonzero(np.arange(3 * count) % 3 < 2)  # of (center, radius), without the contrasts
    contrast_se = fit.contrast_se
    if contrast_se is not None:
        contrast_se = np.hypot(contrast_se, np.sqrt(np.diag(bound)[2::3]))
    return replace(fit, covariance=fit.covariance + bound[np.ix_(places, places)], contrast_se=contrast_se)


def _report(profile: Profile, fit: FitResult, options: FitOptions) -> Measurement:
    factor = float(special.stdtrit(fit.dof, 0.975))
    depth_of_data = np.where(np.isfinite(profile.intensity), fit.base - profile.intensity, 0.0)
    particles = []
    for i, (center, radius) in enumerate(zip(fit.centers.tolist(), fit.radii.tolist(), strict=True)):
        contrast = float(fit.contrasts[i])
        se = 2 * math.sqrt(fit.covariance[2 * i + 1, 2 * i + 1])
        x, depth = profile.position, depth_of_data
        if fit.sigma is not None:
            # a neighbour's side is not this one's edge
            x = fit.position
            depth = 1 - model_profile(profile, x, (center,), (radius,), (contrast,), fit.sigma, 1)
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
                center_se=math.sqrt(fit.covariance[2 * i, 2 * i]),
                diameter=2 * radius,
                diameter_se=se,
                diameter_ci95=(max(0.0, 2 * radius - factor * se), 2 * radius + factor * se),
                pseudo_diameter=across,
                edge_total=total,
                edge_per_side=None if total is None else total / 2,
                edge_sigma=fit.sigma,
                edge_10_90=measure_edge(x, depth, center, peak),
                t_min=t_min,
                t_min_se=None if fit.contrast_se is None else t_min * float(fit.contrast_se[i]),
            )
        )
    separation = separation_se = margin = margin_se = None
    if len(particles) == 2:
        move = np.array([-1.0, 0, 1, 0])
        room = np.array([-1.0, -1, 1, -1])
        separation = float(fit.centers[1] - fit.centers[0])
        margin = separation - float(fit.radii.sum())
        separation_se, margin_se = (math.sqrt(float(v @ fit.covariance @ v)) for v in (move, room))
    return Measurement(
        unit=profile.unit,
        fit=options.model,
        rule=options.rule,
        particles=tuple(particles),
        background=fit.background,
        separation=separation,
        separation_se=separation_se,
        margin=margin,
        margin_se=margin_se,
        notes=fit.notes,
        position=fit.position,
        curve=fit.curve,
        used=fit.used,
    )
