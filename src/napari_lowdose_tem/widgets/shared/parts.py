"""Small parts the docks share."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qtpy.QtCore import QEvent, QObject, QSignalBlocker, QSize, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QGraphicsOpacityEffect,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QWidget,
)

ERROR_COLOR = "#e5484d"  # on dark and on light
_FAINT = 0.7


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

    def sizeHint(self) -> QSize:
        """Ask for one line; what a longer text needs follows from the width."""
        return QSize(super().sizeHint().width(), self.fontMetrics().height())

    def show_text(self, text: str, is_error: bool = False) -> None:
        """Show a text, red for errors."""
        self._faint.setEnabled(not is_error)
        show_message(self, text, is_error)


class VerticalScrollArea(QScrollArea):
    """Scrolls up and down where the window is low."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QScrollArea.Shape.NoFrame)
        self.setWidget(content)


class UprightArea(VerticalScrollArea):
    """Scrolls up and down, and is as wide as its content needs."""

    def minimumSizeHint(self) -> QSize:
        """Ask for the content's width, and for the bar's."""
        content, bar = self.widget(), self.verticalScrollBar()
        if content is None or bar is None:
            return super().minimumSizeHint()
        width = content.minimumSizeHint().width() + bar.sizeHint().width()
        return QSize(width, super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Notice when the content needs another width."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


def show_message(label: QLabel, text: str, is_error: bool) -> None:
    """Show one line, red for errors; nothing hides the label."""
    # paths may be broken, or they would widen the dock; units may not
    text = re.sub(r"([/\\_])(?=\w{4})", "\\1\u200b", text)
    text = re.sub(r"/(?=\w{1,3}\b)", "/\u2060", text)
    label.setText(re.sub(r"(?<=\d) (?=(nm|px|e⁻|s|min|h|MB|GB)\b)", "\u00a0", text))
    label.setStyleSheet(f"color: {ERROR_COLOR}" if is_error else "")
    label.setVisible(bool(text))


def show_choice(box: QComboBox, items: Sequence[tuple[str, object]] | None, value: object) -> None:
    """Fill a box with (text, value) where that changed, and choose a value; tells nobody."""
    with QSignalBlocker(box):
        if items is not None and items != [(box.itemText(i), box.itemData(i)) for i in range(box.count())]:
            box.clear()
            for text, data in items:
                box.addItem(text, data)
                box.setItemData(box.count() - 1, text, Qt.ItemDataRole.ToolTipRole)
        box.setCurrentIndex(box.findData(value))
