"""Live enhancement: frames of a folder, a growing file or a replayed stack, enhanced as they come.

    for step in iter_live(LiveConfig(open_source("/camera"))):
        print(step.name, step.frames_per_s, step.latency_ms_p50)

Imports torch only when it runs.
"""

from .apart import iter_live_apart
from .folder import FolderSource
from .growing import GrowingSource
from .pipeline import LiveConfig, LiveStep, iter_live, open_source
from .replay import ReplaySource
from .source import Arrival, Passed, Skipped, Source, Wait

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
    "iter_live_apart",
    "open_source",
]
