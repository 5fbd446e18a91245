"""The figures and tables of Katsuno et al. 2021 made anew, each beside the paper's own numbers."""

from napari_lowdose_tem.reproduce.job import ReproduceJob, ReproduceStep, iter_reproduce, reproduce
from napari_lowdose_tem.reproduce.report import write_report
from napari_lowdose_tem.reproduce.tolerance import find_differences

__all__ = ["ReproduceJob", "ReproduceStep", "find_differences", "iter_reproduce", "reproduce", "write_report"]
