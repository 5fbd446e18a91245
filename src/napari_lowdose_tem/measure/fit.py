"""Measure particles on a profile: diameter, edges, separation, each with its error, or a reason why not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.measure import start as guess
from napari_lowdose_tem.measure.errors import NETWORK_FACTOR, bound_sphere, estimate_covariance
from napari_lowdose_tem.measure.profile import Profile, measure_inflation
from napari_lowdose_tem.measure.result import Background, FitOptions, Measurement, Particle
from napari_lowdose_tem.measure.sphere import OVERSAMPLING, model_line
from napari_lowdose_tem.measure.widths import measure_edge, measure_pseudo_diameter

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WINDOW = 0.8
"""Share of the radius within which the points of the paper's fit lie."""

_LEAST_SAMPLES = 8
_LEAST_SIGNIFICANCE = 4.0  # a dip's depth over its error
_MOST_ERROR = 0.4  # of the diameter
_SIGMA_PX = (0.29, 8.0)  # the pixel itself blurs by 1/√12
_CONTRAST = (0.003, 8.0)
_STRETCH = (1.0, 25.0)
_SMALLEST_RADIUS_PX = 1.0
_NETWORK_BLUR_PX, _NETWORK_BLUR_SPREAD = 1.4, 0.3  # of edges in enhanced frames; spread of its logarithm
_NETWORK_NOISE = 0.02  # of the background
_MOST_SUGGESTED = 4
_GAIN = 0.6  # one sphere more must leave less than this of the misfit
_FLAT = 0.02  # misfit of one sphere that is good enough, of its depth
_LEAST_SHARE = 0.12  # of the strongest sphere's depth
_LEAST_GAP = 0.35  # of two centres, in radii of the smaller sphere
_LARGEST_RATIO = 5.0  # of the radii
_BEYOND = 1.15  # radii from a centre on, there is background


