"""The Enhance dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_lowdose_tem.network.model_file import SUFFIX
from napari_lowdose_tem.widgets.enhance import stack
from napari_lowdose_tem.widgets.enhance.control import EnhanceControl
from napari_lowdose_tem.widgets.shared.devices import DEVICES
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.parts import Note, UprightArea, show_choice, show_message

if TYPE_CHECKING:
    from napari.viewer import Viewer

_CHOOSE_FILE = "Choose a model file …"
_MEMORY, _DISK = "Memory, as a layer", "OME-Zarr folder on disk …"


class EnhanceDock(Dock[EnhanceControl]):
    """Preview the current frame enhanced, or enhance a whole stack.

    Parameters
    ----------
    napari_viewer
        The viewer or its model.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(EnhanceControl(napari_viewer))
        # later, for `prepare_stack` to come first
        self._preview_timer = QTimer(self)
        self._preview_timer.setSingleShot(True)
        self._preview_timer.timeout.connect(self._on_opened)
        self._preview_timer.start(0)

    def prepare_stack(self) -> None:
        """Turn to the whole stack of the selected layer, ready to start."""
        self._preview_timer.stop()
        self.control.prepare_stack()
        self.run_button.setFocus()

    def _make_widgets(self) -> None:
        self.source_box, self.model_box, self.device_box, self.output_box = (QComboBox() for _ in range(4))
        for box in (self.source_box, self.model_box, self.device_box, self.output_box):
            # long names must not widen the dock
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(16)
        for key, text in DEVICES.items():
            self.device_box.addItem(text, key)
        self.device_box.setToolTip("Automatic takes the fastest that passes its self-test")
        self.source_note, self.model_note, self.device_note = Note(), Note(), Note()
        self.preview_button = QPushButton("Show the current frame enhanced")
        self.preview_button.setCheckable(True)
        self.preview_button.setToolTip(
            "One layer that follows the slider. Frames come out exactly as in the whole stack."
        )
        self.preview_note, self.output_note, self.progress_note = Note(), Note(), Note()
        self.run_button, self.resume_button, self.cancel_button = (QPushButton() for _ in range(3))
        self.resume_button.setText("Resume")
        self.resume_button.setToolTip("Goes on with the interrupted output in this folder")
        self.cancel_button.setText("Cancel")
        self.progress_bar = QProgressBar()
        self.progress_bar.setRange(0, 1000)
        self.progress_bar.setTextVisible(False)
        self.message_label = QLabel()
        self.message_label.setWordWrap(True)
        self.message_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setVerticalSpacing(4)
        for label, box, below in (
            ("Layer", self.source_box, self.source_note),
            ("Model", self.model_box, self.model_note),
            ("Processor", self.device_box, self.device_note),
        ):
            form.addRow(label, box)
            form.addRow("", below)
        self.stack_group = QGroupBox()
        inner = QVBoxLayout(self.stack_group)
        row = QFormLayout()
        row.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        row.addRow("Output to", self.output_box)
        row.addRow("", self.output_note)
        buttons = QHBoxLayout()
        for button in (self.run_button, self.resume_button, self.cancel_button):
            buttons.addWidget(button)
        inner.addLayout(row)
        inner.addLayout(buttons)
        inner.addWidget(self.progress_bar)
        inner.addWidget(self.progress_note)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addLayout(form)
        layout.addWidget(self.preview_button)
        layout.addWidget(self.preview_note)
        layout.addWidget(self.stack_group)
        layout.addWidget(self.message_label)
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(UprightArea(content))

    def _connect(self) -> None:
        control = self.control
        self.source_box.textActivated.connect(control.choose_source)
        self.model_box.activated.connect(self._on_model)
        self.device_box.activated.connect(lambda i: control.choose_device(self.device_box.itemData(i)))
        self.output_box.activated.connect(self._on_output)
        self.preview_button.toggled.connect(control.set_preview)
        self.run_button.clicked.connect(lambda: control.start_stack())
        self.resume_button.clicked.connect(lambda: control.start_stack(resume=True))
        self.cancel_button.clicked.connect(control.cancel_stack)

    def _on_opened(self) -> None:
        if self.is_open:
            self.control.set_preview(True)

    def _on_model(self, index: int) -> None:
        path = self.model_box.itemData(index)
        if path is None:
            path, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", f"Models (*{SUFFIX})")
        if path:
            self.control.choose_model(path)
        self._show_state()

    def _on_output(self, index: int) -> None:
        state, path = self.control.state, None
        if self.output_box.itemData(index) == _DISK:
            proposed = state.output or stack.propose_output(self.control.image)
            chosen, _ = QFileDialog.getSaveFileName(
                self, "Write the enhanced stack to", str(proposed), "OME-Zarr (*.zarr)"
            )
            path = Path(chosen) if chosen else state.output
        self.control.choose_output(path)
        self._show_state()

    def _show_state(self, *_: Any) -> None:
        """Show the state; nothing else writes to the widgets."""
        state = self.control.state
        show_choice(self.source_box, [(name, name) for name in state.layers], state.source)
        self.source_box.setEnabled(bool(state.layers) and not state.running)
        self.source_note.show_text(state.source_text, is_error=not state.source_ok and bool(state.layers))
        models = [(label, path) for path, label in state.models]
        show_choice(self.model_box, [*models, (_CHOOSE_FILE, None)], state.model)
        self.model_note.show_text(state.model_text)
        show_choice(self.device_box, None, state.device)
        self.device_note.show_text(state.device_text)
        with QSignalBlocker(self.preview_button):
            self.preview_button.setChecked(state.preview)
        self.preview_note.show_text(state.preview_text)
        memory = [] if state.needs_disk else [(_MEMORY, _MEMORY)]
        path = [(state.output.name, str(state.output))] if state.output else []
        show_choice(self.output_box, [*memory, *path, (_DISK, _DISK)], str(state.output or _MEMORY))
        self.output_box.setToolTip(str(state.output or ""))
        self.output_note.show_text(state.output_text)
        self.stack_group.setTitle("Whole stack" if state.is_stack else "This frame")
        again = "Start again" if state.can_resume else None
        self.run_button.setText(
            again or ("Enhance the whole stack" if state.is_stack else "Enhance and keep")
        )
        self.progress_bar.setValue(round(1000 * state.share_done))
        self.progress_note.show_text("Stopping …" if state.stopping else state.progress_text)
        can_run = state.source_ok and bool(state.model) and not state.running
        for widget in (self.model_box, self.device_box, self.output_box):
            widget.setEnabled(not state.running)
        for button in (self.preview_button, self.run_button, self.resume_button):
            button.setEnabled(can_run)
        self.cancel_button.setEnabled(not state.stopping)
        for widget, is_shown in (
            (self.run_button, not state.running),
            (self.resume_button, state.can_resume and not state.running),
            (self.cancel_button, state.running),
            (self.progress_bar, state.running),
        ):
            widget.setVisible(is_shown)
        show_message(self.message_label, state.message, state.is_error)
