"""The Live dock: what a camera program writes, enhanced as it arrives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_lowdose_tem.io import READABLE_SUFFIXES
from napari_lowdose_tem.widgets.live.control import LiveControl
from napari_lowdose_tem.widgets.live.state import AVERAGED, FILE, FOLDER, KINDS, LAYER, LEVELS, MODES, REPLAY
from napari_lowdose_tem.widgets.shared.choice_box import ChoiceBox, ModelBox
from napari_lowdose_tem.widgets.shared.devices import DEVICE_TIP, DEVICES
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.form import make_form
from napari_lowdose_tem.widgets.shared.parts import Note, UprightArea, show_message

if TYPE_CHECKING:
    from napari.viewer import Viewer

_NOWHERE, _ZARR, _TIFFS = "Do not save", "OME-Zarr on disk …", "Folder of TIFF files …"


class LiveDock(Dock[LiveControl]):
    """Follow a camera program's folder or file, or replay a movie, raw and enhanced side by side.

    Parameters
    ----------
    napari_viewer
        The viewer or its model.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(LiveControl(napari_viewer))

    def _make_widgets(self) -> None:
        self.kind_box, self.mode_box, self.of_box = ChoiceBox(KINDS), ChoiceBox(MODES), ChoiceBox(AVERAGED)
        self.level_box, self.device_box = ChoiceBox(LEVELS), ChoiceBox(DEVICES)
        self.layer_box, self.model_box, self.output_box = ChoiceBox(), ModelBox(), ChoiceBox()
        self.path_edit, self.path_button = QLineEdit(), QPushButton("…")
        self.path_button.setFixedWidth(32)
        self.rate_box = _number_box(0.1, 10_000, decimals=1, suffix=" frames/s")
        self.average_box = _number_box(0, 3600, decimals=2, suffix=" s")
        self.average_box.setSingleStep(0.1)
        self.average_box.setSpecialValueText("off")
        self.loop_box, self.grid_box = QCheckBox("Loop"), QCheckBox("Raw and enhanced side by side")
        self.run_button = QPushButton()
        self.rate_label, self.count_label, self.message_label = QLabel(), QLabel(), QLabel()
        for label in (self.rate_label, self.count_label, self.message_label):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.source_note, self.model_note, self.device_note = Note(), Note(), Note()
        self.output_note, self.skipped_note = Note(), Note()
        tips: tuple[tuple[QWidget, str], ...] = (
            (self.path_button, "Choose"),
            (
                self.rate_label,
                "Latency: time from a frame’s arrival until it is enhanced, over the last 1,000 frames",
            ),
            (
                self.count_label,
                "99 % of the last 1,000 frames were enhanced within this time of their arrival.\n"
                "Dropped: arrived while another frame was being enhanced, and a newer one followed",
            ),
            (self.device_box, DEVICE_TIP),
            (self.mode_box, "What to do when frames arrive faster than they can be enhanced"),
            (
                self.average_box,
                "Recursive average for specimens that do not move: "
                "a frame this old has 1/e of the weight of the newest",
            ),
            (
                self.of_box,
                "Enhanced frames: the network sees single frames, as in training.\n"
                "Raw frames: the network sees their average",
            ),
            (
                self.level_box,
                "From first frame: brightness stays steady. From each frame: beam fluctuations are followed",
            ),
        )
        for widget, tip in tips:
            widget.setToolTip(tip)

    def _lay_out(self) -> None:
        self.path_row = _row(self.path_edit, self.path_button)
        self.rate_row = _row(self.rate_box, self.loop_box)
        self.form = make_form(
            ("From", self.kind_box), ("", self.path_row), ("", self.layer_box), ("", self.source_note),
            ("Rate", self.rate_row), ("Model", self.model_box), ("", self.model_note),
            ("Processor", self.device_box), ("", self.device_note), ("Enhance", self.mode_box),
            ("Average", _row(self.average_box, self.of_box)), ("Brightness", self.level_box),
            ("Save to", self.output_box), ("", self.output_note),
        )  # fmt: skip
        self.group = QGroupBox("Live")
        inner = QVBoxLayout(self.group)
        for widget in (self.grid_box, self.run_button, self.rate_label, self.count_label, self.skipped_note):
            inner.addWidget(widget)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addLayout(self.form)
        layout.addWidget(self.group)
        layout.addWidget(self.message_label)
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(UprightArea(content))

    def _connect(self) -> None:
        control = self.control
        for signal, slot in (
            (self.kind_box.chosen, control.choose_kind), (self.layer_box.chosen, control.choose_layer),
            (self.model_box.chosen, control.choose_model), (self.device_box.chosen, control.choose_device),
            (self.mode_box.chosen, control.choose_mode), (self.of_box.chosen, control.choose_averaged),
            (self.level_box.chosen, control.choose_level), (self.output_box.chosen, self._on_output),
            (self.rate_box.valueChanged, control.set_rate), (self.loop_box.toggled, control.set_loop),
            (self.average_box.valueChanged, control.set_average), (self.path_button.clicked, self._on_path),
            (self.grid_box.toggled, control.set_side_by_side), (self.run_button.clicked, self._on_run),
        ):  # fmt: skip
            signal.connect(slot)
        self.path_edit.editingFinished.connect(lambda: control.choose_path(self.path_edit.text().strip()))

    def _on_run(self) -> None:
        (self.control.stop if self.control.state.running else self.control.start)()

    def _on_path(self) -> None:
        state = self.control.state
        patterns = " ".join(f"*{s}" for s in READABLE_SUFFIXES)
        if state.kind == FOLDER:
            path = QFileDialog.getExistingDirectory(self, "Folder the camera program writes to", state.path)
        elif state.kind == FILE:
            path, _ = QFileDialog.getSaveFileName(
                self,
                "File the camera program appends to",
                state.path,
                "Growing files (*.tif *.tiff *.btf *.mrc *.mrcs *.zarr)",
                options=QFileDialog.Option.DontConfirmOverwrite,
            )
        else:
            path, _ = QFileDialog.getOpenFileName(self, "Movie to replay", state.path, f"Images ({patterns})")
        if path:
            self.control.choose_path(path)

    def _on_output(self, chosen: str) -> None:
        path = self.control.state.output
        if chosen == _NOWHERE:
            path = None
        elif chosen == _ZARR:
            picked, _ = QFileDialog.getSaveFileName(
                self, "Save the enhanced frames to", "", "OME-Zarr (*.zarr)",
                options=QFileDialog.Option.DontConfirmOverwrite,
            )  # fmt: skip
            if picked:
                path = Path(picked if picked.lower().endswith(".zarr") else f"{picked}.ome.zarr")
        elif chosen == _TIFFS:
            picked = QFileDialog.getExistingDirectory(self, "Save the enhanced frames into")
            path = Path(picked) if picked else path
        self.control.choose_output(path)

    def _show_state(self, *_: object) -> None:
        state = self.control.state
        self._show_choices()
        for note, text in (
            (self.source_note, state.source_text), (self.model_note, state.model_text),
            (self.device_note, state.device_text), (self.output_note, state.output_text),
            (self.skipped_note, state.skipped_text),
        ):  # fmt: skip
            note.show_text(text)
        self.skipped_note.setToolTip(state.skipped_all)
        choices: tuple[QWidget, ...] = (
            self.kind_box, self.layer_box, self.path_edit, self.path_button, self.rate_box, self.loop_box,
            self.model_box, self.device_box, self.mode_box, self.average_box, self.of_box, self.level_box,
            self.output_box,
        )  # fmt: skip
        for widget in choices:
            widget.setEnabled(not state.running)
        self.of_box.setEnabled(not state.running and state.average_s > 0)
        text = "Stop" if state.running else "Start"
        self.run_button.setText("Stopping …" if state.stopping else text)
        self.run_button.setEnabled((state.running or state.source_ok) and not state.stopping)
        for label, text in ((self.rate_label, state.rate_text), (self.count_label, state.count_text)):
            show_message(label, text, False)
        show_message(self.message_label, state.message, state.is_error)

    def _show_choices(self) -> None:
        state = self.control.state
        self.kind_box.show_value(state.kind)
        self.mode_box.show_value(state.save_all)
        self.of_box.show_value(state.average_of)
        self.level_box.show_value(state.level)
        self.device_box.show_value(state.device)
        self.layer_box.show_value(state.layer, [(name, name) for name in state.layers])
        self.model_box.show_models(state.models, state.model)
        path = [(state.output.name, str(state.output))] if state.output else []
        others = [(text, text) for text in (_ZARR, _TIFFS)]
        self.output_box.show_value(str(state.output or _NOWHERE), [(_NOWHERE, _NOWHERE), *path, *others])
        self.output_box.setToolTip(str(state.output or ""))
        if not self.path_edit.hasFocus() or state.running:
            self.path_edit.setText(state.path)
        self.path_edit.setToolTip(state.path)
        for number_box, value in ((self.rate_box, state.rate_per_s), (self.average_box, state.average_s)):
            with QSignalBlocker(number_box):
                number_box.setValue(value)
        for check_box, is_on in ((self.loop_box, state.loop), (self.grid_box, state.side_by_side)):
            with QSignalBlocker(check_box):
                check_box.setChecked(is_on)
        self.form.setRowVisible(self.path_row, state.kind != LAYER)
        self.form.setRowVisible(self.layer_box, state.kind == LAYER)
        self.form.setRowVisible(self.rate_row, state.kind in (REPLAY, LAYER))


def _number_box(low: float, high: float, *, decimals: int, suffix: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setDecimals(decimals)
    box.setSuffix(suffix)
    return box


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
