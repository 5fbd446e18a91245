"""What every dock is: a widget that shows the state of its control."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

from napari_lowdose_tem.widgets.shared.memory import give_back_memory
from napari_lowdose_tem.widgets.shared.state import DockState

_TRIM_MS = 1000  # after a dock's end, when its images are gone


class Control(Protocol):
    """What acts for a dock, between viewer, state and jobs; knows no widget."""

    @property
    def state(self) -> DockState:
        """State that the dock shows."""

    def close(self) -> None:
        """End jobs and leave the viewer alone."""


ControlT = TypeVar("ControlT", bound=Control)


class Dock(QWidget, Generic[ControlT]):
    """A dock's widget: shows the state of its control, and closes it when it goes, however that happens.

    Its methods are abstract for mypy alone: Qt's metaclass is not ABCMeta.
    """

    def __init__(self, control: ControlT) -> None:
        super().__init__()
        self.control = control
        self._placing = QTimer(self)
        self._placing.setSingleShot(True)
        self._placing.timeout.connect(self._place_in_window)
        self._is_placed = False
        endings: list[Callable[[], object]] = [control.state.events.disconnect, control.close]
        self._endings = endings
        self.destroyed.connect(lambda: _run_all(endings))
        self._make_widgets()
        self._lay_out()
        self._connect()
        control.state.events.connect(self._show_state)
        self._show_state()

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return bool(self._endings)

    def event(self, event: QEvent | None) -> bool:
        """Notice being taken out of the dock area: napari then only drops its reference."""
        kind = event.type() if event is not None else None
        if kind == QEvent.Type.Close or (kind == QEvent.Type.ParentChange and self.parent() is None):
            if self._endings:
                QTimer.singleShot(_TRIM_MS, give_back_memory)
            _run_all(self._endings)
        return super().event(event)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take a place in the window when shown for the first time."""
        super().showEvent(event)
        if not self._is_placed:
            self._is_placed = True
            self._placing.start()

    def _frame_and_window(self) -> tuple[QDockWidget, QMainWindow] | None:
        """Return what napari wraps a dock in, and its window."""
        frame = self.parent()
        while frame is not None and not isinstance(frame, QDockWidget):
            frame = frame.parent()
        window = frame.parent() if frame is not None else None
        return (frame, window) if frame is not None and isinstance(window, QMainWindow) else None

    def _place_in_window(self) -> None:
        """Become a tab beside this plugin's other docks at the right rather than shrink them."""
        found = self._frame_and_window()
        if found is None:
            return
        frame, window = found

        def is_at_the_right(dock: QDockWidget) -> bool:
            return (
                window.dockWidgetArea(dock) == Qt.DockWidgetArea.RightDockWidgetArea and not dock.isFloating()
            )

        for other in window.findChildren(QDockWidget) if is_at_the_right(frame) else ():
            is_ours = other is not frame and any(
                isinstance(child, Dock) for child in other.findChildren(QWidget)
            )
            action = other.toggleViewAction()
            if is_ours and is_at_the_right(other) and action is not None and action.isChecked():
                window.tabifyDockWidget(other, frame)
                frame.raise_()
                return

    @abstractmethod
    def _make_widgets(self) -> None:
        """Make the widgets."""

    @abstractmethod
    def _lay_out(self) -> None:
        """Lay them out."""

    @abstractmethod
    def _connect(self) -> None:
        """Connect their signals to the control."""

    @abstractmethod
    def _show_state(self, *info: object) -> None:
        """Show the state; nothing else writes to the widgets."""


def _run_all(endings: list[Callable[[], object]]) -> None:
    while endings:
        endings.pop(0)()
