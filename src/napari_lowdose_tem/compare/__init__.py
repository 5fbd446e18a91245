"""High dose, low dose and output of one field side by side: on one grid, in numbers, as a figure."""

from napari_lowdose_tem.compare.figure import Panel, choose_limits, draw_comparison, save
from napari_lowdose_tem.compare.grid import average_frames, bring_to_grid
from napari_lowdose_tem.compare.histogram import Histogram, Peak, compare_histograms, make_histogram
from napari_lowdose_tem.compare.residual import Residual, measure_residual
from napari_lowdose_tem.compare.roles import Roles, pair_up
from napari_lowdose_tem.compare.score import Comparison, compare_frames

__all__ = [
    "Comparison",
    "Histogram",
    "Panel",
    "Peak",
    "Residual",
    "Roles",
    "average_frames",
    "bring_to_grid",
    "choose_limits",
    "compare_frames",
    "compare_histograms",
    "draw_comparison",
    "make_histogram",
    "measure_residual",
    "pair_up",
    "save",
]
