"""The part of the Train dock where data are chosen and checked."""

from __future__ import annotations

from qtpy.QtWidgets import QFileDialog, QGroupBox, QProgressBar, QPushButton, QVBoxLayout

from napari_lowdose_tem.train.config import SIMULATOR
from napari_lowdose_tem.widgets.shared.choice_box import ChoiceBox
from napari_lowdose_tem.widgets.shared.parts import Note
from napari_lowdose_tem.widgets.train.control import TrainControl
from napari_lowdose_tem.widgets.train.findings_list import FindingsList
from napari_lowdose_tem.widgets.train.progress_panel import show_share
from napari_lowdose_tem.widgets.train.state import SIMULATED, describe_data

_CHOOSE_FOLDER, _CHOOSE_LIST = "Choose a folder …", "Choose a list of pairs (CSV) …"


class DataPanel(QGroupBox):
    """Chooses data, checks them, and lists what was found."""

    def __init__(self, control: TrainControl) -> None:
        super().__init__("Data")
        self._control = control
        self.data_box = ChoiceBox()
        self.check_button, self.check_bar = QPushButton(), QProgressBar()
        self.check_button.setToolTip(
            "Looks for wrong sizes, swapped order, drift, saturation and similar problems before you train"
        )
        self.check_bar.setTextVisible(False)
        self.data_note, self.check_note, self.findings_list = Note(), Note(), FindingsList()
        layout = QVBoxLayout(self)
        for widget in (
            self.data_box, self.data_note, self.check_button, self.check_bar, self.check_note,
            self.findings_list,
        ):  # fmt: skip
            layout.addWidget(widget)
        self.data_box.chosen.connect(self._on_data)
        self.check_button.clicked.connect(self._on_check)

    def show_state(self) -> None:
        """Show the state of the control."""
        state = self._control.state
        own = [] if state.data == SIMULATOR else [(describe_data(state.data), state.data)]
        others = [(text, text) for text in (_CHOOSE_FOLDER, _CHOOSE_LIST)]
        self.data_box.show_value(state.data, [*own, (SIMULATED, SIMULATOR), *others])
        self.data_note.show_text(state.data_text or "Or drop a folder of HDE and LDE frames here.")
        self.check_button.setVisible(state.data != SIMULATOR)
        self.check_button.setText("Stop checking" if state.checking else "Check data")
        self.check_bar.setVisible(state.checking)
        show_share(self.check_bar, state.share_checked)
        self.findings_list.show_findings(state.findings)
        fix = "Fix the errors, then check again." * state.has_errors
        self.check_note.show_text("\n".join(filter(None, (state.check_text, fix))))
        self.setVisible(not state.running)

    def _on_data(self, chosen: str) -> None:
        if chosen == _CHOOSE_FOLDER:
            chosen = QFileDialog.getExistingDirectory(self, "Choose a folder of HDE and LDE frames")
        elif chosen == _CHOOSE_LIST:
            chosen, _ = QFileDialog.getOpenFileName(
                self, "Choose a list of pairs", "", "Lists (*.csv *.txt *.tsv);;All (*)"
            )
        if chosen:
            self._control.choose_data(chosen)

    def _on_check(self) -> None:
        check = self._control.data_check
        (check.cancel if self._control.state.checking else check.start)()
