"""The background of a profile: by the user's marks, or beyond the particles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.errors import estimate_covariance
from napari_lowdose_tem.measure.first_guess import guess_background
from napari_lowdose_tem.measure.fit_result import BACKGROUND_NOT_POSITIVE, RefusedError
from napari_lowdose_tem.measure.measurement import Background
from napari_lowdose_tem.measure.profile import Profile, measure_inflation
from napari_lowdose_tem.measure.thresholds import (
    BACKGROUND_FROM,
    HUBER,
    LEAST_BACKGROUND_SAMPLES,
    LEAST_BACKGROUND_SPAN,
    LEAST_SAMPLES,
)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MeasuredBackground:
    """Background that was measured beforehand: level at the middle and slope, with their covariance."""

    background: Background
    covariance: F64


def select_samples(profile: Profile, segments: Sequence[tuple[float, float]]) -> Profile:
    """Leave out samples without a value, and what lies beyond the outermost stretches of background."""
    intensity = profile.intensity
    if segments:
        low, high = min(a for a, _ in segments), max(b for _, b in segments)
        inside = (profile.position >= low - 1e-9) & (profile.position <= high + 1e-9)
        intensity = np.where(inside, intensity, np.nan)
    finite = np.isfinite(intensity)
    n = int(finite.sum())
    if n < LEAST_SAMPLES:
        if segments and np.isfinite(profile.intensity).sum() >= LEAST_SAMPLES:
            end = f"{profile.length:.1f} {profile.unit}"
            remedy = f"mark background on both sides of the particle, between 0 and {end}"
        elif profile.width > profile.pixel:
            remedy = "draw it longer, or narrower: half its width must lie on the frame"
        else:
            remedy = "draw it longer"
        raise RefusedError(f"only {n} valid samples on the line, {LEAST_SAMPLES} needed; {remedy}")
    return replace(profile, intensity=intensity)


def find_background(
    profile: Profile, segments: Sequence[tuple[float, float]]
) -> tuple[F64, MeasuredBackground | None]:
    """Background at every sample, and what is marked of it where the user marked some."""
    x = profile.position - profile.length / 2
    marked = None
    if segments:
        inside = np.zeros(len(x), bool)
        for low, high in segments:
            inside |= (profile.position >= low - 1e-9) & (profile.position <= high + 1e-9)
        inside &= np.isfinite(profile.intensity)
        if inside.sum() < LEAST_BACKGROUND_SAMPLES:
            raise RefusedError(
                f"the marked background holds {int(inside.sum())} samples; "
                f"mark at least {LEAST_BACKGROUND_SAMPLES}"
            )
        marked = fit_background(profile, inside, tuple(segments))
        base = marked.background.level + marked.background.slope * x
    else:
        finite = np.isfinite(profile.intensity)
        whole = replace(profile, position=profile.position[finite], intensity=profile.intensity[finite])
        base = np.interp(profile.position, whole.position, guess_background(whole))
    if not (base > 0).all():
        raise RefusedError(BACKGROUND_NOT_POSITIVE)
    return base, marked


def fit_background(
    profile: Profile, inside: Mask, segments: tuple[tuple[float, float], ...]
) -> MeasuredBackground:
    """Line through samples of background, outliers held down; level alone where they lie on one side."""
    from scipy.optimize import least_squares

    x, y = profile.position[inside] - profile.length / 2, profile.intensity[inside]
    slanted = float(np.ptp(x)) > LEAST_BACKGROUND_SPAN * profile.length and len(x) >= 5
    design = np.stack([np.ones_like(x), x] if slanted else [np.ones_like(x)], axis=1)
    scatter = float(np.median(np.abs(y - np.median(y)))) / 0.6745
    first = np.linalg.lstsq(design, y, rcond=None)[0]
    if scatter > 0:
        first = least_squares(
            lambda v: (design @ v - y) / scatter, first, loss="huber", f_scale=HUBER, x_scale="jac"
        ).x
    covariance = np.zeros((2, 2))
    if len(x) > design.shape[1]:
        found, _ = estimate_covariance(design, y - design @ first, measure_inflation(profile))
        covariance[: len(first), : len(first)] = found
    level, slope = (float(v) for v in np.append(first, 0.0)[:2])
    return MeasuredBackground(Background(level, math.sqrt(covariance[0, 0]), slope, segments), covariance)


def find_background_segments(
    profile: Profile, centers: F64, radii: F64, blur: float
) -> tuple[tuple[float, float], ...]:
    """Stretches of the line beyond all particles [unit]."""
    beyond = mark_background(profile, centers, radii, blur)
    edges = np.flatnonzero(np.diff(np.r_[False, beyond, False].astype(int)))
    return tuple(
        (float(profile.position[a]), float(profile.position[b - 1]))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    )


def mark_background(profile: Profile, centers: F64, radii: F64, blur: float) -> Mask:
    """Mark the samples beyond all particles, (n,)."""
    distance = np.abs(profile.position[:, None] - centers)
    return np.asarray((distance > BACKGROUND_FROM * radii + 2 * blur).all(1) & np.isfinite(profile.intensity))
