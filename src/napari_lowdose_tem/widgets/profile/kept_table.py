"""The table of kept measurements."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_lowdose_tem.widgets.profile.kept_rows import Row, diameters
from napari_lowdose_tem.widgets.profile.results_text import with_error

HEADER = ("Name", "Layer", "Frame", "Diameter", "Separation", "Note")
_NAME, _NOTE = 0, 5
_HEIGHT_PX = 150
Cell = Qt.ItemFlag


class KeptTable(QTableWidget):
    """Kept measurements; name and note can be edited."""

    edited = Signal(int, str, str)
    """Row, "name" or "note", and the new text."""

    def __init__(self) -> None:
        super().__init__(0, len(HEADER))
        self.setHorizontalHeaderLabels(HEADER)
        rows, columns = QHeaderView(Qt.Orientation.Vertical), QHeaderView(Qt.Orientation.Horizontal)
        self.setVerticalHeader(rows)
        self.setHorizontalHeader(columns)
        rows.setVisible(False)
        rows.setDefaultSectionSize(22)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setFixedHeight(_HEIGHT_PX)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        columns.setStretchLastSection(True)
        self._rows: tuple[Row, ...] = ()
        self.itemChanged.connect(self._on_changed)

    @property
    def chosen(self) -> list[int]:
        """Indices of the rows selected."""
        return sorted({index.row() for index in self.selectedIndexes()})

    def show_rows(self, rows: tuple[Row, ...]) -> None:
        """Show rows."""
        if rows == self._rows:
            return
        grown = len(rows) > len(self._rows)
        self._rows = rows
        with QSignalBlocker(self):
            self.setRowCount(len(rows))
            for i, row in enumerate(rows):
                for j, text in enumerate(_cells(row)):
                    item = QTableWidgetItem(text)
                    item.setToolTip(text)
                    if j not in (_NAME, _NOTE):
                        item.setFlags(item.flags() & ~Cell.ItemIsEditable)
                    self.setItem(i, j, item)
        if grown:
            self.scrollToBottom()

    def _on_changed(self, item: QTableWidgetItem) -> None:
        if item.column() in (_NAME, _NOTE):
            self.edited.emit(item.row(), "name" if item.column() == _NAME else "note", item.text().strip())


def _cells(row: Row) -> tuple[str, ...]:
    numbers, unit = row.numbers, row.unit
    found = ", ".join(with_error(*pair) for pair in diameters(row))
    separation = numbers.get(f"separation_{unit}")
    apart = "" if separation is None else with_error(separation, numbers.get(f"separation_se_{unit}"))
    return (
        row.name,
        row.layer,
        "" if row.frame is None else str(row.frame),
        f"{found} {unit}" if found else f"no result: {numbers.get('refused') or '–'}",
        f"{apart} {unit}" if apart else "",
        row.note,
    )
