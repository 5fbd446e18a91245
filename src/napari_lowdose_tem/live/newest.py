"""The newest report, held until it is looked at."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipeline import LiveStep


class Newest:
    """Holds the newest report until it is looked at, so that none pile up before a slow display."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._step: LiveStep | None = None

    def put(self, step: LiveStep) -> None:
        """Keep a report; a frame not yet looked at stays with it until a newer one comes."""
        with self._changed:
            before = self._step
            if before is not None and step.output is None:
                step = replace(step, name=before.name, raw=before.raw, output=before.output)
            self._step = step
            self._changed.notify_all()

    def take(self, timeout_s: float = 0.0) -> LiveStep | None:
        """Take the newest report, if there is one since the last or one comes in time."""
        with self._changed:
            if self._step is None and timeout_s:
                self._changed.wait(timeout_s)
            step, self._step = self._step, None
            return step
