"""Figs. 6 and 7: diameter, edge width and separation on the lines of the example."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.judge.metrics import mae, scale_to_level
from napari_lowdose_tem.measure import (
    FitOptions,
    Measurement,
    Profile,
    fit_counts,
    fit_profile,
    measure_raw_noise,
    sample_line,
)
from napari_lowdose_tem.reproduce.example import (
    PIXEL_NM,
    TRUTH,
    Example,
    draw_low_dose,
    make_scene,
    place_lines,
)
from napari_lowdose_tem.simulate.pair import FINER, area_mean

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine

IMAGES = ("HDE", "LDE", "output")
WAYS = ("full", "paper")
LINES = {"A–B": 1, "C–D": 2}
"""The lines and the numbers of particles on them."""
QUANTITIES = {"A–B": ("d", "D", "D - d"), "C–D": ("d1", "d2", "l", "m")}

Key = tuple[str, str, str]


def sample(example: Example, image: str, line: str) -> Profile:
    """Sample a line of the example."""
    return sample_line(example[image], example.lines[line], example.size_nm)


def measure_lines(example: Example) -> dict[Key, Measurement]:
    """Measure every line on every image by both fits; `paper` with the paper's rule for the edge."""
    found = {}
    for image in IMAGES:
        noise = example.raw_noise if image == "output" else None
        for line in example.lines:
            for way in WAYS:
                options = FitOptions(
                    model=way,
                    particles=LINES[line],
                    rule="first_crossing" if way == "paper" else "fraction",
                    is_enhanced=image == "output",
                )
                found[image, line, way] = fit_profile(sample(example, image, line), options, noise)
    return found


def collect_line_numbers(example: Example, found: Mapping[Key, Measurement]) -> dict[str, Any]:
    """Return what was measured on each line as JSON values: value and standard error, or null; refusals."""
    numbers: dict[str, Any] = {"unit": "nm" if example.size_nm else "px", "truth": dict(example.truth)}
    for (image, line, way), measurement in found.items():
        entry = numbers.setdefault(line, {}).setdefault(f"{image}, {way}", {})
        entry.update(read_numbers(measurement, line))
        entry["refused"] = measurement.refused or None
        entry["resolved"] = measurement.resolved
    if "A–B" in example.lines:
        fit = fit_counts(example.lde, example.lines["A–B"], example.size_nm, example.gain)
        d = None if fit.refused else [fit.diameter, fit.diameter_se]
        numbers["A–B"]["LDE, counts"] = {"d": d, "D": None, "D - d": None, "refused": fit.refused or None}
    return numbers


def read_numbers(found: Measurement, line: str) -> dict[str, list[float | None] | None]:
    """Read the numbers of a line with their standard errors; None where refused."""
    numbers: dict[str, list[float | None] | None] = dict.fromkeys(QUANTITIES[line])
    if found.refused or len(found.particles) != LINES[line]:
        return numbers
    if line == "A–B":
        particle = found.particles[0]
        numbers["d"] = [particle.diameter, particle.diameter_se]
        if particle.pseudo_diameter is not None:
            numbers["D"], numbers["D - d"] = [particle.pseudo_diameter, None], [particle.edge_total, None]
        return numbers
    for name, particle in zip(("d1", "d2"), found.particles, strict=True):
        numbers[name] = [particle.diameter, particle.diameter_se]
    numbers["l"] = [found.separation, found.separation_se]
    numbers["m"] = [found.margin, found.margin_se]
    return numbers


def iter_repeats(
    engine: Engine, draws: int, seed: int
) -> Generator[tuple[float, float], None, dict[str, Any]]:
    """Expose the simulated field anew at low dose, again and again, and measure the outputs by `full`.

    Returns
    -------
    JSON values: number of draws; `typical`, the one in the middle by its mean absolute difference from the
    truth, and `l1`, the least, middle and largest of these; by quantity, in how many it was measured, mean
    error, its standard deviation, the median of the errors the fits state [nm], and in how many the truth
    lies within 1.96 of them.
    """
    transmission = area_mean(make_scene(FINER).transmission, FINER)
    lines, size_nm = place_lines(make_scene()), (PIXEL_NM, PIXEL_NM)
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in TRUTH}
    differences: list[float] = []
    for i in range(draws):
        lde = draw_low_dose(transmission, seed, i)
        output, noise = engine.enhance(lde), measure_raw_noise(lde)
        differences.append(mae(*scale_to_level(output, transmission)))
        for line, particles in LINES.items():
            options = FitOptions(particles=particles, is_enhanced=True)
            measured = fit_profile(sample_line(output, lines[line], size_nm), options, noise)
            for name, number in read_numbers(measured, line).items():
                if name in TRUTH and number is not None and number[0] is not None and number[1] is not None:
                    errors[name].append((number[0] - TRUTH[name], number[1]))
        yield i + 1, draws
    order = np.argsort(differences)
    return {
        "draws": draws,
        "typical": int(order[(draws - 1) // 2]),
        "l1": [differences[order[0]], differences[order[(draws - 1) // 2]], differences[order[-1]]],
        "found": {name: _summarise(entries) for name, entries in errors.items()},
    }


def _summarise(entries: list[tuple[float, float]]) -> dict[str, Any]:
    if len(entries) < 2:
        return {"measured": len(entries), "mean_error": None, "sd": None, "own_error": None, "right": None}
    error, se = np.transpose(entries)
    return {
        "measured": len(entries),
        "mean_error": float(error.mean()),
        "sd": float(error.std(ddof=1)),
        "own_error": float(np.median(se)),
        "right": int(np.sum(np.abs(error) < 1.96 * se)),
    }
