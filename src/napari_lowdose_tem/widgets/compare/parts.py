"""How the Compare dock lays out its parts."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from napari_lowdose_tem.widgets.compare.plot import HistogramPlot


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


def make_row(*widgets: QWidget) -> QHBoxLayout:
    """Widgets of equal width beside each other."""
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        row.addWidget(widget, 1)
    return row


def hold(*widgets: QWidget) -> QWidget:
    """Return such a row as a widget."""
    held = QWidget()
    held.setLayout(make_row(*widgets))
    return held


def make_page(*parts: QWidget) -> QScrollArea:
    """Parts below each other; a plot takes what room there is."""
    page = QWidget()
    layout = QVBoxLayout(page)
    layout.setContentsMargins(6, 6, 6, 4)
    has_plot = False
    for part in parts:
        is_plot = isinstance(part, HistogramPlot)
        layout.addWidget(part, int(is_plot))
        has_plot |= is_plot
    if not has_plot:
        layout.addStretch(1)
    return scroll(page)


def scroll(content: QWidget) -> QScrollArea:
    """Return an area that scrolls up and down."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setWidget(content)
    return area
