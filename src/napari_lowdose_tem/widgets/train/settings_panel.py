"""The part of the Train dock where a training is set up and started."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import (
    QGroupBox,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_lowdose_tem.train.config import TRAIN_RECIPES
from napari_lowdose_tem.widgets.shared.choice_box import ChoiceBox, ModelBox
from napari_lowdose_tem.widgets.shared.devices import DEVICE_TIP, TRAINING_DEVICES
from napari_lowdose_tem.widgets.shared.form import make_form
from napari_lowdose_tem.widgets.shared.models import recipe_label
from napari_lowdose_tem.widgets.shared.parts import Note
from napari_lowdose_tem.widgets.train.control import TrainControl
from napari_lowdose_tem.widgets.train.state import NEW_WEIGHTS, RECIPE_TEXTS

_NEW_WEIGHTS = "Train from scratch"


class SettingsPanel(QGroupBox):
    """Model to start from, recipe, time, name and what is advanced; the button that starts."""

    def __init__(self, control: TrainControl) -> None:
        super().__init__("Training")
        self._control = control
        self._make_widgets()
        self._lay_out()
        self._connect()

    def _make_widgets(self) -> None:
        self.start_box, self.device_box = ModelBox(), ChoiceBox(TRAINING_DEVICES)
        self.recipe_box = ChoiceBox({name: recipe_label(name) for name in TRAIN_RECIPES})
        self.start_note, self.recipe_note, self.output_note = Note(), Note(), Note()
        self.minutes_box = _spin_box(1, 10_000, " min")
        self.minutes_box.setToolTip("The number of epochs is chosen at the start to fit this time")
        self.epochs_box = _spin_box(0, 100_000, special="as the time allows")
        self.batch_box = _spin_box(0, 256, special="as in the recipe")
        self.batch_box.setToolTip("Frames per step; a smaller batch needs less memory")
        self.seed_box = _spin_box(0, 2**31 - 1)
        self.seed_box.setToolTip("The same seed and data give the same model")
        self.factor_box = _spin_box(1, 64)
        self.factor_box.setToolTip(
            "For folders of high-dose frames alone: side of a low-dose pixel in high-dose pixels"
        )
        self.device_box.setToolTip(DEVICE_TIP)
        self.advanced_button, self.advanced = QToolButton(), QWidget()
        self.advanced_button.setText("Advanced")
        self.advanced_button.setCheckable(True)
        self.advanced_button.setArrowType(Qt.ArrowType.RightArrow)
        self.advanced_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.name_edit = QLineEdit()
        self.name_edit.setAcceptDrops(False)  # folders dropped here are data
        self.name_edit.setToolTip("All docks list the model under this name; leave empty for a suggestion")
        self.train_button = QPushButton("Train")

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.addLayout(
            make_form(
                ("Start from", self.start_box), ("", self.start_note),
                ("Recipe", self.recipe_box), ("", self.recipe_note),
                ("Train for", self.minutes_box),
                ("Save as", self.name_edit), ("", self.output_note),
            )
        )  # fmt: skip
        advanced = make_form(
            ("Epochs", self.epochs_box),
            ("Batch size", self.batch_box),
            ("Seed", self.seed_box),
            ("Processor", self.device_box),
            ("HDE/LDE pixel ratio", self.factor_box),
        )
        advanced.setContentsMargins(0, 0, 0, 0)
        self.advanced.setLayout(advanced)
        self.advanced.setVisible(False)
        for widget in (self.advanced_button, self.advanced, self.train_button):
            layout.addWidget(widget)

    def _connect(self) -> None:
        control = self._control
        for signal, slot in (
            (self.start_box.chosen, control.choose_start), (self.recipe_box.chosen, control.choose_recipe),
            (self.device_box.chosen, control.choose_device), (self.name_edit.editingFinished, self._on_name),
            (self.minutes_box.valueChanged, control.set_minutes),
            (self.epochs_box.valueChanged, control.set_epochs),
            (self.batch_box.valueChanged, control.set_batch), (self.seed_box.valueChanged, control.set_seed),
            (self.factor_box.valueChanged, control.set_hde_factor),
            (self.advanced_button.toggled, self._on_advanced), (self.train_button.clicked, self._on_train),
        ):  # fmt: skip
            signal.connect(slot)

    def show_state(self) -> None:
        """Show the state of the control."""
        state = self._control.state
        self.start_box.show_models(state.models, state.start, [(_NEW_WEIGHTS, NEW_WEIGHTS)])
        self.start_note.show_text(state.start_text)
        self.recipe_box.show_value(state.recipe)
        self.recipe_note.show_text(RECIPE_TEXTS[state.recipe])
        self.device_box.show_value(state.device)
        for box, value in (
            (self.minutes_box, state.minutes), (self.epochs_box, state.epochs), (self.batch_box, state.batch),
            (self.seed_box, state.seed), (self.factor_box, state.hde_factor),
        ):  # fmt: skip
            with QSignalBlocker(box):
                if box.value() != value:
                    box.setValue(value)
        self.minutes_box.setEnabled(not state.epochs)
        if not self.name_edit.hasFocus():  # else the user may be typing
            self.name_edit.setText(state.name)
        self.output_note.show_text(state.output_text, is_error=not state.name_ok)
        self.train_button.setEnabled(not self._control.why_not())
        self.train_button.setToolTip(self._control.why_not())
        self.setVisible(not state.running)

    def _on_name(self) -> None:
        if self.name_edit.text() != self._control.state.name:
            self._control.choose_name(self.name_edit.text())
            self.name_edit.setText(self._control.state.name)

    def _on_advanced(self, on: bool) -> None:
        self.advanced_button.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)
        self.advanced.setVisible(on)

    def _on_train(self) -> None:
        self._on_name()
        overwrite = self._control.would_overwrite()
        if not overwrite or self._confirm_overwrite():
            self._control.train(overwrite)

    def _confirm_overwrite(self) -> bool:
        name = self._control.state.name
        answer = QMessageBox.question(
            self, "Replace the model?",
            f"A model named “{name}” was trained before. Replace it and all files of its training?",
        )  # fmt: skip
        return bool(answer == QMessageBox.StandardButton.Yes)


def _spin_box(low: int, high: int, suffix: str = "", special: str = "") -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, high)
    box.setSuffix(suffix)
    box.setSpecialValueText(special)
    box.setKeyboardTracking(False)
    return box
