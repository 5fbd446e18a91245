"""The Train dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_lowdose_tem.widgets.shared.choice_box import ChoiceBox
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.parts import UprightArea
from napari_lowdose_tem.widgets.train.control import TrainControl
from napari_lowdose_tem.widgets.train.data_panel import DataPanel
from napari_lowdose_tem.widgets.train.progress_panel import ProgressPanel
from napari_lowdose_tem.widgets.train.settings_panel import SettingsPanel

if TYPE_CHECKING:
    from napari.viewer import Viewer


class TrainDock(Dock[TrainControl]):
    """Train a model on your own pairs or on simulated specimens.

    Parameters
    ----------
    napari_viewer
        The viewer or its model.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(TrainControl(napari_viewer))
        self.setAcceptDrops(True)

    def _make_widgets(self) -> None:
        self.progress, self.data = ProgressPanel(self.control), DataPanel(self.control)
        self.settings = SettingsPanel(self.control)
        self.stopped_group, self.stopped_box = QGroupBox("Stopped trainings"), ChoiceBox()
        self.resume_button = QPushButton("Resume")
        self.resume_button.setToolTip("Continues exactly where the training stopped, with its own settings")

    def _lay_out(self) -> None:
        row = QHBoxLayout(self.stopped_group)
        row.addWidget(self.stopped_box, 1)
        row.addWidget(self.resume_button)
        content = QWidget()
        inner = QVBoxLayout(content)
        for part in (self.progress, self.stopped_group, self.data, self.settings):
            inner.addWidget(part)
        inner.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(UprightArea(content))

    def _connect(self) -> None:
        self.stopped_box.chosen.connect(self.control.choose_stopped)
        self.resume_button.clicked.connect(self.control.resume)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Accept a folder or list."""
        if event is not None and _local_paths(event) and not self.control.state.running:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Take a folder or list dropped on the dock as data."""
        if event is not None and (paths := _local_paths(event)):
            self.control.choose_data(paths[0].rstrip("/"))

    def _show_state(self, *_: object) -> None:
        state = self.control.state
        for panel in (self.progress, self.data, self.settings):
            panel.show_state()
        self.stopped_box.show_value(state.chosen_stopped, [(label, path) for path, label in state.stopped])
        self.stopped_group.setVisible(bool(state.stopped) and not state.running)


def _local_paths(event: QDropEvent) -> list[str]:
    data = event.mimeData()
    return [url.toLocalFile() for url in data.urls() if url.isLocalFile()] if data is not None else []
