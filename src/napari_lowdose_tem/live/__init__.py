"""Live enhancement: frames of a folder, a growing file or a replayed stack, enhanced as they come.

    for step in iter_live(LiveConfig(open_source("/camera"))):
        print(step.name, step.frames_per_s, step.latency_ms_p50)

Imports torch only when it runs.
"""

from napari_lowdose_tem.live.folder import FolderSource
from napari_lowdose_tem.live.growing_file import GrowingSource
from napari_lowdose_tem.live.pipeline import LiveConfig, LiveStep, iter_live, open_source
from napari_lowdose_tem.live.process import iter_live_in_process
from napari_lowdose_tem.live.replay import ReplaySource
from napari_lowdose_tem.live.source import Arrival, Passed, Skipped, Source, Wait

__all__ = [
    "Arrival",
    "FolderSource",
    "GrowingSource",
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
