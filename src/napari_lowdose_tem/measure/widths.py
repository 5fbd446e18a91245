"""Widths read off a curve: where it meets the background, and how steep its sides are."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_lowdose_tem.image import F64

FRACTION = 0.1
"""Of the depth, where the pseudo-diameter ends by the rule "fraction"."""


def find_crossings(position: F64, depth: F64, center: float, level: float) -> tuple[float, float] | None:
    """Positions left and right of `center` where the depth first falls to `level`; None where it does not."""
    middle = int(np.argmin(np.abs(position - center)))
    ends = []
    for side in (slice(middle, None, -1), slice(middle, None)):
        x, y = position[side], depth[side]
        below = np.flatnonzero(y <= level)
        if not below.size or below[0] == 0:
            return None
        i = below[0]
        ends.append(float(x[i - 1] + (x[i] - x[i - 1]) * (y[i - 1] - level) / (y[i - 1] - y[i])))
    return ends[0], ends[1]


def measure_pseudo_diameter(position: F64, depth: F64, center: float, rule: str, peak: float) -> float | None:
    """Distance between the first places left and right where the profile is back at the background.

    Parameters
    ----------
    position, depth
        (n,) along the line, and background minus intensity.
    center
        Of the particle.
    rule
        "first_crossing" (Katsuno et al. 2021): depth 0; "fraction": a tenth of `peak`.
    peak
        Largest depth of the particle.
    """
    level = 0.0 if rule == "first_crossing" else FRACTION * peak
    ends = find_crossings(position, depth, center, level)
    return ends[1] - ends[0] if ends else None


def measure_edge(position: F64, depth: F64, center: float, peak: float) -> float | None:
    """Way from nine tenths to a tenth of the depth `peak`, mean of both sides; None where not covered."""
    outer: Any = find_crossings(position, depth, center, 0.1 * peak)
    inner: Any = find_crossings(position, depth, center, 0.9 * peak)
    if outer is None or inner is None:
        return None
    return float((inner[0] - outer[0] + outer[1] - inner[1]) / 2)
