"""The Live dock: what a camera program writes, enhanced as it comes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
)

from napari_lowdose_tem.io import READABLE_SUFFIXES
from napari_lowdose_tem.network.model_file import SUFFIX
from napari_lowdose_tem.widgets.live.control import LiveControl
from napari_lowdose_tem.widgets.live.state import AVERAGED, FILE, FOLDER, KINDS, LAYER, LEVELS, MODES, REPLAY
from napari_lowdose_tem.widgets.shared.devices import DEVICES
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.parts import Note, show_choice, show_message

if TYPE_CHECKING:
    from napari.viewer import Viewer

_CHOOSE_FILE = "Choose a model file …"
_NOWHERE, _ZARR, _TIFFS = "Nowhere", "OME-Zarr on disk …", "Folder of TIFF files …"


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
        self.kind_box, self.layer_box, self.model_box, self.device_box = (QComboBox() for _ in range(4))
        self.mode_box, self.of_box, self.level_box, self.output_box = (QComboBox() for _ in range(4))
        for box in (
            self.kind_box, self.layer_box, self.model_box, self.device_box, self.mode_box, self.of_box,
            self.level_box, self.output_box,
        ):  # fmt: skip
            # long names must not widen the dock
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(12)
        for box, items in (
            (self.kind_box, KINDS), (self.device_box, DEVICES), (self.mode_box, MODES),
            (self.of_box, AVERAGED), (self.level_box, LEVELS),
        ):  # fmt: skip
            for key, text in items.items():
                box.addItem(text, key)
        self.path_edit = QLineEdit()
        self.path_button = QPushButton("…")
        self.path_button.setFixedWidth(32)
        self.path_button.setToolTip("Choose")
        self.rate_box, self.average_box = QDoubleSpinBox(), QDoubleSpinBox()
        self.rate_box.setRange(0.1, 10_000)
        self.rate_box.setDecimals(1)
        self.rate_box.setSuffix(" frames/s")
        self.average_box.setRange(0, 3600)
        self.average_box.setDecimals(2)
        self.average_box.setSingleStep(0.1)
        self.average_box.setSuffix(" s")
        self.average_box.setSpecialValueText("off")
        self.rate_label, self.count_label, self.message_label = QLabel(), QLabel(), QLabel()
        self.loop_box, self.grid_box = (
            QCheckBox("in a loop"),
            QCheckBox("Raw and enhanced side by side"),
        )
        for widget, tip in (
            (
                self.rate_label,
                "Latency: from the frame’s arrival until it is enhanced, of the last 1,000 frames",
            ),
            (self.count_label, "Dropped: came while another was enhanced, and a newer one was there"),
            (self.device_box, "Automatic takes the fastest that passes its self-test"),
            (self.mode_box, "When frames come faster than they are enhanced"),
            (self.average_box, "A frame this old counts 1/e of the newest; for specimens that stand still"),
            (
                self.of_box,
                "Enhanced: the network sees single frames, as in training. Raw: it sees their average",
            ),
            (self.level_box, "One scale keeps the brightness steady; each frame its own follows the beam"),
        ):
            widget.setToolTip(tip)
        self.source_note, self.model_note, self.device_note = Note(), Note(), Note()
        self.output_note, self.skipped_note = Note(), Note()
        self.run_button = QPushButton()
        for label in (self.rate_label, self.count_label, self.message_label):
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def _lay_out(self) -> None:
        form = self.form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setVerticalSpacing(4)
        path, rate, average = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        for row, widgets in (
            (path, (self.path_edit, self.path_button)),
            (rate, (self.rate_box, self.loop_box)),
            (average, (self.average_box, self.of_box)),
        ):
            for widget in widgets:
                row.addWidget(widget)
        self.path_row, self.rate_row = path, rate
        for label, field in (
            ("From", self.kind_box), ("", path), ("", self.layer_box), ("", self.source_note),
            ("Rate", rate), ("Model", self.model_box), ("", self.model_note),
            ("Processor", self.device_box), ("", self.device_note), ("Enhance", self.mode_box),
            ("Average", average), ("Scale", self.level_box), ("Save to", self.output_box),
            ("", self.output_note),
        ):  # fmt: skip
            form.addRow(label, field)
        self.group = QGroupBox("Live")
        inner = QVBoxLayout(self.group)
        for widget in (self.grid_box, self.run_button, self.rate_label, self.count_label, self.skipped_note):
            inner.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.group)
        layout.addWidget(self.message_label)
        layout.addStretch(1)

    def _connect(self) -> None:
        control = self.control
        for box, key in (
            (self.kind_box, "kind"), (self.mode_box, "save_all"), (self.of_box, "average_of"),
            (self.level_box, "level"), (self.device_box, "device"),
        ):  # fmt: skip
            box.activated.connect(lambda i, box=box, key=key: control.choose(**{key: box.itemData(i)}))
        self.layer_box.textActivated.connect(lambda name: control.choose(layer=name))
        self.path_edit.editingFinished.connect(lambda: control.choose(path=self.path_edit.text().strip()))
        self.path_button.clicked.connect(self._on_path)
        self.rate_box.valueChanged.connect(lambda value: control.choose(rate_per_s=value))
        self.loop_box.toggled.connect(lambda on: control.choose(loop=on))
        self.average_box.valueChanged.connect(lambda value: control.choose(average_s=value))
        self.model_box.activated.connect(self._on_model)
        self.output_box.activated.connect(self._on_output)
        self.grid_box.toggled.connect(control.set_side_by_side)
        self.run_button.clicked.connect(self._on_run)

    def _on_run(self) -> None:
        if self.control.state.running:
            self.control.stop()
        else:
            self.control.start()

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
            self.control.choose(path=path)

    def _on_model(self, index: int) -> None:
        path = self.model_box.itemData(index)
        if path is None:
            path, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", f"Models (*{SUFFIX})")
        if path:
            self.control.choose_model(path)
        self._show_state()

    def _on_output(self, index: int) -> None:
        chosen = self.output_box.itemData(index)
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
        self._show_state()

    def _show_state(self, *_: object) -> None:
        """Show the state; nothing else writes to the widgets."""
        state = self.control.state
        is_replay = state.kind in (REPLAY, LAYER)
        for box, value in (
            (self.kind_box, state.kind), (self.mode_box, state.save_all), (self.of_box, state.average_of),
            (self.level_box, state.level), (self.device_box, state.device),
        ):  # fmt: skip
            show_choice(box, None, value)
        show_choice(self.layer_box, [(name, name) for name in state.layers], state.layer)
        models = [(label, path) for path, label in state.models]
        show_choice(self.model_box, [*models, (_CHOOSE_FILE, None)], state.model)
        path = [(state.output.name, str(state.output))] if state.output else []
        fixed = [(text, text) for text in (_ZARR, _TIFFS)]
        show_choice(self.output_box, [(_NOWHERE, _NOWHERE), *path, *fixed], str(state.output or _NOWHERE))
        self.output_box.setToolTip(str(state.output or ""))
        if not self.path_edit.hasFocus() or state.running:
            self.path_edit.setText(state.path)
        self.path_edit.setToolTip(state.path)
        for widget, value in ((self.rate_box, state.rate_per_s), (self.average_box, state.average_s)):
            with QSignalBlocker(widget):
                widget.setValue(value)
        for widget, is_on in ((self.loop_box, state.loop), (self.grid_box, state.side_by_side)):
            with QSignalBlocker(widget):
                widget.setChecked(is_on)
        self.form.setRowVisible(self.path_row, state.kind != LAYER)
        self.form.setRowVisible(self.layer_box, state.kind == LAYER)
        self.form.setRowVisible(self.rate_row, is_replay)
        for note, text in (
            (self.source_note, state.source_text), (self.model_note, state.model_text),
            (self.device_note, state.device_text), (self.output_note, state.output_text),
            (self.skipped_note, state.skipped_text),
        ):  # fmt: skip
            note.show_text(text)
        self.skipped_note.setToolTip(state.skipped_all)
        for widget in (
            self.kind_box, self.layer_box, self.path_edit, self.path_button, self.rate_box, self.loop_box,
            self.model_box, self.device_box, self.mode_box, self.average_box, self.of_box, self.level_box,
            self.output_box,
        ):  # fmt: skip
            widget.setEnabled(not state.running)
        self.of_box.setEnabled(not state.running and state.average_s > 0)
        text = "Stop" if state.running else "Start"
        self.run_button.setText("Stopping …" if state.stopping else text)
        self.run_button.setEnabled((state.running or state.source_ok) and not state.stopping)
        for label, text in ((self.rate_label, state.rate_text), (self.count_label, state.count_text)):
            show_message(label, text, False)
        show_message(self.message_label, state.message, state.is_error)
