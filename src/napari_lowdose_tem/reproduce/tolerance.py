"""How far the numbers of two runs may differ: processors round differently, which changes the noise drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

_LEFT_OUT = ("program", "versions", "table3", "images")


@dataclass(frozen=True)
class Tolerance:
    """Numbers whose place in the report's JSON fits a pattern may differ by so much.

    `within` is in their unit, `share` of the larger one, both added; `may_be_missing` where a measurement may
    be refused on other noise.
    """

    what: str
    pattern: str
    within: float = 0.0
    share: float = 0.0
    may_be_missing: bool = False


# the first that fits counts; ten times and more what a processor of another kind was seen to do
TOLERANCES = (
    Tolerance("", "published.*"),
    Tolerance("PSNR of stretched outputs [dB]", "*.stretched_psnr_mean", 1.5),
    Tolerance("their MAE", "*.stretched_mae_mean", 0.0, 0.2),
    Tolerance("standard deviations", "table2.*_sd", 0.3),
    Tolerance("other PSNR [dB]", "*.*psnr*", 0.5),
    Tolerance("other MAE", "*.*mae*", 0.0, 0.08),
    Tolerance("SSIM", "*.ssim_mean", 0.01),
    Tolerance("particles missed and invented a frame", "*.*missed*", 1.0),
    Tolerance("", "*.*invented*", 1.0),
    Tolerance("", "*.level_e_per_px", 0.05),
    Tolerance("", "lines.truth.*"),
    Tolerance("where a profile crosses its background [nm]", "lines.*.D*", 15.0, may_be_missing=True),
    Tolerance("lengths that `full` measures on the HDE [nm]", "lines.*.HDE, full.*", 1.0),
    Tolerance(
        "lengths measured otherwise, where neither run refuses [nm]", "lines.*", 5.0, may_be_missing=True
    ),
    Tolerance("", "repeats.found.*.measured", 1.0),
    Tolerance("", "repeats.found.*", 10.0, may_be_missing=True),
    Tolerance("", "repeats.typical", math.inf),
    Tolerance("", "repeats.l1*", 0.0, 0.1),
    Tolerance("positions of peaks and ends of histograms (of 0 to 1)", "example.peaks.*", 0.05),
    Tolerance("", "example.output_range*", 0.05),
    Tolerance("their overlaps", "example.overlap.*", 0.03),
    Tolerance("", "example.l1*", 0.0, 0.1),
    Tolerance("electrons a pixel", "example.?de_*", 1.0, 0.04),
)


def find_differences(made: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Compare the numbers of two reports; one line for each that differs by more than `TOLERANCES` allows.

    Versions, timings and the place of the figures are left out; what no tolerance names must be equal.
    """
    return list(_iter_differences(_kept(made), _kept(expected), ""))


def _kept(numbers: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in numbers.items() if key not in _LEFT_OUT}


def describe_tolerances() -> str:
    """Describe in words how far numbers may differ."""
    parts = []
    for rule in TOLERANCES:
        if rule.what:
            allowed = [f"{rule.within:g}"] * (rule.within > 0) + [f"{rule.share:.0%}"] * (rule.share > 0)
            parts.append(f"{rule.what} by {' + '.join(allowed)}")
    return "; ".join(parts) + "; whatever else is not random not at all."


def _iter_differences(made: Any, expected: Any, place: str) -> Iterator[str]:
    rule = next((rule for rule in TOLERANCES if fnmatchcase(place, rule.pattern)), Tolerance("", "*"))
    if isinstance(made, dict) and isinstance(expected, dict):
        for key in dict.fromkeys([*expected, *made]):
            inner = f"{place}.{key}" if place else str(key)
            yield from _iter_differences(made.get(key), expected.get(key), inner)
    elif isinstance(made, list) and isinstance(expected, list):
        if len(made) != len(expected) and not rule.may_be_missing:
            yield f"{place}: {len(made)} entries, expected {len(expected)}"
        for index, (a, b) in enumerate(zip(made, expected, strict=False)):
            yield from _iter_differences(a, b, f"{place}.{index}")
    elif _is_number(made) and _is_number(expected):
        if abs(made - expected) > rule.within + rule.share * max(abs(made), abs(expected)):
            yield f"{place}: {made:g}, expected {expected:g}"
    elif made != expected and not rule.may_be_missing:
        yield f"{place}: {made!r}, expected {expected!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
