"""Live enhancement: frames of a folder, a growing file or a replayed stack are enhanced as they come.

    for step in iter_live(LiveConfig(open_source("/camera"))):
        print(step.name, step.frames_per_s, step.latency_ms_p50)

torch is imported when a run starts.
"""

from napari_lowdose_tem.live.folder import FolderSource
from napari_lowdose_tem.live.growing_file import GrowingSource
from napari_lowdose_tem.live.pipeline import LiveConfig, iter_live, open_source
from napari_lowdose_tem.live.process import iter_live_in_process
from napari_lowdose_tem.live.replay import ReplaySource
from napari_lowdose_tem.live.source import Arrival, Passed, Skipped, Source, Wait
from napari_lowdose_tem.live.step import LatestStep, LiveStep

__all__ = [
    "Arrival",
    "FolderSource",
    "GrowingSource",
    "LatestStep",
    "LiveConfig",
    "LiveStep",
    "Passed",
    "ReplaySource",
    "Skipped",
    "Source",
    "Wait",
    "iter_live",
    "iter_live_in_process",
    "open_source",
]
