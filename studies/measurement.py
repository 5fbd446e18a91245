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
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from measurement_cells import (
    GAIN,
    HDE,
    LDE,
    MODELS,
    PAIR,
    SEED,
    SWEEPS,
    Cell,
    Settings,
    draw_pair,
    draw_sphere,
    list_pair,
    measure_axes,
    measure_cell,
    measure_one,
    summarise,
)
from measurement_enhanced import measure_enhanced, measure_enhanced_pairs
from measurement_report import draw_figures, write_tables
from napari_lowdose_tem.measure import FitOptions, fit_profile, sample_line, suggest_particles
from napari_lowdose_tem.simulate.camera import IDEAL, MEASURED, Camera, expose
from pages import PAGES, add_out, choose_folders

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
QUICK = Settings(40, 10, 20, 8, 1, 2, 1)


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
    add_out(parser)
    parser.add_argument("--json", action="store_true", help="print the results, too")
    args = parser.parse_args(arguments)
    if unknown := set(args.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; choose among {', '.join(SECTIONS)}")
    settings = replace(settings or (QUICK if args.quick else Settings()), model=args.model)
    results, pages = choose_folders(args.out)
    path = results / "measurement.json"
    stored: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for name, measure in SECTIONS.items():
        asked = name in args.sections if args.sections else is_stale(stored, name, settings, args.quick)
        if asked and not args.redraw:
            stored[name] = {"quick": args.quick, **measure(settings)}
            path.write_text(json.dumps(stored) + "\n", encoding="utf-8")
    tables = write_tables(pages / "measurement.md", PAGES / "measurement.md", stored)
    draw_figures(pages / "images", stored)
    if args.json:
        print(json.dumps(stored, indent=1))
    else:
        Console().print("\n\n".join(tables.values()), markup=False)


if __name__ == "__main__":
    main()
