"""Forms of docks."""

from __future__ import annotations

from qtpy.QtWidgets import QFormLayout, QLayout, QWidget


def make_form(*rows: tuple[str, QWidget | QLayout]) -> QFormLayout:
    """Lay out labels and their fields, as wide as the dock."""
    form = QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setVerticalSpacing(4)
    for label, field in rows:
        if isinstance(field, QWidget):
            form.addRow(label, field)
        else:
            form.addRow(label, field)
    return form
