"""Hold the measurements on lines against simulated truth: bias, spread, coverage.

    python studies/measurement.py [SECTION …] [--model NAME_OR_FILE] [--quick] [--redraw] [--out FOLDER]

Measures the sections named (bias, sweeps, hde, enhanced, pairs, counts) anew; without any, those that are
not in measurement.json yet or belong to another model. Then writes the tables of measurement.md and draws
images/measurement-*.png.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from measurement_report import draw_figures, write_tables
from reliability import CAMERA, SHAPE, draw_film, draw_spheres, place_spheres
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from napari_lowdose_tem.measure import (
    FitOptions,
    Line,
    Measurement,
    SphereFit,
    fit_counts,
    fit_profile,
    fit_sphere,
    measure_raw_noise,
    sample_line,
    suggest_particles,
)
from napari_lowdose_tem.simulate.camera import IDEAL, MEASURED, Camera, expose

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine

Array = npt.NDArray[np.float64]

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
HDE_AXES: dict[str, tuple[float, ...]] = {
    "diameter_nm": (40, 60, 96, 150, 240),
    "t_min": (0.35, 0.59, 0.8, 0.92),
    "dose_e_per_px": (4000, 16_000, 64_000, 256_000),
    "blur_nm": (1, 4, 8),
    "offset": (0, 0.1, 0.2, 0.3),
}
COUNTS_AXES: dict[str, tuple[float, ...]] = {
    "diameter_nm": (70, 96, 140, 190),
    "t_min": (0.41, 0.59, 0.75),
    "dose_e_per_px": (3, 5, 10, 20),
}
ENHANCED_T_MIN, ENHANCED_NM = (0.45, 0.6, 0.75, 0.88), (60.0, 75.0, 95.0, 120.0, 160.0)
ENHANCED_DOSES, ENHANCED_PIXELS_NM = (5.0, 10.0), (4.8, 3.0)
APART = (0.6, 0.8, 1.0, 1.2, 1.6)
"""Distances of the centres of pairs, in mean diameters: 1 where they touch."""
PAIRS_T_MIN = (0.45, 0.6, 0.75)


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


QUICK = Settings(40, 10, 20, 8, 1, 2, 1)


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
) -> Array:
    """Transmission of spheres (row, column, diameter [nm], T_min), blurred, averaged over each pixel."""
    rows, cols = (((np.arange(n * FINE) + 0.5) / FINE - 0.5) * pixel_nm for n in shape)
    log_t = np.zeros((len(rows), len(cols)))
    for row, col, diameter, t_min in spheres:
        distance2 = (rows[:, None] - row) ** 2 + (cols - col) ** 2
        log_t += math.log(t_min) * np.sqrt(np.maximum(1 - distance2 / (diameter / 2) ** 2, 0))
    fine = ndimage.gaussian_filter(np.exp(log_t), blur_nm / pixel_nm * FINE, mode="nearest")
    return np.asarray(fine.reshape(shape[0], FINE, shape[1], FINE).mean((1, 3)))


def draw_sphere(cell: Cell, rng: np.random.Generator, rim_px: int = 0) -> tuple[Array, Line]:
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


def measure_one(
    way: str,
    image: npt.NDArray[Any],
    line: Line,
    pixel_nm: float,
    noise: float | None = None,
    start: SphereFit | None = None,
) -> Array:
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


# ---- without noise


def measure_bias(_settings: Settings) -> dict[str, Any]:
    """Diameter each fit finds for 96 nm, without noise, finely sampled: with and without blur."""
    found: dict[str, Any] = {}
    for blur in track((0.05, 4.0), "bias"):
        for t_min in (0.90, 0.59, 0.41):
            image, line = draw_sphere(
                Cell(t_min=t_min, pixel_nm=1.2, blur_nm=blur), np.random.default_rng(SEED)
            )
            for way in MODELS:
                row = found.setdefault(f"{way}, {'blur 4 nm' if blur > 1 else 'no blur'}", [])
                diameter = float(measure_one(way, image, line, 1.2)[0])
                row.append(diameter if math.isfinite(diameter) else None)
    return {"found": found}


def measure_sweeps(_settings: Settings) -> dict[str, Any]:
    """Bias without noise [%] along `SWEEPS`, and that of two particles by their distance."""
    axes: dict[str, Any] = {}
    for axis, values in SWEEPS.items():
        for value in track(values, f"sweeps, {axis}"):
            cell = replace(HDE, **{axis: value})
            image, line = draw_sphere(cell, np.random.default_rng(SEED))
            for way in (*MODELS, "sphere"):
                diameter = measure_one(way, image, line, cell.pixel_nm)[0]
                bias = 100 * (diameter / cell.diameter_nm - 1)
                axes.setdefault(axis, {}).setdefault(way, []).append(None if np.isnan(bias) else float(bias))
    apart = (0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4)
    pair: dict[str, list[float | None]] = {way: [] for way in MODELS}
    for share in track(apart, "sweeps, pair"):
        image, line = draw_pair((96.0, 96.0, share * 96.0), np.random.default_rng(SEED))
        for way, biases in pair.items():
            options = FitOptions(model=way, particles=2)
            found = fit_profile(sample_line(image, line, (4.8, 4.8)), options)
            mean = None if found.refused else np.mean([p.diameter for p in found.particles])
            biases.append(None if mean is None else float(100 * (mean / 96 - 1)))
    blur = []
    for true_px in track((0.7, 0.9, 1.1, 1.3, 1.5), "sweeps, blur of raw counts"):
        cell = replace(LDE, blur_nm=4.8 * math.sqrt(true_px**2 - 1 / 12))
        image, line = draw_sphere(cell, np.random.default_rng(SEED))
        blur.append([true_px, float(measure_one("ideal", 100 * image, line, 4.8)[0]) - 96])
    return {"axes": axes, "pair": [list(apart), pair], "counts_blur": blur}


def draw_pair(pair: tuple[float, float, float], rng: np.random.Generator) -> tuple[Array, Line]:
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


# ---- with the noise of electrons


def measure_cell(
    cell: Cell,
    ways: Iterable[str],
    draws: int,
    take: Callable[[Array, np.random.Generator], Array],
    label: str,
    rim_px: int = 0,
) -> dict[str, Any]:
    """Summarise draws of a cell by each way; `take` records a frame of a transmission."""
    rng = np.random.default_rng([SEED, round(cell.diameter_nm), round(100 * cell.t_min), draws])
    rows: dict[str, list[Array]] = {way: [] for way in ways}
    for _ in track(range(draws), label):
        image, line = draw_sphere(cell, rng, rim_px)
        frame = take(image, rng)
        start = guess_near(image, cell, rng) if "near" in rows else None
        for way, found in rows.items():
            found.append(measure_one(way, frame, line, cell.pixel_nm, start=start))
    return {way: summarise(np.full(draws, cell.diameter_nm), found) for way, found in rows.items()}


def guess_near(image: Array, cell: Cell, rng: np.random.Generator) -> SphereFit:
    """Make a start such as an enhanced frame gives: a pixel, a tenth of the diameter, a tenth of K off."""
    dark = 1 - image
    row, col = (float((axis * dark).sum() / dark.sum() + rng.normal()) for axis in np.indices(image.shape))
    diameter, k = cell.diameter_nm * (1 + 0.1 * rng.normal()), 1 + 0.1 * rng.normal()
    return SphereFit("nm", row, col, diameter=diameter, t_min=cell.t_min**k)


def measure_axes(
    cell: Cell, axes: dict[str, tuple[float, ...]], measure: Callable[[Cell, str], dict[str, Any]]
) -> dict[str, Any]:
    """Measure a cell along each of its axes."""
    return {
        axis: [[value, measure(replace(cell, **{axis: value}), f"{axis} {value:g}")] for value in values]
        for axis, values in axes.items()
    }


def measure_hde(settings: Settings) -> dict[str, Any]:
    """Frames at high dose: the cell of the paper, a pair, and around the cell."""

    def measure(cell: Cell, label: str, draws: int = settings.draws_axis, *more: str) -> dict[str, Any]:
        dose = cell.dose_e_per_px
        return measure_cell(
            cell,
            ("full", "sphere", *more),
            draws,
            lambda image, rng: rng.poisson(image * dose).astype(float),
            f"hde, {label}",
        )

    main = measure(HDE, "main", settings.draws, "exponential", "paper")
    axes = measure_axes(HDE, HDE_AXES, lambda cell, label: main if cell == HDE else measure(cell, label))
    return {"main": main, "pair": measure_pairs(settings.draws), "axes": axes}


def measure_pairs(draws: int) -> dict[str, Any]:
    """Measure the pair of Fig. 7a on high-dose frames."""
    rng = np.random.default_rng([SEED, 2])
    rows, seen = [], []
    for _ in track(range(draws), "hde, pair"):
        image, line = draw_pair(PAIR, rng)
        profile = sample_line(rng.poisson(image * HDE.dose_e_per_px), line, (4.8, 4.8))
        rows.append(list_pair(fit_profile(profile, FitOptions(particles=2))))
        seen.append(suggest_particles(profile))
    names = ("smaller", "larger", "separation")
    result = {
        name: summarise(np.full(draws, true), part)
        for name, true, part in zip(names, PAIR, np.swapaxes(rows, 0, 1), strict=True)
    }
    return {**result, "two_suggested": float(np.mean(np.array(seen) == 2))}


def list_pair(found: Measurement) -> Array:
    """Rows as of `measure_one` for both diameters and the separation, (3, 5); NaN where refused."""
    if found.refused or found.separation is None or found.separation_se is None:
        return np.full((3, 5), np.nan)
    rows = [
        (particle.diameter, particle.diameter_se, *(particle.diameter_ci95 or ()), np.nan)
        for particle in found.particles
    ]
    value, half = found.separation, 1.96 * found.separation_se
    return np.array([*rows, (value, found.separation_se, value - half, value + half, np.nan)])


def measure_counts(settings: Settings) -> dict[str, Any]:
    """Raw counts: an ideal camera and the measured one, and what clipping at 0 does."""

    def measure(
        cell: Cell, label: str, draws: int = settings.counts_draws_axis, camera: Camera = MEASURED
    ) -> dict[str, Any]:
        ways = ["ideal"] if camera is IDEAL else ["counts", "near"]
        return measure_cell(
            cell,
            ways,
            draws,
            lambda image, rng: expose(image * cell.dose_e_per_px, camera, rng).astype(float),
            f"counts, {label}",
            64,  # streaks are measured on the whole frame
        )

    n = settings.counts_draws
    darker, brighter = replace(LDE, t_min=0.41), replace(LDE, dose_e_per_px=10.0)
    rows = {
        "ideal, 5 e-/px, T_min 0.59": measure(LDE, "ideal", n, IDEAL),
        "ideal, 5 e-/px, T_min 0.41": measure(darker, "ideal, dark", n // 4, IDEAL),
        "measured camera, 5 e-/px, T_min 0.59": measure(measured_blur(LDE), "camera, 5", n // 2),
        "measured camera, 10 e-/px, T_min 0.59": measure(measured_blur(brighter), "camera, 10", n // 2),
    }
    known = {5.0: "measured camera, 5 e-/px, T_min 0.59", 10.0: "measured camera, 10 e-/px, T_min 0.59"}

    def measure_unless_known(cell: Cell, label: str) -> dict[str, Any]:
        if replace(cell, dose_e_per_px=LDE.dose_e_per_px) == measured_blur(LDE) and (
            name := known.get(cell.dose_e_per_px)
        ):
            return rows[name]
        return measure(cell, label)

    axes = measure_axes(measured_blur(brighter), COUNTS_AXES, measure_unless_known)
    return {"rows": rows, "axes": axes, "clipped": measure_clipping()}


def measured_blur(cell: Cell) -> Cell:
    """Leave of the blur what is not the camera's."""
    own = MEASURED.psf_px * cell.pixel_nm
    return replace(cell, blur_nm=math.sqrt(cell.blur_nm**2 - own**2))


