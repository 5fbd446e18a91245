"""The paper's fit and its exponential form: an parabola through the points near the centre."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.background import (
    MeasuredBackground,
    find_background_segments,
    fit_background,
    mark_background,
)
from napari_lowdose_tem.measure.errors import estimate_covariance
from napari_lowdose_tem.measure.first_guess import FirstGuess, measure_noise
from napari_lowdose_tem.measure.fit_result import BACKGROUND_NOT_POSITIVE, FitResult, RefusedError
from napari_lowdose_tem.measure.measurement import FitOptions
from napari_lowdose_tem.measure.profile import Profile, measure_inflation
from napari_lowdose_tem.measure.thresholds import (
    CENTRAL_ROUNDS,
    CENTRAL_WINDOW,
    LEAST_BACKGROUND_SAMPLES,
    LEAST_CENTRAL_SAMPLES,
    LEAST_WEIGHT,
)

Mask = npt.NDArray[np.bool_]


def fit_central(
    profile: Profile, guess: FirstGuess, base: F64, marked: MeasuredBackground | None, options: FitOptions
) -> FitResult:
    """Fit the points near each centre by a parabola, the background beforehand."""
    centers, radii = guess.centers.copy(), guess.radii.copy()
    x = profile.position - profile.length / 2
    for _ in range(2):  # the second time with the background beyond the particles found
        if marked is None:
            beyond = mark_background(profile, centers, radii, profile.pixel)
            if beyond.sum() < LEAST_BACKGROUND_SAMPLES:
                raise RefusedError(
                    "too little background on the line; draw it longer, or mark the background"
                )
            level = fit_background(
                profile, beyond, find_background_segments(profile, centers, radii, profile.pixel)
            )
        else:
            level = marked
        base = level.background.level + level.background.slope * x
        if not (base > 0).all():
            raise RefusedError(BACKGROUND_NOT_POSITIVE)
        centers, radii = _fit_central_on(profile, base, centers, radii, options.model)
    parabolas = [
        _CentralParabola.through(profile, base, c, r, options.model)
        for c, r in zip(centers, radii, strict=True)
    ]
    covariance = np.zeros((2 * len(parabolas),) * 2)
    spread = np.sqrt(np.diag(level.covariance))
    for i, parabola in enumerate(parabolas):
        own, dof = parabola.covariance(measure_inflation(profile))
        part = slice(2 * i, 2 * i + 2)
        covariance[part, part] = own
    # an error of the background moves all particles together
    moves = []
    for level_step, slope_step in ((spread[0], 0.0), (0.0, spread[1])):
        if level_step or slope_step:
            shifted = base + level_step + slope_step * x
            moved = _fit_central_on(profile, shifted, centers, radii, options.model, rounds=1)
            moves.append(np.stack([moved[0] - centers, moved[1] - radii], 1).ravel())
    for move in moves:
        covariance += np.outer(move, move)
    used = np.zeros(len(profile.position), bool)
    curve = np.full(len(profile.position), np.nan)
    for parabola in parabolas:
        used |= parabola.inside
        curve[parabola.inside] = parabola.curve(profile.position[parabola.inside], base[parabola.inside])
    noise = measure_noise(profile.intensity / base) or 1e-12
    peaks = np.array([parabola.depth for parabola in parabolas])
    return FitResult(
        centers=centers,
        radii=radii,
        contrasts=np.array([-math.log(max(1 - peak, 1e-3)) for peak in peaks]),
        sigma=None,
        background=level.background,
        covariance=covariance,
        contrast_se=None,
        dof=dof,
        significance=np.array(
            [parabola.depth * math.sqrt(parabola.inside.sum()) / noise for parabola in parabolas]
        ),
        base=base,
        position=profile.position[used],
        curve=curve[used],
        used=used,
    )


def _fit_central_on(
    profile: Profile, base: F64, centers: F64, radii: F64, model: str, rounds: int = CENTRAL_ROUNDS
) -> tuple[F64, F64]:
    new_centers, new_radii = centers.copy(), radii.copy()
    for i in range(len(centers)):
        for _ in range(rounds):
            parabola = _CentralParabola.through(profile, base, new_centers[i], new_radii[i], model)
            change = abs(parabola.center - new_centers[i]) + abs(parabola.radius - new_radii[i])
            # half of the way: the window would otherwise swing between two sets of points
            new_centers[i], new_radii[i] = (
                (parabola.center, parabola.radius)
                if rounds == 1
                else ((new_centers[i] + parabola.center) / 2, (new_radii[i] + parabola.radius) / 2)
            )
            if change < 1e-3 * profile.pixel:
                break
    return new_centers, new_radii


@dataclass(frozen=True, eq=False)
class _CentralParabola:
    """A parabola z = a + b·u + c·u² through the points near a centre, u from `around`, z = y² or (B - I)²."""

    model: str
    inside: Mask
    around: float
    coefficients: F64
    design: F64
    residuals: F64

    @classmethod
    def through(
        cls, profile: Profile, base: F64, center: float, radius: float, model: str
    ) -> _CentralParabola:
        inside = (np.abs(profile.position - center) <= CENTRAL_WINDOW * radius) & np.isfinite(
            profile.intensity
        )
        if inside.sum() < LEAST_CENTRAL_SAMPLES:
            raise RefusedError(
                f"fewer than {LEAST_CENTRAL_SAMPLES} samples within {CENTRAL_WINDOW:g} radii of the centre; "
                "choose the full fit"
            )
        transmission = profile.intensity[inside] / base[inside]
        if model == "exponential" and (transmission <= 0).any():
            raise RefusedError(
                "intensities of zero or less have no logarithm; use the full fit, or average frames"
            )
        z = np.log(transmission) ** 2 if model == "exponential" else (1 - transmission) ** 2
        u = profile.position[inside] - center
        design = np.stack([np.ones_like(u), u, u**2], axis=1)
        coefficients = np.linalg.lstsq(design, z, rcond=None)[0]
        if model == "paper":
            # the error of a square grows with its root
            weight = 1 / np.sqrt(np.maximum(design @ coefficients, LEAST_WEIGHT * z.max()))[:, None]
            design, z = design * weight, z * weight[:, 0]
            coefficients = np.linalg.lstsq(design, z, rcond=None)[0]
        a, b, c = coefficients
        if not (c < 0 and a - b**2 / (4 * c) > 0):
            raise RefusedError("no dip near the centre; draw the line across a particle")
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

    def covariance(self, inflation: float) -> tuple[F64, float]:
        """Of centre and radius, and the degrees of freedom."""
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

    def curve(self, position: F64, base: F64) -> F64:
        u = position - self.around
        a, b, c = self.coefficients
        root = np.sqrt(np.maximum(a + b * u + c * u**2, 0))
        return np.asarray(base * (np.exp(-root) if self.model == "exponential" else 1 - root))
