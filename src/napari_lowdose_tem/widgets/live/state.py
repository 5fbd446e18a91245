"""What the Live dock shows; no Qt, no napari."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_lowdose_tem.widgets.shared.state import ModelState

if TYPE_CHECKING:
    from napari_lowdose_tem.live import LiveStep, Skipped

FOLDER, FILE, REPLAY, LAYER = "folder", "file", "replay", "layer"
KINDS = {
    FOLDER: "Folder of frames",
    FILE: "Growing file",
    REPLAY: "Replay of a file",
    LAYER: "Replay of a layer",
}
MODES = {False: "Newest frame, drop the others", True: "Every frame, in order"}
LEVELS = {"first": "from first frame", "frame": "from each frame"}
AVERAGED = {"enhanced": "of enhanced frames", "raw": "of raw frames"}


@dataclass
class LiveState(ModelState):
    """State of the dock, changed by its control only.

    `source_text` says what is missing before it can start; `output` None saves nothing; `rate_text`,
    `count_text` and `skipped_text` report on the run.
    """

    kind: str = FOLDER
    path: str = ""
    layers: tuple[str, ...] = ()
    layer: str = ""
    rate_per_s: float = 30.0
    loop: bool = True
    source_ok: bool = False
    source_text: str = ""
    save_all: bool = False
    average_s: float = 0.0
    average_of: str = "enhanced"
    level: str = "first"
    output: Path | None = None
    output_text: str = ""
    side_by_side: bool = True
    running: bool = False
    stopping: bool = False
    rate_text: str = ""
    count_text: str = ""
    skipped_text: str = ""
    skipped_all: str = ""


def describe_rate(step: LiveStep) -> str:
    """Return `24 frames/s · median latency 38 ms`."""
    if not step.enhanced:
        return ""
    rate = step.frames_per_s
    text = f"{rate:.1f} frames/s" if rate < 10 else f"{rate:.0f} frames/s"
    if math.isfinite(step.latency_ms_p50):
        text += f" · median latency {describe_ms(step.latency_ms_p50)}"
    return text


def describe_counts(step: LiveStep, save_all: bool) -> str:
    """Return `1,204 received; 99 % within 61 ms` and `640 enhanced · 564 dropped · 640 saved` below."""
    received = f"{step.arrived:,} received"
    if step.enhanced and math.isfinite(step.latency_ms_p99):
        received += f"; 99 % within {describe_ms(step.latency_ms_p99)}"
    parts = [f"{step.enhanced:,} enhanced"]
    parts.append(f"{step.waiting:,} waiting" if save_all else f"{step.dropped:,} dropped")
    if step.saved:
        parts.append(f"{step.saved:,} saved")
    return f"{received}\n{' · '.join(parts)}"


def describe_ms(value: float) -> str:
    """Return `38 ms`, `1.48 s` or `12 s`."""
    if value < 999.5:
        return f"{value:.0f} ms"
    return f"{value / 1000:.2f} s" if value < 9995 else f"{value / 1000:.0f} s"


def describe_skipped(n_skipped: int, skipped: tuple[Skipped, ...]) -> str:
    """Return `2 files skipped, the last one “frame_7.tif”: cut short`."""
    if not skipped:
        return ""
    last = skipped[-1]
    if n_skipped == 1:
        return f"Skipped “{last.name}”: {last.reason}"
    return f"{n_skipped:,} files skipped, the last one “{last.name}”: {last.reason}"
