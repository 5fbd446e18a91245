"""Calls put off until later."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.compat import isalive
from qtpy.QtCore import QTimer


class DelayedCall:
    """Calls a function once, some time after it was last asked to, on the thread that made it.

    Parameters
    ----------
    call
        What is called.
    after_ms
        Time after the last, or with `restart` off the first, request.
    """

    def __init__(self, call: Callable[[], object], after_ms: int = 0, restart: bool = True) -> None:
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(after_ms)
        self._timer.timeout.connect(call)
        self._restart = restart

    @property
    def is_waiting(self) -> bool:
        """Whether the call is still to come."""
        return bool(isalive(self._timer) and self._timer.isActive())

    def ask(self, *_: object) -> None:
        """Ask for the call."""
        if isalive(self._timer) and (self._restart or not self._timer.isActive()):
            self._timer.start()

    def ask_in(self, after_ms: float) -> None:
        """Ask for the call after another time than usual."""
        if isalive(self._timer):
            self._timer.start(round(after_ms))

    def cancel(self) -> None:
        """Forget the request."""
        if isalive(self._timer):  # Qt deletes it when the application ends
            self._timer.stop()
