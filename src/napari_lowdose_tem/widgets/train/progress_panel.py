"""The part of the Train dock that shows the running or last training."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_lowdose_tem.widgets.shared.parts import Note, show_message
from napari_lowdose_tem.widgets.train.control import TrainControl
from napari_lowdose_tem.widgets.train.loss_plot import LossPlot
from napari_lowdose_tem.widgets.train.state import describe_notes
from napari_lowdose_tem.widgets.train.validation_pictures import ValidationPictures


class ProgressPanel(QWidget):
    """Progress, message, losses and validation frame; pauses and stops, hands the model on."""

    def __init__(self, control: TrainControl) -> None:
        super().__init__()
        self._control = control
        self.pause_button, self.stop_button = QPushButton(), QPushButton("Stop")
        self.stop_button.setToolTip("Saves the state, so that the training can be resumed at any time")
        self.layers_button = QPushButton("Show in viewer")
        self.layers_button.setToolTip("Adds layers that follow the training")
        self.use_button = QPushButton("Use this model")
        self.use_button.setToolTip("In the Enhance dock; while training, the model as last saved")
        self.progress_bar = QProgressBar()
        self.progress_bar.setTextVisible(False)
        self.summary_note, self.progress_note, self.run_note = Note(), Note(), Note()
        self.message_label = QLabel()
        self.message_label.setWordWrap(True)
        self.message_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.plot, self.validation_pictures = LossPlot(), ValidationPictures()
        self._lay_out()
        self.pause_button.clicked.connect(control.training.pause)
        self.stop_button.clicked.connect(control.training.stop)
        self.layers_button.clicked.connect(control.add_validation_layers)
        self.use_button.clicked.connect(control.use_model)

    def _lay_out(self) -> None:
        self.result = QWidget()
        outer, inner = QVBoxLayout(self), QVBoxLayout(self.result)
        run_buttons, model_buttons = QHBoxLayout(), QHBoxLayout()
        for row, button in (
            (run_buttons, self.pause_button), (run_buttons, self.stop_button),
            (model_buttons, self.layers_button), (model_buttons, self.use_button),
        ):  # fmt: skip
            row.addWidget(button)
        for layout in (outer, inner):
            layout.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.summary_note)
        outer.addLayout(run_buttons)
        for widget in (self.progress_bar, self.progress_note, self.message_label, self.result):
            outer.addWidget(widget)
        inner.addWidget(self.plot)
        inner.addWidget(self.validation_pictures)
        inner.addLayout(model_buttons)
        inner.addWidget(self.run_note)

    def show_state(self) -> None:
        """Show the state of the control."""
        state = self._control.state
        self.summary_note.show_text(state.summary_text)
        self.pause_button.setText("Continue" if state.waiting else "Pause")
        self.pause_button.setEnabled(not state.stopping)
        self.stop_button.setEnabled(not state.stopping)
        show_share(self.progress_bar, state.share_done)
        paused = "Paused. " if state.waiting else ""
        stopping = "Stopping; saving the state …"
        self.progress_note.show_text(stopping if state.stopping else paused + state.progress_text)
        show_message(self.message_label, state.message, state.is_error)
        self.run_note.show_text(describe_notes(state.notes))
        self.run_note.setToolTip("\n".join(state.notes))
        for widget in (self.pause_button, self.stop_button, self.progress_bar):
            widget.setVisible(state.running)
        self.plot.setVisible(bool(state.curves.step_epochs or state.curves.epochs))
        self.plot.show_curves(state.curves, state.theme)
        self.validation_pictures.setVisible(state.validation is not None)
        self.validation_pictures.show_view(state.validation, _text_color(state.theme))
        self.layers_button.setVisible(state.validation is not None)
        self.use_button.setEnabled(state.saved is not None)
        self.result.setVisible(bool(state.summary_text))


def show_share(bar: QProgressBar, share: float) -> None:
    """Show a share of 1; 0 shows that the job is busy."""
    bar.setRange(0, 1000 if share else 0)
    bar.setValue(round(1000 * share))


def _text_color(theme: str) -> str:
    from napari.utils.theme import get_theme

    return str(get_theme(theme).text.as_hex())