def measure_clipping() -> list[list[float]]:
    """Fit the mean of very many clipped frames: dose, and the diameter's shift without any noise [nm]."""
    rows = []
    for dose in track((3.0, 5.0, 10.0, 20.0), "counts, clipping"):
        levels = np.linspace(0.3, 1.02, 13)
        electrons = np.repeat(levels * dose, 40_000).reshape(13, 200, 200)
        means = expose(electrons, MEASURED, np.random.default_rng(SEED)).mean((1, 2))
        curve = np.polynomial.Polynomial.fit(levels, means, 3)
        image, line = draw_sphere(LDE, np.random.default_rng(SEED))
        clean = measure_one("counts", GAIN * dose * image, line, LDE.pixel_nm)[0]
        rows.append([dose, float(measure_one("counts", curve(image), line, LDE.pixel_nm)[0] - clean)])
    return rows


# ---- enhanced frames


def measure_enhanced(settings: Settings) -> dict[str, Any]:
    """Frames of the measured camera enhanced by a model: many kinds of spheres, and one kind often."""
    from napari_lowdose_tem.engine.engine import Engine

    rng = np.random.default_rng([SEED, 5])
    rows: list[tuple[float, ...]] = []  # pixel, dose, T_min, diameter, line (5), sphere (5)
    with Engine(settings.model, "cpu") as engine:
        for pixel in ENHANCED_PIXELS_NM:
            for dose in ENHANCED_DOSES:
                kinds = np.repeat(ENHANCED_T_MIN, settings.frames)
                for t_min in track(kinds, f"enhanced, {pixel:g} nm/px, {dose:g} e-/px"):
                    low, high = np.log([ENHANCED_NM[0], ENHANCED_NM[-1]])
                    diameters = np.exp(rng.uniform(low, high, 16))
                    rows += measure_frame(engine, diameters, float(t_min), pixel, dose, rng)
        main: list[tuple[float, ...]] = []
        for _ in track(range(settings.frames_main), "enhanced, main"):
            main += measure_frame(engine, np.full(16, 96.0), 0.59, 4.8, 5.0, rng)
        model = {"label": engine.model.file.label, "sha256": engine.model.file.sha256}
    table = np.array(rows)
    diameter_bin = np.digitize(table[:, 3], ENHANCED_NM[1:-1])
    middle = np.sqrt(np.array(ENHANCED_NM[1:]) * ENHANCED_NM[:-1])
    axes = {
        "diameter_nm": [
            [float(middle[i]), summarise_both(table[diameter_bin == i])] for i in range(len(middle))
        ],
        **{
            axis: [[value, summarise_both(table[table[:, column] == value])] for value in values]
            for axis, column, values in (
                ("t_min", 2, ENHANCED_T_MIN),
                ("dose_e_per_px", 1, ENHANCED_DOSES),
                ("pixel_nm", 0, ENHANCED_PIXELS_NM),
            )
        },
    }
    return {
        **model,
        "main": summarise_both(main),
        "all": summarise_both(table),
        "axes": axes,
    }


