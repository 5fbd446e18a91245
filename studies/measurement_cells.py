"""Spheres drawn on pixels, every way to measure one, and the statistics of many: for measurement.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy import ndimage

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure import (
    FitOptions,
    Line,
    Measurement,
    SphereFit,
    fit_counts,
    fit_profile,
    fit_sphere,
    sample_line,
)
from napari_lowdose_tem.simulate.camera import MEASURED

SEED = 40_230_907
MODELS = ("full", "exponential", "paper")
FINE = 8  # points a pixel side that spheres are rendered with
GAIN = MEASURED.gain
COUNTS_BLUR_PX = 1.1  # of raw frames: optics, pixel and camera together
PAIR = (58.3, 73.0, 78.4)  # diameters and distance, Fig. 7a of the paper [nm]

SWEEPS: dict[str, tuple[float, ...]] = {
    "diameter_nm": (40, 50, 65, 80, 96, 130, 200, 300, 384),  # 8–80 px
    "t_min": (0.3, 0.41, 0.5, 0.59, 0.7, 0.8, 0.9, 0.95),
    "blur_nm": (0.5, 2, 4, 6, 8, 10, 12),
    "offset": (0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    "width_px": (1, 2, 3, 4, 5, 6, 8, 10),
}


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    draws: int = 500  # of the main cells
    draws_axis: int = 60
    counts_draws: int = 400
    counts_draws_axis: int = 25
    frames: int = 3  # of each enhanced condition, 16 spheres each
    frames_main: int = 32
    frames_pairs: int = 6  # of each condition, 9 pairs each
    model: str = "default"


@dataclass(frozen=True)
class Cell:
    """A kind of sphere and how it is recorded; `offset` of the line from its centre in radii."""

    diameter_nm: float = 96.0
    t_min: float = 0.59
    pixel_nm: float = 4.8
    blur_nm: float = 4.0
    dose_e_per_px: float = 64_000.0
    offset: float = 0.0
    width_px: float = 1.0


HDE = Cell()
LDE = Cell(blur_nm=4.8 * math.sqrt(COUNTS_BLUR_PX**2 - 1 / 12), dose_e_per_px=5.0)


def render_spheres(
    shape: tuple[int, int],
    spheres: Iterable[tuple[float, float, float, float]],
    blur_nm: float,
    pixel_nm: float,
) -> F64:
    """Transmission of spheres (row, column, diameter [nm], T_min), blurred, averaged over each pixel."""
    rows, cols = (((np.arange(n * FINE) + 0.5) / FINE - 0.5) * pixel_nm for n in shape)
    log_t = np.zeros((len(rows), len(cols)))
    for row, col, diameter, t_min in spheres:
        distance2 = (rows[:, None] - row) ** 2 + (cols - col) ** 2
        log_t += math.log(t_min) * np.sqrt(np.maximum(1 - distance2 / (diameter / 2) ** 2, 0))
    fine = ndimage.gaussian_filter(np.exp(log_t), blur_nm / pixel_nm * FINE, mode="nearest")
    return np.asarray(fine.reshape(shape[0], FINE, shape[1], FINE).mean((1, 3)))


def draw_sphere(cell: Cell, rng: np.random.Generator, rim_px: int = 0) -> tuple[F64, Line]:
    """Transmission of a sphere anywhere within a pixel, and a line across it at any angle."""
    half = 0.7 * cell.diameter_nm + 2.5 * cell.blur_nm + 2 * cell.pixel_nm
    side = math.ceil(2.3 * (half + 4 * cell.pixel_nm) / cell.pixel_nm)
    shape = (side, side + 8)
    center = (np.array(shape) // 2 + rng.uniform(-0.5, 0.5, 2)) * cell.pixel_nm
    image = render_spheres(shape, [(*center, cell.diameter_nm, cell.t_min)], cell.blur_nm, cell.pixel_nm)
    image, center = np.pad(image, rim_px, mode="edge"), center + rim_px * cell.pixel_nm
    angle = rng.uniform(0, np.pi)
    along = np.array([np.sin(angle), np.cos(angle)])
    across = np.array([-along[1], along[0]]) * cell.offset * cell.diameter_nm / 2
    ends = [center + across + along * sign * half * rng.uniform(1, 1.12) for sign in (-1, 1)]
    (row_0, col_0), (row_1, col_1) = (tuple((end / cell.pixel_nm).tolist()) for end in ends)
    return image, Line((row_0, col_0), (row_1, col_1), cell.width_px)


def draw_pair(pair: tuple[float, float, float], rng: np.random.Generator) -> tuple[F64, Line]:
    """Two spheres (diameters and distance [nm]) of the main cell, and a line along both."""
    first, second, apart = pair
    pixel, angle = HDE.pixel_nm, rng.uniform(0, np.pi)
    along = np.array([np.sin(angle), np.cos(angle)])
    reach = apart / 2 + max(first, second) / 2 + 45.0
    shape = (math.ceil(2 * reach / pixel), math.ceil(2 * reach / pixel) + 8)
    middle = (np.array(shape) / 2 + rng.uniform(-0.5, 0.5, 2)) * pixel
    centers = middle - along * apart / 2, middle + along * apart / 2
    spheres = [(*c, d, HDE.t_min) for c, d in zip(centers, (first, second), strict=True)]
    image = render_spheres(shape, spheres, HDE.blur_nm, pixel)
    start = centers[0] - along * (first / 2 + 35.0)
    stop = centers[1] + along * (second / 2 + 35.0)
    (row_0, col_0), (row_1, col_1) = (tuple((end / pixel).tolist()) for end in (start, stop))
    return image, Line((row_0, col_0), (row_1, col_1))


def guess_near(image: F64, cell: Cell, rng: np.random.Generator) -> SphereFit:
    """Make a start such as an enhanced frame gives: a pixel, a tenth of the diameter, a tenth of K off."""
    dark = 1 - image
    row, col = (float((axis * dark).sum() / dark.sum() + rng.normal()) for axis in np.indices(image.shape))
    diameter, k = cell.diameter_nm * (1 + 0.1 * rng.normal()), 1 + 0.1 * rng.normal()
    return SphereFit("nm", row, col, diameter=diameter, t_min=cell.t_min**k)


def measure_one(
    way: str,
    image: npt.NDArray[Any],
    line: Line,
    pixel_nm: float,
    noise: float | None = None,
    start: SphereFit | None = None,
) -> F64:
    """Diameter, its standard error, interval and bound [nm]; NaN where refused.

    `noise`: of the raw frame of an enhanced one; `start`: of the way "near".
    """
    size, is_enhanced = (pixel_nm, pixel_nm), noise is not None
    found: Any
    if way == "sphere":
        found = fit_sphere(image, line, size, is_enhanced=is_enhanced, raw_noise=noise)
    elif way == "counts":
        found = fit_counts(image, line, size, GAIN)
    elif way == "near":
        found = fit_counts(image, line, size, GAIN, start=start)
    elif way == "ideal":
        found = fit_counts(image, line, size, 1.0)
    else:
        options = FitOptions(model=way, particles=1, is_enhanced=is_enhanced)
        found = fit_profile(sample_line(image, line, size), options, noise)
    if found.refused:
        return np.full(5, np.nan)
    particle = found if way in ("sphere", "counts", "near", "ideal") else found.particles[0]
    bound = getattr(particle, "bound", None)
    return np.array([particle.diameter, particle.diameter_se, *particle.diameter_ci95, bound or np.nan])


def list_pair(found: Measurement) -> F64:
    """Rows as of `measure_one` for both diameters and the separation, (3, 5); NaN where refused."""
    if found.refused or found.separation is None or found.separation_se is None:
        return np.full((3, 5), np.nan)
    rows = [
        (particle.diameter, particle.diameter_se, *(particle.diameter_ci95 or ()), np.nan)
        for particle in found.particles
    ]
    value, half = found.separation, 1.96 * found.separation_se
    return np.array([*rows, (value, found.separation_se, value - half, value + half, np.nan)])


def summarise(true_nm: npt.ArrayLike, rows: npt.ArrayLike) -> dict[str, Any]:
    """Bias, spread and coverage with their errors, of rows of `measure_one`."""
    true, found = np.asarray(true_nm, float), np.asarray(rows, float)
    known = np.isfinite(found[:, 0])
    n = int(known.sum())
    result: dict[str, Any] = {"n": n, "refused": 1 - n / max(len(found), 1)}
    if n < 3:
        return result
    value, se, low, high, bound = found[known].T
    error = value - true[known]
    hits = int(np.sum((low <= true[known]) & (true[known] <= high)))
    share = (hits + 1) / (n + 2)
    return {
        **result,
        "bias": float(error.mean()),
        "bias_se": float(error.std(ddof=1) / math.sqrt(n)),
        "median": float(np.median(error)),
        "sd": float(error.std(ddof=1)),
        "spread": float(np.diff(np.percentile(error, [15.87, 84.13]))[0] / 2),
        "se": float(np.median(se)),
        "bound": float(np.median(bound)) if np.isfinite(bound).any() else None,
        "coverage": hits / n,
        "coverage_se": math.sqrt(share * (1 - share) / n),
        "largest": float(np.abs(error).max()),
    }


def measure_cell(
    cell: Cell,
    ways: Iterable[str],
    draws: int,
    take: Callable[[F64, np.random.Generator], F64],
    label: str,
    rim_px: int = 0,
) -> dict[str, Any]:
    """Summarise draws of a cell by each way; `take` records a frame of a transmission."""
    rng = np.random.default_rng([SEED, round(cell.diameter_nm), round(100 * cell.t_min), draws])
    rows: dict[str, list[F64]] = {way: [] for way in ways}
    for _ in track(range(draws), label):
        image, line = draw_sphere(cell, rng, rim_px)
        frame = take(image, rng)
        start = guess_near(image, cell, rng) if "near" in rows else None
        for way, found in rows.items():
            found.append(measure_one(way, frame, line, cell.pixel_nm, start=start))
    return {way: summarise(np.full(draws, cell.diameter_nm), found) for way, found in rows.items()}


def measure_axes(
    cell: Cell, axes: dict[str, tuple[float, ...]], measure: Callable[[Cell, str], dict[str, Any]]
) -> dict[str, Any]:
    """Measure a cell along each of its axes."""
    return {
        axis: [[value, measure(replace(cell, **{axis: value}), f"{axis} {value:g}")] for value in values]
        for axis, values in axes.items()
    }
