"""Time models on the processors there are: Table 3 of Katsuno et al. 2021, and stacks from disk to disk."""

from napari_lowdose_tem.bench.job import Bench, BenchJob, BenchRow, BenchStep, NotTimed, bench, iter_bench
from napari_lowdose_tem.bench.report import write_report
from napari_lowdose_tem.bench.timing import Timing, iter_time_frames, time_frames

__all__ = [
    "Bench",
    "BenchJob",
    "BenchRow",
    "BenchStep",
    "NotTimed",
    "Timing",
    "bench",
    "iter_bench",
    "iter_time_frames",
    "time_frames",
    "write_report",
]
