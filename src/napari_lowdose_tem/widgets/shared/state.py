"""What the state of every dock has; no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from psygnal import SignalGroupDescriptor


@dataclass
class DockState:
    """State of a dock, changed by its control only; `events` reports each field that changed.

    `message` is the line that says what happened last.
    """

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    message: str = ""
    is_error: bool = False

    def report(self, message: str, is_error: bool = False) -> None:
        """Show what happened last."""
        self.is_error = is_error
        self.message = message


@dataclass
class ModelState(DockState):
    """State of a dock that runs a model: (path, label) of each model, the one chosen, and on what it runs."""

    models: tuple[tuple[str, str], ...] = ()
    model: str = ""
    model_text: str = ""
    device: str = "auto"
    device_text: str = ""
