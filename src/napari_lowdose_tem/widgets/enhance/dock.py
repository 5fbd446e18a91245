"""The Enhance dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import (
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_lowdose_tem.widgets.enhance import stack
from napari_lowdose_tem.widgets.enhance.control import EnhanceControl
from napari_lowdose_tem.widgets.shared.choice_box import ChoiceBox, ModelBox
from napari_lowdose_tem.widgets.shared.devices import DEVICE_TIP, DEVICES
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.form import make_form
from napari_lowdose_tem.widgets.shared.parts import Note, UprightArea, show_message

if TYPE_CHECKING:
    from napari.viewer import Viewer

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
        # later, so that `prepare_stack` can come first
        self._opening = QTimer(self)
        self._opening.setSingleShot(True)
        self._opening.timeout.connect(self._on_opened)
        self._opening.start(0)

    def prepare_stack(self) -> None:
        """Turn to the whole stack of the selected layer, ready to start."""
        self._opening.stop()
        self.control.prepare_stack()
        self.run_button.setFocus()

    def _make_widgets(self) -> None:
        self.source_box, self.model_box, self.output_box = ChoiceBox(), ModelBox(), ChoiceBox()
        self.device_box = ChoiceBox(DEVICES)
        self.device_box.setToolTip(DEVICE_TIP)
        self.source_note, self.model_note, self.device_note = Note(), Note(), Note()
        self.preview_button = QPushButton("Preview enhanced frame")
        self.preview_button.setCheckable(True)
        self.preview_button.setToolTip(
            "Adds one layer that follows the slider. Each frame is the same as in the enhanced stack."
        )
        self.preview_note, self.output_note, self.progress_note = Note(), Note(), Note()
        self.run_button, self.resume_button = QPushButton(), QPushButton("Resume")
        self.resume_button.setToolTip("Continues the interrupted output in this folder")
        self.cancel_button = QPushButton("Cancel")
        self.progress_bar = QProgressBar()
        self.progress_bar.setRange(0, 1000)
        self.progress_bar.setTextVisible(False)
        self.message_label = QLabel()
        self.message_label.setWordWrap(True)
        self.message_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def _lay_out(self) -> None:
        self.stack_group = QGroupBox()
        inner = QVBoxLayout(self.stack_group)
        buttons = QHBoxLayout()
        for button in (self.run_button, self.resume_button, self.cancel_button):
            buttons.addWidget(button)
        inner.addLayout(make_form(("Output to", self.output_box), ("", self.output_note)))
        inner.addLayout(buttons)
        inner.addWidget(self.progress_bar)
        inner.addWidget(self.progress_note)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addLayout(
            make_form(
                ("Layer", self.source_box), ("", self.source_note),
                ("Model", self.model_box), ("", self.model_note),
                ("Processor", self.device_box), ("", self.device_note),
            )
        )  # fmt: skip
        for widget in (self.preview_button, self.preview_note, self.stack_group, self.message_label):
            layout.addWidget(widget)
        layout.addStretch(1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(UprightArea(content))

    def _connect(self) -> None:
        control = self.control
        self.source_box.chosen.connect(control.choose_source)
        self.model_box.chosen.connect(control.choose_model)
        self.device_box.chosen.connect(control.choose_device)
        self.output_box.chosen.connect(self._on_output)
        self.preview_button.toggled.connect(control.set_preview)
        self.run_button.clicked.connect(lambda: control.start_stack())
        self.resume_button.clicked.connect(lambda: control.start_stack(resume=True))
        self.cancel_button.clicked.connect(control.cancel_stack)

    def _on_opened(self) -> None:
        if self.is_open:
            self.control.set_preview(True)

    def _on_output(self, chosen: str) -> None:
        state, path = self.control.state, None
        if chosen != _MEMORY:
            path = state.output
        if chosen == _DISK and self.control.image is not None:
            proposed = state.output or stack.propose_output(self.control.image)
            picked, _ = QFileDialog.getSaveFileName(
                self, "Write the enhanced stack to", str(proposed), "OME-Zarr (*.zarr)"
            )
            path = Path(picked) if picked else path
        self.control.choose_output(path)

    def _show_state(self, *_: object) -> None:
        state = self.control.state
        self.source_box.show_value(state.source, [(name, name) for name in state.layers])
        self.source_box.setEnabled(bool(state.layers) and not state.running)
        self.source_note.show_text(state.source_text, is_error=not state.source_ok and bool(state.layers))
        self.model_box.show_models(state.models, state.model)
        self.model_note.show_text(state.model_text)
        self.device_box.show_value(state.device)
        self.device_note.show_text(state.device_text)
        with QSignalBlocker(self.preview_button):
            self.preview_button.setChecked(state.preview)
        self.preview_note.show_text(state.preview_text)
        self._show_stack()
        can_run = state.source_ok and bool(state.model) and not state.running
        for button in (self.preview_button, self.run_button, self.resume_button):
            button.setEnabled(can_run)
        for box in (self.model_box, self.device_box, self.output_box):
            box.setEnabled(not state.running)
        show_message(self.message_label, state.message, state.is_error)

    def _show_stack(self) -> None:
        state = self.control.state
        memory = [] if state.needs_disk else [(_MEMORY, _MEMORY)]
        path = [(state.output.name, str(state.output))] if state.output else []
        self.output_box.show_value(str(state.output or _MEMORY), [*memory, *path, (_DISK, _DISK)])
        self.output_box.setToolTip(str(state.output or ""))
        self.output_note.show_text(state.output_text)
        self.stack_group.setTitle("Whole stack" if state.is_stack else "This frame")
        what = "whole stack …" if state.is_stack else "this frame"
        self.run_button.setText("Start again" if state.can_resume else f"Enhance {what}")
        self.progress_bar.setValue(round(1000 * state.share_done))
        self.progress_note.show_text("Cancelling …" if state.stopping else state.progress_text)
        self.cancel_button.setEnabled(not state.stopping)
        self.run_button.setVisible(not state.running)
        self.resume_button.setVisible(state.can_resume and not state.running)
        self.cancel_button.setVisible(state.running)
        self.progress_bar.setVisible(state.running)
