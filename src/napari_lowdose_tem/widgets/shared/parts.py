"""Small parts the docks share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSignalBlocker, QSize, Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QDockWidget,
    QGraphicsOpacityEffect,
    QLabel,
    QMainWindow,
    QScrollArea,
    QSizePolicy,
    QWidget,
)

from napari_lowdose_tem.widgets.shared.memory import give_back_memory

ERROR_COLOR = "#e5484d"  # on dark and on light
_FAINT = 0.7
_TRIM_MS = 1000  # after a dock's end, when its images are gone


class Dock(QWidget):
    """A dock's widget: shows the state of its control, and ends that when closed, however that happens.

    Parameters
    ----------
    control
        Has a `state` that tells of its changes, and `close()`.
    """

    def __init__(self, control: Any) -> None:
        super().__init__()
        self.control = control
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.timeout.connect(self._settle)
        self._is_settled = False
        endings = self._endings = [control.state.events.disconnect, control.close]
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

    def event(self, event: QEvent) -> bool:
        """Notice being taken out of the dock area: napari then only drops its reference."""
        is_out = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if is_out or event.type() == QEvent.Type.Close:
            if self._endings:
                QTimer.singleShot(_TRIM_MS, give_back_memory)
            _run_all(self._endings)
        return bool(super().event(event))

    def showEvent(self, event: QShowEvent) -> None:
        """Find a place when shown for the first time."""
        super().showEvent(event)
        if not self._is_settled:
            self._is_settled = True
            self._settling.start()

    def _settle(self) -> None:
        """Become a tab beside this plugin's other docks at the right rather than shrink them."""
        shell: Any = self
        while shell is not None and not isinstance(shell, QDockWidget):
            shell = shell.parent()
        window = shell.parent() if shell is not None else None
        if not isinstance(window, QMainWindow):
            return

        def is_at_the_right(dock: QDockWidget) -> bool:
            area = window.dockWidgetArea(dock)
            return area == Qt.DockWidgetArea.RightDockWidgetArea and not dock.isFloating()

        for other in window.findChildren(QDockWidget) if is_at_the_right(shell) else ():
            is_ours = other is not shell and other.findChild(Dock) is not None
            if is_ours and is_at_the_right(other) and other.toggleViewAction().isChecked():
                window.tabifyDockWidget(other, shell)
                shell.raise_()
                return

    def _make_widgets(self) -> None:
        raise NotImplementedError

    def _lay_out(self) -> None:
        raise NotImplementedError

    def _connect(self) -> None:
        raise NotImplementedError

    def _show_state(self, *_: Any) -> None:
        raise NotImplementedError


class Note(QLabel):
    """Small text below a field, hidden when empty."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self.setVisible(False)
        # fainter than other text in every theme
        self._faint = QGraphicsOpacityEffect(self)
        self._faint.setOpacity(_FAINT)
        self.setGraphicsEffect(self._faint)

    def show_text(self, text: str, is_error: bool = False) -> None:
        """Show a text, red for errors."""
        self._faint.setEnabled(not is_error)
        show_message(self, text, is_error)


class UprightArea(QScrollArea):
    """Scrolls up and down where the window is low; as wide as its content needs."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setWidget(content)

    def minimumSizeHint(self) -> QSize:
        """Ask for the content's width, and for the bar's."""
        width = self.widget().minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return QSize(width, super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Notice when the content needs another width."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


def show_message(label: QLabel, text: str, is_error: bool) -> None:
    """Show one line, red for errors; nothing hides the label."""
    # paths may be broken, or they would widen the dock; units may not
    text = re.sub(r"([/\\_])(?=\w{4})", "\\1\u200b", text)
    text = re.sub(r"/(?=\w{1,3}\b)", "/\u2060", text)
    label.setText(re.sub(r"(?<=\d) (?=(nm|px|e⁻|s|min|h|MB|GB)\b)", "\u00a0", text))
    label.setStyleSheet(f"color: {ERROR_COLOR}" if is_error else "")
    label.setVisible(bool(text))


def choose(box: QComboBox, items: Sequence[tuple[str, Any]] | None, value: Any) -> None:
    """Fill a box with (text, value) where that changed, and choose a value; tells nobody."""
    with QSignalBlocker(box):
        if items is not None and items != [(box.itemText(i), box.itemData(i)) for i in range(box.count())]:
            box.clear()
            for text, data in items:
                box.addItem(text, data)
                box.setItemData(box.count() - 1, text, Qt.ItemDataRole.ToolTipRole)
        box.setCurrentIndex(box.findData(value))


def _run_all(endings: list[Callable[[], Any]]) -> None:
    while endings:
        endings.pop(0)()