def measure_frame(
    engine: Engine, diameters_nm: Array, t_min: float, pixel_nm: float, dose: float, rng: np.random.Generator
) -> list[tuple[float, ...]]:
    """Measure all spheres of one enhanced frame, by a line through the centre and in two dimensions."""
    scene = draw_spheres(diameters_nm, np.full(16, t_min), pixel_nm, rng)
    counts = expose(scene.transmission * np.float32(dose), CAMERA, rng)
    output, noise = engine.enhance(counts), measure_raw_noise(counts)
    rows = []
    for sphere in scene.truth:
        angle = rng.uniform(0, np.pi)
        along = np.array([np.sin(angle), np.cos(angle)])
        center = np.array([sphere["row_px"], sphere["col_px"]])
        half = 0.5 * sphere["diameter_nm"] / pixel_nm + rng.uniform(6, 14)
        start, stop = center - along * half, center + along * half
        if min(*start, *stop) < 0 or max(*start, *stop) > output.shape[0] - 1:
            continue
        line = Line((start[0], start[1]), (stop[0], stop[1]))
        found = [measure_one(way, output, line, pixel_nm, noise) for way in ("full", "sphere")]
        rows.append((pixel_nm, dose, t_min, sphere["diameter_nm"], *found[0], *found[1]))
    return rows


