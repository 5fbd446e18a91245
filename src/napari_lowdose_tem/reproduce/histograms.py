"""Fig. 5: histograms of the example, raw and scaled, and its mean absolute differences (Fig. 4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_lowdose_tem.judge.histogram import Histogram, compare_histograms, make_histogram
from napari_lowdose_tem.judge.metrics import mae, scale_to_level, scale_to_unit
from napari_lowdose_tem.network.scaling import RECIPES, measure_scaling
from napari_lowdose_tem.reproduce.example import Example

BINS = 128
_RAW_BINS = 400


def make_histograms(example: Example) -> dict[str, Histogram]:
    """Make the four panels' histograms: raw of both exposures, and scaled.

    High and low dose are scaled by their own extremes, the output is brought to the high dose's scale, on
    which the paper's network gives its own.
    """
    top = float(max(np.nanmax(example.raw_hde), np.nanmax(example.raw_lde)))
    level, target = scale_to_level(example.output, example.hde)
    return {
        "raw HDE": make_histogram(example.raw_hde, _RAW_BINS, range=(0, top)),
        "raw LDE": make_histogram(example.raw_lde, _RAW_BINS, range=(0, top)),
        "HDE": make_histogram(target, BINS, range=(0, 1)),
        "LDE": make_histogram(example.lde, BINS, scaled=True),
        "output": make_histogram(level, BINS, range=(min(0, float(np.nanmin(level))), 1.05)),
    }


def collect_histogram_numbers(example: Example, histograms: dict[str, Histogram]) -> dict[str, Any]:
    """Return, as JSON values, the numbers of Figs. 4 and 5."""
    level, target = scale_to_level(example.output, example.hde)
    scaling = measure_scaling(RECIPES["paper"], example.lde)
    shown = scaling.normalise(example.lde)
    covered = np.isfinite(target)
    return {
        "unit": "e-" if example.gain else "counts",
        "hde_mean": float(np.nanmean(example.raw_hde)),
        "lde_mean": float(np.nanmean(example.raw_lde)),
        "hde_min": float(np.nanmin(example.raw_hde)),
        "lde_max": float(np.nanmax(example.raw_lde)),
        "l1_lde": mae(np.where(covered, shown, np.nan), target),
        "l1_output": mae(level, target),
        "l1_output_stretched": mae(scale_to_unit(np.where(covered, example.output, np.nan)), target),
        "output_range": [float(np.nanmin(level)), float(np.nanmax(level))],
        "overlap": {
            name: compare_histograms(histograms["HDE"], histograms[name]) for name in ("LDE", "output")
        },
        "peaks": {
            name: [[peak.position, peak.width, peak.share] for peak in histograms[name].peaks]
            for name in ("HDE", "LDE", "output")
        },
    }
