"""Measurements on enhanced frames against simulated truth: single spheres, and pairs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.progress import track

from measurement_cells import SEED, Settings, list_pair, measure_one, summarise
from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure import FitOptions, Line, fit_profile, measure_raw_noise, sample_line
from napari_lowdose_tem.simulate.camera import expose
from reliability_scenes import CAMERA, SHAPE, draw_film, draw_spheres, place_spheres

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine

ENHANCED_T_MIN, ENHANCED_NM = (0.45, 0.6, 0.75, 0.88), (60.0, 75.0, 95.0, 120.0, 160.0)
ENHANCED_DOSES, ENHANCED_PIXELS_NM = (5.0, 10.0), (4.8, 3.0)
APART = (0.6, 0.8, 1.0, 1.2, 1.6)
"""Distances of the centres of pairs, in mean diameters: 1 where they touch."""
PAIRS_T_MIN = (0.45, 0.6, 0.75)


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
    engine: Engine, diameters_nm: F64, t_min: float, pixel_nm: float, dose: float, rng: np.random.Generator
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
) -> list[tuple[F64, F64]]:
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