def summarise_both(rows: npt.ArrayLike) -> dict[str, Any]:
    """Summarise rows of `measure_frame`."""
    table = np.reshape(rows, (-1, 14))
    return {"full": summarise(table[:, 3], table[:, 4:9]), "sphere": summarise(table[:, 3], table[:, 9:])}


def measure_enhanced_pairs(settings: Settings) -> dict[str, Any]:
    """Pairs of spheres on enhanced frames, from overlapping to apart: both diameters and the separation."""
    from napari_lowdose_tem.engine.engine import Engine

    rng = np.random.default_rng([SEED, 8])  # the rule was chosen on 6 and 7
    conditions = [(p, d, t) for p in ENHANCED_PIXELS_NM for d in ENHANCED_DOSES for t in PAIRS_T_MIN]
    true, found, kinds = [], [], []
    with Engine(settings.model, "cpu") as engine:
        for pixel, dose, t_min in track(conditions * settings.frames_pairs, "pairs"):
            for pair, rows in measure_frame_of_pairs(engine, t_min, pixel, dose, rng):
                true.append(pair)
                found.append(rows)
                kinds.append((2 * pair[2] / (pair[0] + pair[1]), t_min, dose, pixel))
        model = {"label": engine.model.file.label, "sha256": engine.model.file.sha256}
    pairs, rows, kind = np.array(true), np.array(found), np.array(kinds)

    def summarise_where(keep: npt.NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "diameters": summarise(pairs[keep, :2].ravel(), rows[keep, :2].reshape(-1, 5)),
            "separation": summarise(pairs[keep, 2], rows[keep, 2]),
        }

    nearest = np.array(APART)[np.abs(kind[:, :1] - APART).argmin(1)]
    axes = {
        axis: [[value, summarise_where(column == value)] for value in values]
        for axis, column, values in (
            ("apart", nearest, APART),
            ("t_min", kind[:, 1], PAIRS_T_MIN),
            ("dose_e_per_px", kind[:, 2], ENHANCED_DOSES),
            ("pixel_nm", kind[:, 3], ENHANCED_PIXELS_NM),
        )
    }
    return {**model, "all": summarise_where(np.ones(len(kind), bool)), "axes": axes}