class _RefusedError(ValueError):
    """The data do not support a number; the text says why and what to do."""


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Parameters of the spheres with their covariance; what differs between the models ends here."""

    centers: Floats
    radii: Floats
    contrasts: Floats | None
    sigma: float | None
    background: Background
    covariance: Floats  # of (center, radius) of the spheres in turn
    contrast_se: Floats | None
    dof: float
    significance: Floats
    base: Floats  # background at the samples
    position: Floats
    curve: Floats
    used: Mask
    misfit: float = 0.0  # r.m.s., of the background
    notes: tuple[str, ...] = ()


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
    except _RefusedError as refusal:
        return Measurement(profile.unit, options.model, options.rule, refused=str(refusal))


def suggest_particles(profile: Profile, options: FitOptions | None = None) -> int:
    """Suggest how many particles a line crosses, at least 1: the fewest spheres that explain the profile."""
    options = replace(options or FitOptions(), model="full")
    try:
        profile = _take_part(profile, options.background)
        base, known = _find_background(profile, options.background)
        return _count(profile, guess.find_starts(profile, base, _MOST_SUGGESTED), base, known, options)
    except _RefusedError:
        return 1


def _count(
    profile: Profile, starts: list[guess.Start], base: Floats, known: _Known | None, options: FitOptions
) -> int:
    """Fit one sphere more as long as that explains most of what was left."""
    noise = guess.measure_noise(profile.intensity / base)
    best, left = 1, math.inf
    for count, start in enumerate(starts, 1):
        try:
            if not (start.contrasts > 0).all():
                break
            fitted = _fit_full(profile, start, known, options)
        except _RefusedError:
            continue  # neighbours may not look like one sphere
        depths = -np.expm1(-(fitted.contrasts if fitted.contrasts is not None else np.ones(count)))
        gaps = np.diff(np.sort(fitted.centers))
        apart = bool((gaps > _LEAST_GAP * fitted.radii.min()).all())
        even = (
            depths.min() > _LEAST_SHARE * depths.max()
            and fitted.radii.max() < _LARGEST_RATIO * fitted.radii.min()
        )
        if count > 1 and not (apart and even and fitted.misfit < _GAIN * left):
            break
        best, left = count, fitted.misfit
        if left < max(1.5 * noise, _FLAT * float(depths.max())):
            break
    return best


def _measure(profile: Profile, options: FitOptions, raw_noise: float | None) -> Measurement:
    profile = _take_part(profile, options.background)
    base, known = _find_background(profile, options.background)
    starts = guess.find_starts(profile, base, options.particles or _MOST_SUGGESTED)
    count = options.particles or _count(profile, starts, base, known, replace(options, model="full"))
    start = starts[count - 1]
    if not (start.contrasts > 0).all():
        raise _RefusedError(
            f"{count} particles were asked for, the profile shows fewer; choose {count - 1}"
            if count > 1
            else "no dip below the background; draw the line across a particle"
        )
    if options.model == "full":
        fitted = _fit_full(profile, start, known, options)
    else:
        fitted = _fit_arcs(profile, start, base, known, options)
    if options.is_enhanced:
        fitted = _add_network_error(profile, fitted, raw_noise)
    _check(profile, fitted)
    return _report(profile, fitted, options)


# ---- background


@dataclass(frozen=True)
class _Known:
    """Background that was measured beforehand: level at the middle and slope, with their covariance."""

    background: Background
    covariance: Floats


def _take_part(profile: Profile, segments: Sequence[tuple[float, float]]) -> Profile:
    """Leave out samples without a value, and what lies beyond the outermost stretches of background."""
    intensity = profile.intensity
    if segments:
        low, high = min(a for a, _ in segments), max(b for _, b in segments)
        inside = (profile.position >= low - 1e-9) & (profile.position <= high + 1e-9)
        intensity = np.where(inside, intensity, np.nan)
    finite = np.isfinite(intensity)
    n = int(finite.sum())
    if n < _LEAST_SAMPLES:
        raise _RefusedError(
            f"{n} samples with a value on the line; at least {_LEAST_SAMPLES} are needed, draw it longer"
        )
    return replace(profile, intensity=intensity)


def _find_background(
    profile: Profile, segments: Sequence[tuple[float, float]]
) -> tuple[Floats, _Known | None]:
    """Background at every sample, and what is known of it where the user marked some."""
    x = profile.position - profile.length / 2
    known = None
    if segments:
        inside = np.zeros(len(x), bool)
        for low, high in segments:
            inside |= (profile.position >= low - 1e-9) & (profile.position <= high + 1e-9)
        inside &= np.isfinite(profile.intensity)
        if inside.sum() < 3:
            raise _RefusedError(
                f"the stretches of background hold {int(inside.sum())} samples; mark at least 3"
            )
        known = _fit_level(profile, inside, tuple(segments))
        base = known.background.level + known.background.slope * x
    else:
        finite = np.isfinite(profile.intensity)
        whole = replace(profile, position=profile.position[finite], intensity=profile.intensity[finite])
        base = np.interp(profile.position, whole.position, guess.guess_background(whole))
    if not (base > 0).all():
        raise _RefusedError(
            "the background is not above zero; contrast needs counts or transmission, with the dark level "
            "subtracted"
        )
    return base, known


def _fit_level(profile: Profile, inside: Mask, segments: tuple[tuple[float, float], ...]) -> _Known:
    """Straight line through samples of background, outliers held down; level alone where they lie on one side."""
    from scipy.optimize import least_squares

    x, y = profile.position[inside] - profile.length / 2, profile.intensity[inside]
    slanted = float(np.ptp(x)) > 0.4 * profile.length and len(x) >= 5
    design = np.stack([np.ones_like(x), x] if slanted else [np.ones_like(x)], axis=1)
    scatter = float(np.median(np.abs(y - np.median(y)))) / 0.6745
    first = np.linalg.lstsq(design, y, rcond=None)[0]
    if scatter > 0:
        first = least_squares(
            lambda v: (design @ v - y) / scatter, first, loss="huber", f_scale=1.5, x_scale="jac"
        ).x
    covariance = np.zeros((2, 2))
    if len(x) > design.shape[1]:
        found, _ = estimate_covariance(design, y - design @ first, measure_inflation(profile))
        covariance[: len(first), : len(first)] = found
    level, slope = (float(v) for v in np.append(first, 0.0)[:2])
    return _Known(Background(level, math.sqrt(covariance[0, 0]), slope, segments), covariance)


def _find_segments(
    profile: Profile, centers: Floats, radii: Floats, blur: float
) -> tuple[tuple[float, float], ...]:
    """Stretches of the line beyond all particles [unit]."""
    beyond = _mark_background(profile, centers, radii, blur)
    edges = np.flatnonzero(np.diff(np.r_[False, beyond, False].astype(int)))
    return tuple(
        (float(profile.position[a]), float(profile.position[b - 1]))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    )


def _mark_background(profile: Profile, centers: Floats, radii: Floats, blur: float) -> Mask:
    distance = np.abs(profile.position[:, None] - centers)
    return np.asarray((distance > _BEYOND * radii + 2 * blur).all(1) & np.isfinite(profile.intensity))


# ---- full


def _fit_full(profile: Profile, start: guess.Start, known: _Known | None, options: FitOptions) -> _Fitted:
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

    def split(values: Floats) -> tuple[Floats, Floats, Floats, float, float, float, float]:
        spheres = values[: 3 * count].reshape(count, 3)
        sigma, height, slope = math.exp(values[3 * count]), values[3 * count + 1], values[3 * count + 2]
        stretch = math.exp(values[3 * count + 3]) if stretched else 1.0
        return (
            spheres[:, 0], np.exp(spheres[:, 1]), np.exp(spheres[:, 2]), sigma, height, slope, stretch
        )  # fmt: skip

    def model(values: Floats) -> Floats:
        centers, radii, contrasts, sigma, height, slope, stretch = split(values)
        transmission = _model(profile, profile.position, centers, radii, contrasts, sigma)
        return np.asarray((height + slope * x) * (1 - stretch * (1 - transmission)))

    def misfit(values: Floats) -> Floats:
        return np.asarray((model(values)[finite] * unit - data) / unit)

    def misfit_and_blur(values: Floats) -> Floats:
        # a network draws edges of its own; without some knowledge of its blur one line cannot tell blur,
        # contrast and diameter apart
        blur = (values[3 * count] - math.log(_NETWORK_BLUR_PX * pixel)) / _NETWORK_BLUR_SPREAD
        return np.append(misfit(values), _NETWORK_NOISE * blur)

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
        *[-0.2 * length, math.log(0.5 * _SMALLEST_RADIUS_PX * pixel), math.log(_CONTRAST[0])] * count,
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
    found = least_squares(
        misfit_and_blur if options.is_enhanced else misfit, np.clip(first, np.add(low, 1e-6), np.subtract(high, 1e-6)), bounds=(low, high), x_scale=scale,
        max_nfev=80, xtol=1e-10, ftol=1e-12, gtol=1e-14,
    )  # fmt: skip
    values = found.x
    centers, radii, contrasts, sigma, height, slope, stretch = split(values)
    _check_bounds(values, low, high, count, sigma, radii, low_sigma)
    residuals = misfit(values)
    jacobian = _differentiate(misfit, values, np.asarray(scale) * 1e-3)
    # a blur at its lower bound is known: that of the pixel
    free = np.ones(len(values), bool)
    free[3 * count] = sigma > 1.02 * low_sigma
    try:
        covariance = np.zeros((len(values),) * 2)
        covariance[np.ix_(free, free)], dof = estimate_covariance(
            jacobian[:, free], residuals, measure_inflation(profile)
        )
    except np.linalg.LinAlgError:
        raise _RefusedError(
            f"the profile does not determine {count} particle{'s' * (count > 1)}; "
            + ("choose fewer, or " if count > 1 else "")
            + "draw the line longer, beyond the particle on both sides"
        ) from None
    places = np.arange(3 * count).reshape(count, 3)
    transform = np.zeros((2 * count, len(values)))
    for i, (center, log_radius, _) in enumerate(places):
        transform[2 * i, center], transform[2 * i + 1, log_radius] = 1.0, radii[i]
    fine = np.linspace(0, length, (len(profile.position) - 1) * OVERSAMPLING + 1)
    base_fine = unit * (height + slope * (fine / length - 0.5))
    curve = _model(profile, fine, centers, radii, contrasts, sigma, 1)
    scatter = math.sqrt(float(residuals @ residuals) / max(len(data) - len(values), 1))
    return _Fitted(
        centers=centers,
        radii=radii,
        contrasts=contrasts,
        sigma=sigma,
        background=Background(
            unit * height,
            unit * math.sqrt(covariance[3 * count + 1, 3 * count + 1]),
            unit * slope / length,
            options.background or _find_segments(profile, centers, radii, sigma),
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


def _model(
    profile: Profile,
    position: Floats,
    centers: Sequence[float] | Floats,
    radii: Sequence[float] | Floats,
    contrasts: Sequence[float] | Floats,
    sigma: float,
    oversampling: int = OVERSAMPLING,
) -> Floats:
    return model_line(
        position, tuple(centers), tuple(radii), tuple(contrasts), sigma, profile.width, oversampling,
        profile.across_excess,
    )  # fmt: skip


def _weigh_dips(
    profile: Profile,
    centers: Floats,
    radii: Floats,
    contrasts: Floats,
    sigma: float,
    scatter: float,
    inflation: float,
) -> Floats:
    """Depth of each dip over its standard error, as a matched filter sees it."""
    dips = [
        1 - _model(profile, profile.position, (c,), (r,), (k,), sigma)
        for c, r, k in zip(centers, radii, contrasts, strict=True)
    ]
    strength = np.sqrt([float(dip @ dip) for dip in dips])
    return strength / max(scatter * math.sqrt(inflation), 1e-12)


def _differentiate(function: Callable[[Floats], Floats], at: Floats, steps: Floats) -> Floats:
    columns = [(function(at + move) - function(at - move)) for move in np.diag(steps)]
    return np.stack(columns, axis=1) / (2 * steps)


def _check_bounds(
    values: Floats,
    low: Sequence[float],
    high: Sequence[float],
    count: int,
    sigma: float,
    radii: Floats,
    low_sigma: float,
) -> None:
    span = np.subtract(high, low)
    stuck = (values - low < 1e-4 * span) | (np.subtract(high, values) < 1e-4 * span)
    names = ["place", "radius", "contrast"] * count + ["blur", "background", "slope", "stretch"]
    stuck[3 * count] &= sigma > 1.1 * low_sigma  # as sharp as the pixel is a result
    stuck[3 * count + 3 :] = False  # no offset is a result
    at = [names[i] for i in np.flatnonzero(stuck)]
    if at:
        raise _RefusedError(
            f"the fit ended at the bound of its {at[0]}; the profile is not that of "
            f"{'a sphere' if count == 1 else f'{count} spheres'} on a level background"
        )
    if sigma > radii.min():
        raise _RefusedError(
            "the particle is no larger than the blur, so that its diameter cannot be told from its contrast"
        )


# ---- exponential and paper


def _fit_arcs(
    profile: Profile, start: guess.Start, base: Floats, known: _Known | None, options: FitOptions
) -> _Fitted:
    """Fit the points near each centre by a parabola, the background beforehand."""
    centers, radii = start.centers.copy(), start.radii.copy()
    x = profile.position - profile.length / 2
    for _ in range(2):  # the second time with the background beyond the particles found
        if known is None:
            beyond = _mark_background(profile, centers, radii, profile.pixel)
            if beyond.sum() < 3:
                raise _RefusedError(
                    "too little background on the line; draw it longer, or mark stretches of background"
                )
            level = _fit_level(profile, beyond, _find_segments(profile, centers, radii, profile.pixel))
        else:
            level = known
        base = level.background.level + level.background.slope * x
        if not (base > 0).all():
            raise _RefusedError("the background is not above zero; subtract the dark level")
        centers, radii = _fit_arcs_on(profile, base, centers, radii, options.model)
    arcs = [_Arc.take(profile, base, c, r, options.model) for c, r in zip(centers, radii, strict=True)]
    covariance = np.zeros((2 * len(arcs),) * 2)
    spread = np.sqrt(np.diag(level.covariance))
    for i, arc in enumerate(arcs):
        own, dof = arc.covariance(measure_inflation(profile))
        part = slice(2 * i, 2 * i + 2)
        covariance[part, part] = own
    # an error of the background moves all particles together
    moves = []
    for level_step, slope_step in ((spread[0], 0.0), (0.0, spread[1])):
        if level_step or slope_step:
            shifted = base + level_step + slope_step * x
            moved = _fit_arcs_on(profile, shifted, centers, radii, options.model, rounds=1)
            moves.append(np.stack([moved[0] - centers, moved[1] - radii], 1).ravel())
    for move in moves:
        covariance += np.outer(move, move)
    used = np.zeros(len(profile.position), bool)
    curve = np.full(len(profile.position), np.nan)
    for arc in arcs:
        used |= arc.inside
        curve[arc.inside] = arc.curve(profile.position[arc.inside], base[arc.inside])
    noise = guess.measure_noise(profile.intensity / base) or 1e-12
    peaks = np.array([arc.depth for arc in arcs])
    return _Fitted(
        centers=centers,
        radii=radii,
        contrasts=np.array([-math.log(max(1 - peak, 1e-3)) for peak in peaks]),
        sigma=None,
        background=level.background,
        covariance=covariance,
        contrast_se=None,
        dof=dof,
        significance=np.array([arc.depth * math.sqrt(arc.inside.sum()) / noise for arc in arcs]),
        base=base,
        position=profile.position[used],
        curve=curve[used],
        used=used,
    )


def _fit_arcs_on(
    profile: Profile, base: Floats, centers: Floats, radii: Floats, model: str, rounds: int = 12
) -> tuple[Floats, Floats]:
    new_centers, new_radii = centers.copy(), radii.copy()
    for i in range(len(centers)):
        for _ in range(rounds):
            arc = _Arc.take(profile, base, new_centers[i], new_radii[i], model)
            change = abs(arc.center - new_centers[i]) + abs(arc.radius - new_radii[i])
            # half of the way: the window would otherwise swing between two sets of points
            new_centers[i], new_radii[i] = (
                (arc.center, arc.radius)
                if rounds == 1
                else ((new_centers[i] + arc.center) / 2, (new_radii[i] + arc.radius) / 2)
            )
            if change < 1e-3 * profile.pixel:
                break
    return new_centers, new_radii


@dataclass(frozen=True, eq=False)
class _Arc:
    """A parabola z = a + b·u + c·u² through the points near a centre, u from `around`, z = y² or (B - I)²."""

    model: str
    inside: Mask
    around: float
    coefficients: Floats
    design: Floats
    residuals: Floats

    @classmethod
    def take(cls, profile: Profile, base: Floats, center: float, radius: float, model: str) -> _Arc:
        inside = (np.abs(profile.position - center) <= WINDOW * radius) & np.isfinite(profile.intensity)
        if inside.sum() < 4:
            raise _RefusedError(
                f"{int(inside.sum())} samples within {WINDOW:g} radii of the centre; at least 4 are needed"
            )
        transmission = profile.intensity[inside] / base[inside]
        if model == "exponential" and (transmission <= 0).any():
            raise _RefusedError(
                "intensities at or below zero have no logarithm; use the full fit, or average"
            )
        z = np.log(transmission) ** 2 if model == "exponential" else (1 - transmission) ** 2
        u = profile.position[inside] - center
        design = np.stack([np.ones_like(u), u, u**2], axis=1)
        coefficients = np.linalg.lstsq(design, z, rcond=None)[0]
        if model == "paper":
            # the error of a square grows with its root
            weight = 1 / np.sqrt(np.maximum(design @ coefficients, 0.05 * z.max()))[:, None]
            design, z = design * weight, z * weight[:, 0]
            coefficients = np.linalg.lstsq(design, z, rcond=None)[0]
        a, b, c = coefficients
        if not (c < 0 and a - b**2 / (4 * c) > 0):
            raise _RefusedError(
                "the points near the centre do not bend like a dip; draw the line across a particle"
            )
        return cls(model, inside, center, coefficients, design, z - design @ coefficients)

    @property
    def center(self) -> float:
        _, b, c = self.coefficients
        return float(self.around - b / (2 * c))

    @property
    def radius(self) -> float:
        a, b, c = self.coefficients
        return float(math.sqrt((a - b**2 / (4 * c)) / -c))

    @property
    def depth(self) -> float:
        a, b, c = self.coefficients
        peak = math.sqrt(a - b**2 / (4 * c))
        return float(-math.expm1(-peak) if self.model == "exponential" else peak)

    def covariance(self, inflation: float) -> tuple[Floats, float]:
        """Of centre and radius, and the degrees of freedom."""
        if len(self.residuals) <= 3:
            raise _RefusedError("too few samples near the centre for an error")
        own, dof = estimate_covariance(self.design, self.residuals, inflation)
        a, b, c = self.coefficients
        r = self.radius
        slope = np.array(
            [
                [0, -1 / (2 * c), b / (2 * c**2)],
                [-1 / (2 * c * r), b / (4 * c**2 * r), (a / c**2 - b**2 / (2 * c**3)) / (2 * r)],
            ]
        )
        return slope @ own @ slope.T, dof

    def curve(self, position: Floats, base: Floats) -> Floats:
        u = position - self.around
        a, b, c = self.coefficients
        root = np.sqrt(np.maximum(a + b * u + c * u**2, 0))
        return np.asarray(base * (np.exp(-root) if self.model == "exponential" else 1 - root))


# ---- judgement and report


def _check(profile: Profile, fitted: _Fitted) -> None:
    """Refuse numbers the data do not support."""
    unit, length = profile.unit, profile.length
    for center, radius, weight in zip(fitted.centers, fitted.radii, fitted.significance, strict=True):
        name = f"the particle at {center:.1f} {unit}" if len(fitted.centers) > 1 else "the particle"
        if weight < _LEAST_SIGNIFICANCE:
            raise _RefusedError(
                f"no dip that stands out of the noise ({weight:.1f} of its errors deep, {_LEAST_SIGNIFICANCE:g} are "
                "needed); widen the line, average frames, or enhance them"
            )
        if center - radius < -0.5 * profile.step or center + radius > length + 0.5 * profile.step:
            raise _RefusedError(
                f"{name} reaches beyond the line's end; draw the line from background to background"
            )
        row, col = profile.locate(float(center))
        reach = [radius / size for size in profile.pixel_size]
        rims = ((row, profile.shape[0], reach[0]), (col, profile.shape[1], reach[1]))
        if any(at - half < -1.0 or at + half > n for at, n, half in rims):
            raise _RefusedError(f"{name} is cut by the frame's rim; choose one that lies within")
        if radius < _SMALLEST_RADIUS_PX * profile.pixel:
            raise _RefusedError(f"{name} is smaller than 2 px; record it at a higher magnification")
        del row, col
    centers = np.sort(fitted.centers)
    for first, second in zip(centers, centers[1:], strict=False):
        if second - first < 0.2 * fitted.radii.min():
            raise _RefusedError(
                f"two of the particles lie on one another ({second - first:.1f} {unit} apart); choose fewer"
            )
    for center, radius, variance in zip(
        fitted.centers, fitted.radii, np.diag(fitted.covariance)[1::2], strict=True
    ):
        if 2 * math.sqrt(variance) > _MOST_ERROR * 2 * radius:
            raise _RefusedError(
                f"the noise allows no diameter at {center:.1f} {unit} ({2 * radius:.1f} ± "
                f"{2 * math.sqrt(variance):.1f} {unit}); widen the line, average frames, or enhance them"
            )


def _add_network_error(profile: Profile, fitted: _Fitted, raw_noise: float | None) -> _Fitted:
    """Enlarge the errors to what the electrons of the raw frame allow."""
    if raw_noise is None:
        note = (
            "errors from the residuals of an enhanced frame, doubled; with the raw frame they would be those the "
            "electrons allow"
        )
        contrast_se = None if fitted.contrast_se is None else 2 * fitted.contrast_se
        return replace(
            fitted, covariance=4 * fitted.covariance, contrast_se=contrast_se, notes=(*fitted.notes, note)
        )
    covariance = fitted.covariance.copy()
    contrasts = fitted.contrasts if fitted.contrasts is not None else np.zeros(len(fitted.radii))
    contrast_se = np.zeros(len(contrasts)) if fitted.contrast_se is None else fitted.contrast_se.copy()
    for i, (radius, contrast) in enumerate(zip(fitted.radii.tolist(), contrasts.tolist(), strict=True)):
        sigma = fitted.sigma or _NETWORK_BLUR_PX * profile.pixel
        try:
            bound = bound_sphere(radius, contrast, sigma, profile.pixel, raw_noise)
        except np.linalg.LinAlgError:
            raise _RefusedError("the electrons of the raw frame do not show this particle") from None
        covariance[2 * i, 2 * i] += (NETWORK_FACTOR * bound.center) ** 2
        covariance[2 * i + 1, 2 * i + 1] += (NETWORK_FACTOR * bound.diameter / 2) ** 2
        contrast_se[i] = math.hypot(contrast_se[i], NETWORK_FACTOR * bound.t_min * math.exp(contrast))
    return replace(
        fitted, covariance=covariance, contrast_se=None if fitted.contrast_se is None else contrast_se
    )


def _report(profile: Profile, fitted: _Fitted, options: FitOptions) -> Measurement:
    from scipy.stats import t as student

    factor = float(student.ppf(0.975, fitted.dof))
    depth_of_data = np.where(np.isfinite(profile.intensity), fitted.base - profile.intensity, 0.0)
    particles = []
    for i, (center, radius) in enumerate(zip(fitted.centers.tolist(), fitted.radii.tolist(), strict=True)):
        contrast = None if fitted.contrasts is None else float(fitted.contrasts[i])
        se = 2 * math.sqrt(fitted.covariance[2 * i + 1, 2 * i + 1])
        x, depth = profile.position, depth_of_data
        if fitted.sigma is not None and contrast is not None:
            # a neighbour's side is not this one's edge
            x = fitted.position
            depth = 1 - _model(profile, x, (center,), (radius,), (contrast,), fitted.sigma, 1)
        peak = float(np.interp(center, x, depth))
        if options.rule == "first_crossing":
            across = measure_pseudo_diameter(profile.position, depth_of_data, center, options.rule, peak)
        else:
            across = measure_pseudo_diameter(x, depth, center, options.rule, peak)
        total = None if across is None else across - 2 * radius
        t_min = None if contrast is None else math.exp(-contrast)
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
                t_min_se=None
                if fitted.contrast_se is None or t_min is None
                else t_min * float(fitted.contrast_se[i]),
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
