"""The Load dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, Container, FileEdit, FloatSpinBox
from qtpy.QtCore import QSignalBlocker
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_lowdose_tem.io import READABLE_SUFFIXES
from napari_lowdose_tem.widgets.load.control import LoadControl
from napari_lowdose_tem.widgets.load.state import describe_calibration
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.parts import Note, show_message

if TYPE_CHECKING:
    from napari.viewer import Viewer

_PATTERNS = " ".join(f"*{suffix}" for suffix in READABLE_SUFFIXES)


class LoadDock(Dock[LoadControl]):
    """Open images and movies, and see and correct their calibration.

    Parameters
    ----------
    napari_viewer
        The viewer or its model.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        self._shown: tuple[object, ...] = ()
        super().__init__(LoadControl(napari_viewer))
        self.setAcceptDrops(True)

    def _make_widgets(self) -> None:
        self.files_button, self.folder_button = QPushButton("Open files …"), QPushButton("Open folder …")
        self.folder_button.setToolTip(
            "A folder of numbered frames, or of high-dose frames each followed by its low-dose frames"
        )
        self.dark_edit = FileEdit(
            label="Dark reference", mode=FileDialogMode.EXISTING_FILE, nullable=True,
            filter=f"Images ({_PATTERNS})",
            tooltip="Image recorded without the beam, subtracted from what you open; empty for none",
        )  # fmt: skip
        self.row_box, self.col_box, self.gain_box = (
            FloatSpinBox(label=label, min=0, max=1e6, step=0.01, tooltip=tip)
            for label, tip in (
                ("Pixel height [nm]", "Pixel size along y (from row to row); 0 when unknown"),
                ("Pixel width [nm]", "Pixel size along x (from column to column); 0 when unknown"),
                ("Gain [counts/e⁻]", "Camera counts per incident electron; 0 when unknown"),
            )
        )
        for box in (self.row_box, self.col_box, self.gain_box):
            box.native.setDecimals(5)
            box.native.setSpecialValueText("unknown")
        self.square_box = CheckBox(text="Square pixels", value=True)
        self.apply_button = QPushButton("Apply to layer")
        self.calibration_note = Note()
        self.message_label = QLabel()
        self.message_label.setWordWrap(True)

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.addWidget(self.files_button)
        buttons.addWidget(self.folder_button)
        files = Container(widgets=[self.dark_edit])
        files.margins = (0, 0, 0, 0)
        self.form = QWidget()
        form = QFormLayout(self.form)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow(self.row_box.label, self.row_box.native)
        form.addRow(self.col_box.label, self.col_box.native)
        form.addRow("", self.square_box.native)
        form.addRow(self.gain_box.label, self.gain_box.native)
        self.group = QGroupBox()
        inner = QVBoxLayout(self.group)
        inner.addWidget(self.calibration_note)
        inner.addWidget(self.form)
        inner.addWidget(self.apply_button)
        layout = QVBoxLayout(self)
        layout.addLayout(buttons)
        layout.addWidget(files.native)
        layout.addWidget(self.group)
        layout.addWidget(self.message_label)
        layout.addStretch(1)

    def _connect(self) -> None:
        self.files_button.clicked.connect(self._on_files)
        self.folder_button.clicked.connect(self._on_folder)
        self.dark_edit.changed.connect(self._on_dark)
        self.row_box.changed.connect(self._on_row)
        self.square_box.changed.connect(self._on_row)
        self.apply_button.clicked.connect(self._on_apply)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Accept files."""
        if event is not None and _paths(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open files dropped on the dock."""
        if event is not None:
            self.control.load(_paths(event))

    def _on_files(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Open images", "", f"TEM images ({_PATTERNS});;All (*)")
        self.control.load(paths)

    def _on_folder(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "Open a folder of frames"):
            self.control.load([path])

    def _on_dark(self, path: Path | None) -> None:
        self.control.set_dark_reference(path if path is not None and path != Path() else None)

    def _on_row(self, *_: object) -> None:
        self.col_box.enabled = not self.square_box.value
        if self.square_box.value:
            self.col_box.value = self.row_box.value

    def _on_apply(self) -> None:
        row, col, gain = self.row_box.value, self.col_box.value, self.gain_box.value
        self.control.calibrate((row, col) if row or col else None, gain or None)

    def _show_state(self, *_: object) -> None:
        """Show the state; nothing else writes to the widgets."""
        state = self.control.state
        self.files_button.setEnabled(not state.loading)
        self.folder_button.setEnabled(not state.loading)
        self.files_button.setText("Reading …" if state.loading else "Open files …")
        self.group.setTitle(state.layer or "No layer")
        is_refused = bool(state.layer) and not state.layer_ok
        self.calibration_note.show_text(describe_calibration(state), is_error=is_refused)
        self.form.setVisible(state.layer_ok)
        self.apply_button.setVisible(state.layer_ok)
        show_message(self.message_label, state.message, state.is_error)
        known = state.layer, state.pixel_size_nm, state.counts_per_electron
        if known != self._shown:  # else the user may be typing
            self._shown = known
            self._show_calibration()

    def _show_calibration(self) -> None:
        state = self.control.state
        row, col = state.pixel_size_nm or (0.0, 0.0)
        values = row, col, state.counts_per_electron
        for box, value in zip((self.row_box, self.col_box, self.gain_box), values, strict=True):
            with QSignalBlocker(box.native):
                box.native.setValue(value or 0.0)
        with QSignalBlocker(self.square_box.native):
            self.square_box.native.setChecked(abs(row - col) <= 1e-6 * row)
        self.col_box.enabled = not self.square_box.value


def _paths(event: QDropEvent) -> list[str]:
    """Local files that are dragged or dropped."""
    data = event.mimeData()
    return [url.toLocalFile() for url in data.urls() if url.isLocalFile()] if data is not None else []