def measure_frame_of_pairs(
    engine: Engine, t_min: float, pixel_nm: float, dose: float, rng: np.random.Generator
) -> list[tuple[Array, Array]]:
    """Diameters and distance [nm] of nine pairs of one enhanced frame, and what `list_pair` says of each."""
    film = draw_film(pixel_nm, rng)
    diameters = np.exp(rng.uniform(*np.log([ENHANCED_NM[0], ENHANCED_NM[-1]]), (9, 2)))
    apart = rng.choice(APART, 9) * diameters.mean(1)
    angle = rng.uniform(0, 2 * np.pi, 9)
    along = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    middle = (np.indices((3, 3)).reshape(2, -1).T + 0.5) / 3 * SHAPE[0] * pixel_nm
    middle += rng.uniform(-2, 2, (9, 2)) * pixel_nm
    centers = middle[:, None] + along[:, None] * apart[:, None, None] * np.array([-0.5, 0.5])[:, None]
    # of one material: the larger is the darker
    transmission = t_min ** (diameters / 100)
    scene = place_spheres(film, centers.reshape(-1, 2), diameters.ravel(), transmission.ravel(), pixel_nm)
    counts = expose(scene.transmission * np.float32(dose), CAMERA, rng)
    output, noise = engine.enhance(counts), measure_raw_noise(counts)
    seen = np.array([(sphere["row_px"], sphere["col_px"]) for sphere in scene.truth]).reshape(9, 2, 2)
    result = []
    for k in range(9):
        reach = diameters[k] / 2 / pixel_nm + rng.uniform(6, 14, 2)
        ends = seen[k] + along[k] * reach[:, None] * np.array([-1, 1])[:, None]
        (row_0, col_0), (row_1, col_1) = (tuple(end.tolist()) for end in ends)
        profile = sample_line(output, Line((row_0, col_0), (row_1, col_1)), (pixel_nm, pixel_nm))
        found = fit_profile(profile, FitOptions(particles=2, is_enhanced=True), noise)
        result.append((np.array([*diameters[k], apart[k]]), list_pair(found)))
    return result


SECTIONS: dict[str, Callable[[Settings], dict[str, Any]]] = {
    "bias": measure_bias,
    "sweeps": measure_sweeps,
    "hde": measure_hde,
    "enhanced": measure_enhanced,
    "pairs": measure_enhanced_pairs,
    "counts": measure_counts,
}


def is_stale(stored: dict[str, Any], name: str, settings: Settings, quick: bool) -> bool:
    """Whether a section has to be measured (again)."""
    row = stored.get(name)
    if row is None or row["quick"] != quick:
        return True
    from napari_lowdose_tem.network.model_file import load_model

    return "sha256" in row and row["sha256"] != load_model(settings.model).file.sha256


def main(arguments: list[str] | None = None, settings: Settings | None = None) -> None:
    """Measure what was asked for or is missing, and write tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--model", default="default", help="name or file, for enhanced frames")
    parser.add_argument("--quick", action="store_true", help="a few draws of everything")
    parser.add_argument("--redraw", action="store_true", help="measure nothing, write and draw what is there")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--json", action="store_true", help="print the results, too")
    args = parser.parse_args(arguments)
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; choose among {', '.join(SECTIONS)}")
    settings = replace(settings or (QUICK if args.quick else Settings()), model=args.model)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "measurement.json"
    stored: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for name, measure in SECTIONS.items():
        asked = name in args.sections if args.sections else is_stale(stored, name, settings, args.quick)
        if asked and not args.redraw:
            stored[name] = {"quick": args.quick, **measure(settings)}
            path.write_text(json.dumps(stored) + "\n", encoding="utf-8")
    tables = write_tables(args.out / "measurement.md", Path(__file__).with_suffix(".md"), stored)
    draw_figures(args.out / "images", stored)
    if args.json:
        print(json.dumps(stored, indent=1))
    else:
        Console().print("\n\n".join(tables.values()), markup=False)


if __name__ == "__main__":
    main()
