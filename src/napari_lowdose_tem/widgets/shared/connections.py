"""Slots connected to events of the viewer for as long as a dock is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Connections:
    """Events and the slots connected to them, until they are closed together.

    Parameters
    ----------
    *pairs
        (event, slot) of napari, connected at once.
    """

    def __init__(self, *pairs: tuple[Any, Callable[..., object]]) -> None:
        self._pairs = pairs
        for event, slot in pairs:
            event.connect(slot)

    @property
    def are_open(self) -> bool:
        """Whether they were not closed yet."""
        return bool(self._pairs)

    def close(self) -> None:
        """Disconnect them all; does nothing the second time."""
        pairs, self._pairs = self._pairs, ()
        for event, slot in pairs:
            event.disconnect(slot)
