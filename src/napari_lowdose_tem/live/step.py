"""What a live enhancement reports, and the latest report, kept until it is shown."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live.source import Skipped


@dataclass(frozen=True, eq=False, kw_only=True)
class LiveStep:
    """A report, made every `report_every_s`, and ten times a second while no frame comes.

    `raw` (averaged if `average_of` is "raw") and `output` are the latest frame, (rows, columns) counts with
    their calibration, or None when there is no new one since the last report. arrived = enhanced + dropped +
    waiting, plus one while a frame is being enhanced. Latency is the time from arrival to the enhanced frame,
    of the last 1,000 frames.
    """

    name: str = ""
    arrived: int = 0
    enhanced: int = 0
    dropped: int = 0
    waiting: int = 0
    saved: int = 0
    n_skipped: int = 0
    skipped: tuple[Skipped, ...] = ()
    frames_per_s: float = 0.0
    latency_ms_p50: float = float("nan")
    latency_ms_p99: float = float("nan")
    elapsed_s: float = 0.0
    device: str = ""
    note: str = ""
    raw: Image | None = field(default=None, repr=False)
    output: Image | None = field(default=None, repr=False)

    def with_frame_of(self, other: LiveStep) -> LiveStep:
        """Return these numbers with the frame of another report."""
        return replace(self, name=other.name, raw=other.raw, output=other.output)


class LatestStep:
    """Keeps the latest report until it is taken, so that none queue up behind a slow display."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._step: LiveStep | None = None

    def put(self, step: LiveStep) -> None:
        """Keep a report; a frame that was not taken stays with it until a newer one comes."""
        with self._changed:
            self._step = step if self._step is None else _keep_frame(step, self._step)
            self._changed.notify_all()

    def put_back(self, step: LiveStep) -> None:
        """Give back a report that was taken: newer numbers, or a newer frame, stay."""
        with self._changed:
            self._step = step if self._step is None else _keep_frame(self._step, step)
            self._changed.notify_all()

    def take(self, timeout_s: float = 0.0) -> LiveStep | None:
        """Take the latest report; None when there is none since the last and none comes in time."""
        with self._changed:
            if self._step is None and timeout_s:
                self._changed.wait(timeout_s)
            step, self._step = self._step, None
            return step


def _keep_frame(newer: LiveStep, older: LiveStep) -> LiveStep:
    return newer if newer.output is not None else newer.with_frame_of(older)
