"""The Line profile dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_lowdose_tem.widgets.profile.control import ProfileControl
from napari_lowdose_tem.widgets.profile.kept_csv import to_text
from napari_lowdose_tem.widgets.profile.kept_table import KeptTable
from napari_lowdose_tem.widgets.profile.lines_file import ENDING
from napari_lowdose_tem.widgets.profile.over_time_plot import OverTimePlot
from napari_lowdose_tem.widgets.profile.plot import ProfilePlot
from napari_lowdose_tem.widgets.profile.results_text import numbers_html, reasons_text
from napari_lowdose_tem.widgets.profile.state import (
    FITS,
    LAYOUTS,
    MOST_PARTICLES,
    ROLES,
    RULES,
    SCALES,
    segments_text,
)
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.parts import Note, UprightArea, show_choice, show_message

if TYPE_CHECKING:
    from napari.viewer import Viewer

_NONE = "none"
_FIGURES = "PNG (*.png);;SVG (*.svg);;PDF (*.pdf)"


class ProfileDock(Dock[ProfileControl]):
    """Measure particles along lines, on HDE, LDE and output alike.

    Parameters
    ----------
    napari_viewer
        The viewer or its model.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(ProfileControl(napari_viewer))
        viewer = self.control.viewer
        viewer.events.theme.connect(self._show_state)
        self._endings.append(lambda: viewer.events.theme.disconnect(self._show_state))

    def scroll_to(self, part: QWidget) -> None:
        """Bring a part of the dock into view."""
        self._area.ensureWidgetVisible(part)

    # ---- widgets

    def _make_widgets(self) -> None:
        self.role_boxes = {role: QComboBox() for role in ROLES}
        self.line_box, self.scale_box, self.layout_box = (QComboBox() for _ in range(3))
        self.fit_box, self.particles_box, self.rule_box, self.stack_box = (QComboBox() for _ in range(4))
        for box in (*self.role_boxes.values(), self.line_box, self.fit_box, self.rule_box, self.stack_box):
            # long names must not widen the dock
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(10)
        for box, texts in (
            (self.scale_box, SCALES), (self.layout_box, LAYOUTS),
            (self.fit_box, FITS), (self.rule_box, RULES),
        ):  # fmt: skip
            for key, text in texts.items():
                box.addItem(text, key)
        self.particles_box.addItem("Automatic", 0)
        for n in range(1, MOST_PARTICLES + 1):
            self.particles_box.addItem(str(n), n)
        self.fit_box.setToolTip(
            "Blurred sphere suits most particles; the other two fit only the points near the centre"
        )
        self.rule_box.setToolTip("Where the outer diameter D ends")
        self.draw_button = QPushButton("Draw line")
        self.draw_button.setToolTip(
            "Drag in the image from one end to the other; the line is shown on all images"
        )
        self.snap_button, self.keep_button = QPushButton("Snap to centre"), QPushButton("Keep")
        self.snap_button.setToolTip(
            "Shifts the line sideways through the particle's centre; off centre a particle measures too small"
        )
        self.keep_button.setToolTip("Adds one row per layer to the table below")
        self.figure_button = QPushButton("Save figure …")
        self.figure_button.setToolTip("Images, line, profiles and fits, as PNG, SVG or PDF")
        self.line_note, self.counts_note, self.notes_note, self.time_note = (Note() for _ in range(4))
        self.plot, self.time_plot = ProfilePlot(), OverTimePlot()
        self.numbers_label, self.message_label = QLabel(), QLabel()
        self.numbers_label.setTextFormat(Qt.TextFormat.RichText)
        for label in (self.numbers_label, self.message_label):
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.message_label.setWordWrap(True)
        self.width_box = QDoubleSpinBox()
        self.width_box.setRange(0, 1e5)
        self.width_box.setDecimals(1)
        self.width_box.setSpecialValueText("one pixel")
        self.width_box.setToolTip("Averages the profile over this width; shown as a band in the image")
        self.background_edit = QLineEdit()
        self.background_edit.setPlaceholderText("automatic")
        self.background_edit.setToolTip(
            "Background segments along the line, e.g. 0–30, 120–150; or mark them in the plot"
        )
        self.mark_button, self.automatic_button = QPushButton("Mark"), QPushButton("Automatic")
        self.mark_button.setCheckable(True)
        self.mark_button.setToolTip("Drag in the plot to mark background; right-click a segment to remove it")
        self.follow_box = QCheckBox("Follow drift")
        self.follow_box.setToolTip(
            "Shifts the line with the drift of its surroundings; place it on the first frame"
        )
        self.time_button, self.cancel_button = QPushButton("Measure over time"), QPushButton("Cancel")
        self.kymograph_button, self.time_csv_button = (
            QPushButton("Add kymograph as layer"),
            QPushButton("CSV …"),
        )
        self.time_bar = QProgressBar()
        self.time_bar.setRange(0, 1000)
        self.time_bar.setTextVisible(False)
        self.table = KeptTable()
        self.delete_button, self.copy_button = QPushButton("Delete"), QPushButton("Copy")
        self.csv_button, self.json_button = QPushButton("CSV …"), QPushButton("JSON …")
        self.copy_button.setToolTip("Copies all rows, to paste into a spreadsheet")
        self.json_button.setToolTip("Saves lines and measurements; open the file in napari to restore them")

    def _lay_out(self) -> None:
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.addLayout(_form(*self.role_boxes.items()))
        inner.addLayout(_row(self.draw_button, self.line_box))
        inner.addWidget(self.line_note)
        inner.addWidget(self.plot)
        inner.addLayout(_row(self.scale_box, self.layout_box))
        for part in (self.numbers_label, self.notes_note, self.counts_note):
            inner.addWidget(part)
        inner.addLayout(_row(self.keep_button, self.snap_button, self.figure_button))
        inner.addWidget(self.message_label)
        self.how_group = QGroupBox("Measurement settings")
        how = QVBoxLayout(self.how_group)
        background = QWidget()
        background.setLayout(_row(self.background_edit, self.mark_button, self.automatic_button))
        how.addLayout(
            _form(
                ("Line width", self.width_box),
                ("Fit", self.fit_box),
                ("Particles", self.particles_box),
                ("Edge threshold", self.rule_box),
                ("Background", background),
            )
        )
        self.kept_group = QGroupBox("Kept measurements")
        below = QVBoxLayout(self.kept_group)
        below.addWidget(self.table)
        below.addLayout(_row(self.delete_button, self.copy_button, self.csv_button, self.json_button))
        self.time_group = QGroupBox("Over time")
        time = QVBoxLayout(self.time_group)
        time.addLayout(_row(self.stack_box, self.follow_box))
        time.addLayout(_row(self.time_button, self.cancel_button))
        time.addWidget(self.time_bar)
        time.addWidget(self.time_note)
        time.addWidget(self.time_plot)
        time.addLayout(_row(self.kymograph_button, self.time_csv_button))
        for group in (self.how_group, self.time_group, self.kept_group):
            inner.addWidget(group)
        inner.addStretch(1)
        self._area = UprightArea(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._area)

    def _connect(self) -> None:
        control = self.control
        for role, box in self.role_boxes.items():
            box.activated.connect(lambda i, r=role, b=box: control.choose_layer(r, b.itemData(i)))
        self.draw_button.clicked.connect(control.draw)
        self.line_box.activated.connect(control.choose_line)
        for box, choose_value in (
            (self.scale_box, control.choose_scale),
            (self.layout_box, control.choose_layout),
            (self.fit_box, control.choose_fit),
            (self.rule_box, control.choose_rule),
            (self.particles_box, control.choose_particles),
        ):
            box.activated.connect(lambda i, b=box, chosen=choose_value: chosen(b.itemData(i)))
        self.width_box.valueChanged.connect(control.set_width)
        self.background_edit.editingFinished.connect(self._on_background)
        self.automatic_button.clicked.connect(lambda: control.set_background(()))
        self.plot.background_changed.connect(control.set_background)
        self.mark_button.toggled.connect(lambda on: setattr(self.plot, "marking", on))
        self.snap_button.clicked.connect(control.snap)
        self.keep_button.clicked.connect(control.keep)
        self.figure_button.clicked.connect(self._on_figure)
        self.stack_box.activated.connect(lambda i: control.time.choose(self.stack_box.itemData(i)))
        self.follow_box.toggled.connect(control.set_follow)
        self.time_button.clicked.connect(control.measure_over_time)
        self.cancel_button.clicked.connect(control.time.cancel)
        self.kymograph_button.clicked.connect(control.time.add_kymograph)
        self.time_csv_button.clicked.connect(self._on_time_csv)
        self.table.edited.connect(lambda row, key, text: control.kept.edit(row, **{key: text}))
        self.delete_button.clicked.connect(lambda: control.kept.delete(self.table.chosen))
        self.copy_button.clicked.connect(self._on_copy)
        self.csv_button.clicked.connect(lambda: self._on_save("measurements.csv", "Table (*.csv)"))
        self.json_button.clicked.connect(lambda: self._on_save(f"profiles{ENDING}", "Lines (*.lines.json)"))

    def _on_copy(self) -> None:
        if (clipboard := QApplication.clipboard()) is not None:
            clipboard.setText(to_text(self.control.state.rows))

    # ---- files

    def _on_background(self) -> None:
        if self.background_edit.text() != segments_text(self.control.state.background):
            self.control.set_background(self.background_edit.text())

    def _on_figure(self) -> None:
        path, kind = QFileDialog.getSaveFileName(self, "Save the figure", "profile.png", _FIGURES)
        if path:
            ending = kind.partition("*")[2].rstrip(")") or ".png"
            self.control.save_figure(Path(path) if Path(path).suffix else Path(path + ending))

    def _on_save(self, proposed: str, kinds: str) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the measurements", proposed, kinds)
        if path:
            keeper, is_csv = self.control.kept, proposed.endswith(".csv")
            if is_csv:
                keeper.save_table(Path(path if path.lower().endswith(".csv") else path + ".csv"))
            else:
                keeper.save_lines(Path(path))

    def _on_time_csv(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the table", "over_time.csv", "Table (*.csv)")
        if path:
            self.control.kept.save_over_time(Path(path if path.lower().endswith(".csv") else path + ".csv"))

    # ---- the state

    def _show_state(self, *_: Any) -> None:
        """Show the state; nothing else writes to the widgets."""
        state = self.control.state
        layers = [(_NONE, ""), *((name, name) for name in state.layers)]
        for (role, box), name in zip(self.role_boxes.items(), state.chosen, strict=True):
            show_choice(box, layers, name)
            box.setToolTip(f"Layer used as {role}")
        show_choice(self.line_box, [(name, i) for i, name in enumerate(state.lines)], state.line)
        self.line_box.setEnabled(bool(state.lines))
        self.line_note.show_text(state.line_text)
        has_line = state.line >= 0 and bool(state.curves)
        theme = self.control.viewer.theme
        is_on_frame = has_line and any(curve.profile is not None for curve in state.curves)
        self.plot.setVisible(has_line)
        self.plot.show_curves(state.curves, state.scale, state.layout, state.background, theme)
        numbers = numbers_html(state.curves, state.counts, state.unit)
        if self.numbers_label.text() != numbers:
            self.numbers_label.setText(numbers)
        self.numbers_label.setVisible(bool(numbers))
        self.notes_note.show_text(reasons_text(state.curves))
        self.counts_note.show_text(state.counts_text)
        for box, value in (
            (self.scale_box, state.scale), (self.layout_box, state.layout), (self.fit_box, state.fit),
            (self.rule_box, state.rule), (self.particles_box, state.particles),
        ):  # fmt: skip
            show_choice(box, None, value)
        with QSignalBlocker(self.width_box):
            self.width_box.setSuffix(f" {state.unit}")
            self.width_box.setValue(state.width)
        if not self.background_edit.hasFocus() or not self.background_edit.isModified():
            self.background_edit.setText(segments_text(state.background))
        self.automatic_button.setEnabled(bool(state.background))
        for widget in (self.scale_box, self.layout_box):
            widget.setVisible(has_line)
        for button in (self.keep_button, self.snap_button, self.figure_button):
            button.setEnabled(is_on_frame)
        self._show_time()
        self.table.show_rows(state.rows)
        self.kept_group.setVisible(bool(state.rows))
        show_message(self.message_label, state.message, state.is_error)

    def _show_time(self) -> None:
        state, found = self.control.state, self.control.state.over_time
        self.time_group.setVisible(bool(state.stack))
        show_choice(self.stack_box, [(name, name) for name in self.control.time.stacks], state.stack)
        self.time_button.setEnabled(state.line >= 0)
        for widget, is_shown in (
            (self.time_button, not state.time_running),
            (self.cancel_button, state.time_running),
            (self.time_bar, state.time_running),
            (self.time_plot, found is not None),
            (self.kymograph_button, found is not None),
            (self.time_csv_button, found is not None),
        ):
            widget.setVisible(is_shown)
        self.time_bar.setValue(round(1000 * state.time_share))
        self.time_note.show_text(state.time_text)
        self.time_plot.show_result(found, self.control.viewer.theme)


def _form(*rows: tuple[str, QWidget]) -> QFormLayout:
    form = QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setVerticalSpacing(4)
    for label, widget in rows:
        form.addRow(label, widget)
    return form


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        row.addWidget(widget)
    return row
