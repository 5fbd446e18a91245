"""The Train dock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_lowdose_tem.network.model_file import SUFFIX
from napari_lowdose_tem.train.config import SIMULATOR, TRAIN_RECIPES
from napari_lowdose_tem.widgets.shared.devices import TRAINING_DEVICES
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.parts import Note, show_choice, show_message
from napari_lowdose_tem.widgets.shared.plot import LossPlot
from napari_lowdose_tem.widgets.train.control import TrainControl
from napari_lowdose_tem.widgets.train.findings_list import FindingsList
from napari_lowdose_tem.widgets.train.state import (
    NEW_WEIGHTS,
    RECIPE_TEXTS,
    SIMULATED,
    describe_data,
    describe_notes,
)
from napari_lowdose_tem.widgets.train.validation_pictures import ValidationPictures

if TYPE_CHECKING:
    from napari.viewer import Viewer

_CHOOSE_FOLDER, _CHOOSE_LIST = "Choose a folder …", "Choose a list of pairs (CSV) …"
_CHOOSE_FILE = "Choose a model file …"
_NEW_WEIGHTS = "New weights"


class TrainDock(Dock[TrainControl]):
    """Train a model on one's own pairs or on simulated specimens.

    Parameters
    ----------
    napari_viewer
        The viewer or its model.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(TrainControl(napari_viewer))
        self.setAcceptDrops(True)

    # ---- widgets

    def _make_widgets(self) -> None:
        self.data_box, self.start_box, self.recipe_box, self.device_box, self.stopped_box = (
            QComboBox() for _ in range(5)
        )
        for box in (self.data_box, self.start_box, self.recipe_box, self.device_box, self.stopped_box):
            # long names must not widen the dock
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(12)
        for name in TRAIN_RECIPES:
            self.recipe_box.addItem(name.capitalize(), name)
        for key, text in TRAINING_DEVICES.items():
            self.device_box.addItem(text, key)
        self.data_note, self.check_note, self.start_note, self.recipe_note = (Note() for _ in range(4))
        self.output_note, self.progress_note, self.run_note, self.summary_note = (Note() for _ in range(4))
        self.check_button = QPushButton("Check the data")
        self.check_button.setToolTip(
            "Looks for wrong sizes, swapped order, drift, saturation and the like before hours are spent"
        )
        self.findings_list = FindingsList()
        self.minutes_box = _spin_box(1, 10_000, " min")
        self.minutes_box.setToolTip("The number of epochs is fitted to this time, at the start")
        self.epochs_box = _spin_box(0, 100_000, special="as the time allows")
        self.batch_box = _spin_box(0, 256, special="as the recipe")
        self.batch_box.setToolTip("Frames a step; smaller needs less memory")
        self.seed_box = _spin_box(0, 2**31 - 1)
        self.seed_box.setToolTip("The same seed and data give the same model")
        self.factor_box = _spin_box(1, 64, " ×")
        self.factor_box.setToolTip(
            "For folders of high-dose frames alone: high-dose pixels along a low-dose pixel"
        )
        self.advanced_button = QToolButton()
        self.advanced_button.setText("Advanced")
        self.advanced_button.setCheckable(True)
        self.advanced_button.setArrowType(Qt.ArrowType.RightArrow)
        self.advanced_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.name_edit = QLineEdit()
        self.name_edit.setAcceptDrops(False)  # folders dropped here are data
        self.name_edit.setToolTip("The model appears under this name in all docks; empty for a proposal")
        self.train_button, self.resume_button = QPushButton("Train"), QPushButton("Resume")
        self.resume_button.setToolTip("Goes on exactly where the training stopped, as it was begun")
        self.pause_button, self.stop_button = QPushButton(), QPushButton("Stop")
        self.stop_button.setToolTip("Saves the state, so that the training can be resumed, even tomorrow")
        self.progress_bar, self.check_bar = QProgressBar(), QProgressBar()
        for bar in (self.progress_bar, self.check_bar):
            bar.setTextVisible(False)
        self.plot, self.validation_pictures = LossPlot(), ValidationPictures()
        self.layers_button, self.use_button = (
            QPushButton("Show in the viewer"),
            QPushButton("Use this model"),
        )
        self.layers_button.setToolTip("As layers that follow the training")
        self.use_button.setToolTip("In the Enhance dock; also while training, as it was last saved")
        self.message_label = QLabel()
        self.message_label.setWordWrap(True)
        self.message_label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def _lay_out(self) -> None:
        content = QWidget()
        inner = QVBoxLayout(content)
        for part in (self._run_group(), self._stopped_row(), self._data_group(), self._learn_group()):
            inner.addWidget(part)
        inner.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setWidget(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)

    def _data_group(self) -> QWidget:
        self.data_group = QGroupBox("Data")
        inner = QVBoxLayout(self.data_group)
        inner.addWidget(self.data_box)
        inner.addWidget(self.data_note)
        inner.addWidget(self.check_button)
        for below in (self.check_bar, self.check_note, self.findings_list):
            inner.addWidget(below)
        return self.data_group

    def _learn_group(self) -> QWidget:
        self.learn_group = QGroupBox("Training")
        inner = QVBoxLayout(self.learn_group)
        inner.addLayout(
            _form(
                ("Start from", self.start_box, self.start_note),
                ("Recipe", self.recipe_box, self.recipe_note),
                ("Train for", self.minutes_box, None),
                ("Save as", self.name_edit, self.output_note),
            )
        )
        self.advanced = QWidget()
        advanced = _form(
            ("Epochs", self.epochs_box, None),
            ("Batch", self.batch_box, None),
            ("Seed", self.seed_box, None),
            ("Processor", self.device_box, None),
            ("HDE reduced", self.factor_box, None),
        )
        advanced.setContentsMargins(0, 0, 0, 0)
        self.advanced.setLayout(advanced)
        self.advanced.setVisible(False)
        inner.addWidget(self.advanced_button)
        inner.addWidget(self.advanced)
        inner.addWidget(self.train_button)
        return self.learn_group

    def _stopped_row(self) -> QWidget:
        self.stopped_group = QGroupBox("Earlier trainings")
        row = QHBoxLayout(self.stopped_group)
        row.addWidget(self.stopped_box, 1)
        row.addWidget(self.resume_button)
        return self.stopped_group

    def _run_group(self) -> QWidget:
        self.run_group, self.result_group = QWidget(), QWidget()
        outer, inner = QVBoxLayout(self.run_group), QVBoxLayout(self.result_group)
        run_buttons, model_buttons = QHBoxLayout(), QHBoxLayout()
        run_buttons.addWidget(self.pause_button)
        run_buttons.addWidget(self.stop_button)
        model_buttons.addWidget(self.layers_button)
        model_buttons.addWidget(self.use_button)
        for layout in (outer, inner):
            layout.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.summary_note)
        outer.addLayout(run_buttons)
        for widget in (self.progress_bar, self.progress_note, self.message_label, self.result_group):
            outer.addWidget(widget)
        inner.addWidget(self.plot)
        inner.addWidget(self.validation_pictures)
        inner.addLayout(model_buttons)
        inner.addWidget(self.run_note)
        return self.run_group

    def _connect(self) -> None:
        control = self.control
        self.data_box.activated.connect(self._on_data)
        self.check_button.clicked.connect(self._on_check)
        self.start_box.activated.connect(self._on_start)
        self.recipe_box.activated.connect(lambda i: control.choose_recipe(self.recipe_box.itemData(i)))
        self.device_box.activated.connect(lambda i: control.choose(device=self.device_box.itemData(i)))
        for key, box in self._numbers():
            box.valueChanged.connect(lambda value, key=key: control.choose(**{key: value}))
        self.name_edit.editingFinished.connect(self._on_name)
        self.advanced_button.toggled.connect(self._on_advanced)
        self.train_button.clicked.connect(self._on_train)
        self.stopped_box.activated.connect(lambda i: control.choose_stopped(self.stopped_box.itemData(i)))
        self.resume_button.clicked.connect(control.resume)
        self.pause_button.clicked.connect(control.pause)
        self.stop_button.clicked.connect(control.stop)
        self.layers_button.clicked.connect(control.add_validation_layers)
        self.use_button.clicked.connect(control.use_model)

    def _numbers(self) -> list[tuple[str, QSpinBox]]:
        return [
            ("minutes", self.minutes_box),
            ("epochs", self.epochs_box),
            ("batch", self.batch_box),
            ("seed", self.seed_box),
            ("hde_factor", self.factor_box),
        ]

    # ---- what the user does

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept a folder or list."""
        if any(url.isLocalFile() for url in event.mimeData().urls()) and not self.control.state.running:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Take a folder or list dropped on the dock as data."""
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            self.control.choose_data(paths[0].rstrip("/"))

    def _on_data(self, index: int) -> None:
        chosen = self.data_box.itemData(index)
        if chosen == _CHOOSE_FOLDER:
            chosen = QFileDialog.getExistingDirectory(self, "Choose a folder of HDE and LDE frames")
        elif chosen == _CHOOSE_LIST:
            chosen, _ = QFileDialog.getOpenFileName(
                self, "Choose a list of pairs", "", "Lists (*.csv *.txt *.tsv);;All (*)"
            )
        if chosen:
            self.control.choose_data(chosen)
        self._show_state()

    def _on_check(self) -> None:
        check = self.control.data_check
        (check.cancel if self.control.state.checking else check.start)()

    def _on_start(self, index: int) -> None:
        path = self.start_box.itemData(index)
        if path is None:
            path, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", f"Models (*{SUFFIX})")
            if not path:
                self._show_state()
                return
        self.control.choose_start(path)
        self._show_state()

    def _on_name(self) -> None:
        if self.name_edit.text() != self.control.state.name:
            self.control.choose_name(self.name_edit.text())
            self._show_state()

    def _on_advanced(self, on: bool) -> None:
        self.advanced_button.setArrowType(Qt.ArrowType.DownArrow if on else Qt.ArrowType.RightArrow)
        self.advanced.setVisible(on)

    def _on_train(self) -> None:
        self._on_name()
        overwrite = self.control.would_overwrite()
        if overwrite and not self._confirm_overwrite():
            return
        self.control.train(overwrite)

    def _confirm_overwrite(self) -> bool:
        name = self.control.state.name
        answer = QMessageBox.question(
            self, "Replace the model?",
            f"“{name}” was trained before. Replace it, with all that belongs to it?",
        )  # fmt: skip
        return bool(answer == QMessageBox.StandardButton.Yes)

    # ---- the state

    def _show_state(self, *_: Any) -> None:
        """Show the state; nothing else writes to the widgets."""
        state = self.control.state
        self._show_data()
        self._show_choices()
        self._show_run()
        for widget, is_shown in (
            (self.data_group, not state.running),
            (self.learn_group, not state.running),
            (self.stopped_group, bool(state.stopped) and not state.running),
            (self.result_group, bool(state.summary_text)),
        ):
            widget.setVisible(is_shown)
        show_message(self.message_label, state.message, state.is_error)

    def _show_data(self) -> None:
        state = self.control.state
        own = [] if state.data == SIMULATOR else [(describe_data(state.data), state.data)]
        others = [(text, text) for text in (_CHOOSE_FOLDER, _CHOOSE_LIST)]
        show_choice(self.data_box, [*own, (SIMULATED, SIMULATOR), *others], state.data)
        self.data_note.show_text(state.data_text or "Or drop a folder of HDE and LDE frames here.")
        self.check_button.setVisible(state.data != SIMULATOR)
        self.check_button.setText("Stop checking" if state.checking else "Check the data")
        self.check_bar.setVisible(state.checking)
        _show_share(self.check_bar, state.share_checked)
        self.findings_list.show_findings(state.findings)
        mend = "Mend the errors, then check again." * state.has_errors
        self.check_note.show_text("\n".join(filter(None, (state.check_text, mend))))

    def _show_choices(self) -> None:
        state = self.control.state
        models = [(label, path) for path, label in state.models]
        show_choice(self.start_box, [*models, (_NEW_WEIGHTS, NEW_WEIGHTS), (_CHOOSE_FILE, None)], state.start)
        self.start_note.show_text(state.start_text)
        show_choice(self.recipe_box, None, state.recipe)
        self.recipe_note.show_text(RECIPE_TEXTS[state.recipe])
        show_choice(self.device_box, None, state.device)
        for key, box in self._numbers():
            with QSignalBlocker(box):
                if box.value() != getattr(state, key):
                    box.setValue(getattr(state, key))
        self.minutes_box.setEnabled(not state.epochs)
        if not self.name_edit.hasFocus():  # else the user may be typing
            self.name_edit.setText(state.name)
        self.output_note.show_text(state.output_text, is_error=not state.name_ok)
        self.train_button.setEnabled(not self.control.why_not())
        self.train_button.setToolTip(self.control.why_not())
        show_choice(self.stopped_box, [(label, path) for path, label in state.stopped], state.chosen_stopped)

    def _show_run(self) -> None:
        state = self.control.state
        self.summary_note.show_text(state.summary_text)
        self.pause_button.setText("Continue" if state.waiting else "Pause")
        self.pause_button.setEnabled(not state.stopping)
        self.stop_button.setEnabled(not state.stopping)
        _show_share(self.progress_bar, state.share_done)
        paused = "Paused. " if state.waiting else ""
        stopping = "Stopping, saving the state …"
        self.progress_note.show_text(stopping if state.stopping else paused + state.progress_text)
        self.run_note.show_text(describe_notes(state.notes))
        self.run_note.setToolTip("\n".join(state.notes))
        for widget in (self.pause_button, self.stop_button, self.progress_bar):
            widget.setVisible(state.running)
        has_curves = bool(state.curves.step_epochs or state.curves.epochs)
        self.plot.setVisible(has_curves)
        self.plot.show_curves(state.curves, state.theme)
        self.validation_pictures.setVisible(state.validation is not None)
        self.validation_pictures.show_view(state.validation, _text_color(state.theme))
        self.layers_button.setVisible(state.validation is not None)
        self.use_button.setVisible(bool(state.summary_text))
        self.use_button.setEnabled(state.saved is not None)


def _spin_box(low: int, high: int, suffix: str = "", special: str = "") -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, high)
    box.setSuffix(suffix)
    box.setSpecialValueText(special)
    box.setKeyboardTracking(False)
    return box


def _show_share(bar: QProgressBar, share: float) -> None:
    bar.setRange(0, 1000 if share else 0)  # without an end it shows that something is done
    bar.setValue(round(1000 * share))


def _form(*rows: tuple[str, QWidget, QWidget | None]) -> QFormLayout:
    form = QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setVerticalSpacing(4)
    for label, widget, below in rows:
        form.addRow(label, widget)
        if below is not None:
            form.addRow("", below)
    return form


def _text_color(theme: str) -> str:
    from napari.utils.theme import get_theme

    return str(get_theme(theme).text.as_hex())
