"""Widgets of the Compare dock, made and laid out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_lowdose_tem.widgets.compare.plot import HistogramPlot
from napari_lowdose_tem.widgets.shared.parts import VerticalScrollArea


def make_combo(texts: Mapping[Any, str], tooltip: str = "") -> QComboBox:
    """Return a box with these choices, (value, text), that long names do not widen."""
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(5)
    box.setToolTip(tooltip)
    for value, text in texts.items():
        box.addItem(text, value)
    return box


def make_button(text: str, tooltip: str = "", checkable: bool = False) -> QPushButton:
    """Return a button."""
    button = QPushButton(text)
    button.setToolTip(tooltip)
    button.setCheckable(checkable)
    return button


def show_checked(button: QAbstractButton, on: bool) -> None:
    """Check a button or box; emits nothing."""
    with QSignalBlocker(button):
        button.setChecked(on)


def make_form(*rows: tuple[str, QWidget]) -> QFormLayout:
    """Fields below each other; a row without a label spans both columns."""
    form = QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setVerticalSpacing(4)
    for label, widget in rows:
        if label:
            form.addRow(label, widget)
        else:
            form.addRow(widget)
    return form


def make_row(*widgets: QWidget) -> QWidget:
    """Widgets of equal width beside each other."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, 1)
    return row


def make_page(*parts: QWidget) -> QScrollArea:
    """Parts below each other; a plot takes what room there is."""
    page = QWidget()
    layout = QVBoxLayout(page)
    layout.setContentsMargins(6, 6, 6, 4)
    for part in parts:
        layout.addWidget(part, int(isinstance(part, HistogramPlot)))
    if not any(isinstance(part, HistogramPlot) for part in parts):
        layout.addStretch(1)
    return VerticalScrollArea(page)
