"""The newest report, held until it is looked at."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_lowdose_tem.live.pipeline import LiveStep


class LatestStep:
    """Holds the newest report until it is looked at, so that none pile up before a slow display."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._step: LiveStep | None = None

    def put(self, step: LiveStep) -> None:
        """Keep a report; a frame not yet looked at stays with it until a newer one comes."""
        with self._changed:
            self._step = step if self._step is None else _with_frame(step, self._step)
            self._changed.notify_all()

    def put_back(self, step: LiveStep) -> None:
        """Keep a report that was taken, unless a newer one came; its frame, unless a newer one has one."""
        with self._changed:
            self._step = step if self._step is None else _with_frame(self._step, step)
            self._changed.notify_all()

    def take(self, timeout_s: float = 0.0) -> LiveStep | None:
        """Take the newest report, if there is one since the last or one comes in time."""
        with self._changed:
            if self._step is None and timeout_s:
                self._changed.wait(timeout_s)
            step, self._step = self._step, None
            return step


def _with_frame(newer: LiveStep, older: LiveStep) -> LiveStep:
    if newer.output is not None:
        return newer
    return replace(newer, name=older.name, raw=older.raw, output=older.output)
