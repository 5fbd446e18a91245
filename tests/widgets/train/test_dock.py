import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManager, PluginManifest
from qtpy.QtCore import QMimeData, QPointF, QRectF, Qt, QUrl
from qtpy.QtGui import QColor, QDropEvent
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_lowdose_tem.widgets.train import run, saved
from napari_lowdose_tem.widgets.train.dock import TrainDock
from napari_lowdose_tem.widgets.train.state import Curves, FindingRow, ValidationView
from napari_lowdose_tem.widgets.train.validation_pictures import find_detail, to_picture

PLUGIN = "napari-lowdose-tem"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LOWDOSE_TEM_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def dock(qtbot):
    dock = TrainDock(ViewerModel())
    qtbot.addWidget(dock)
    dock.resize(320, 900)
    dock.show()
    yield dock
    dock.close()


@dataclass(frozen=True)
class Progress:
    stage: str = "training"
    step: int = 1
    steps: int = 1000
    epoch: int = 1
    epochs: int = 2
    loss: float | None = 0.5
    history: tuple = ()
    example: None = None
    seconds_left: float | None = None
    device: str = "test"
    notes: tuple = ()


def make_curves(step_epochs, step_losses, epochs=(), training=(), validation=()):
    return Curves(
        step_epochs=step_epochs,
        step_losses=step_losses,
        epochs=epochs,
        training=training,
        validation=validation,
    )


def validation_view(shape=(40, 56)):
    hde = np.linspace(0, 2, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    return ValidationView(lde=hde * 2, output=hde + 1, hde=hde, limits=(0.0, 2.0), epoch=3)


def test_fresh_dock_asks_only_for_what_is_needed(dock):
    state = dock.control.state
    assert dock.settings.train_button.isEnabled()
    assert dock.settings.minutes_box.value() == 60
    assert dock.settings.start_box.currentText() == "Default"
    assert not dock.data.check_button.isVisible()  # nothing to check
    for hidden in (
        dock.settings.advanced,
        dock.progress.plot,
        dock.progress.validation_pictures,
        dock.progress.use_button,
        dock.stopped_group,
    ):
        assert not hidden.isVisible()
    assert str(dock.control.folder) in state.output_text
    dock.settings.advanced_button.click()
    assert dock.settings.seed_box.isVisible()


def test_choices_reach_the_control(dock):
    state = dock.control.state
    dock.settings.minutes_box.setValue(15)
    dock.settings.seed_box.setValue(4)
    assert (state.minutes, state.seed) == (15, 4)
    dock.settings.epochs_box.setValue(7)
    assert not dock.settings.minutes_box.isEnabled()
    dock.settings.name_edit.setText("mine")
    dock.settings.name_edit.editingFinished.emit()
    assert state.name == "mine"
    dock.settings.name_edit.setText("a/b")
    dock.settings.name_edit.editingFinished.emit()
    assert not dock.settings.train_button.isEnabled()
    dock.settings.recipe_box.activated.emit(dock.settings.recipe_box.findData("paper"))
    assert state.recipe == "paper"
    dock.settings.start_box.activated.emit(dock.settings.start_box.findText("Train from scratch"))
    assert state.start == ""


def test_data_are_chosen_and_dropped(dock, monkeypatch, tmp_path):
    state = dock.control.state
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a: str(tmp_path / "pairs"))
    dock.data.data_box.activated.emit(dock.data.data_box.findText("Choose a folder …"))
    assert state.data == str(tmp_path / "pairs")
    assert dock.data.data_box.currentText() == "pairs"
    assert dock.data.check_button.isVisible()
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *a: "")
    dock.data.data_box.activated.emit(dock.data.data_box.findText("Choose a folder …"))
    assert dock.data.data_box.currentText() == "pairs"
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(tmp_path / "others"))])
    copy, left, no_key = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    dock.dropEvent(QDropEvent(QPointF(5, 5), copy, mime, left, no_key))
    assert Path(state.data) == tmp_path / "others"
    assert dock.acceptDrops()


def test_findings_are_shown_with_what_they_say(dock):
    state = dock.control.state
    state.data = "x"
    state.findings = (FindingRow("error", "a<b.tif", "too small"), FindingRow("warning", "c.tif", "drifts"))
    assert dock.data.findings_list.isVisible()
    text = dock.data.findings_list.text
    assert "a&lt;b.tif" in text
    assert text.index("too small") < text.index("drifts")
    assert not dock.settings.train_button.isEnabled()
    assert "Fix the errors" in dock.data.check_note.text()
    state.findings = ()
    assert not dock.data.findings_list.isVisible()
    assert dock.settings.train_button.isEnabled()


def test_what_is_learnt_replaces_the_choices_while_it_runs(dock):
    state = dock.control.state
    state.summary_text, state.running, state.share_done = "mine", True, 0.5
    state.curves = make_curves((0.1, 0.9, 1.9), (1.0, 0.5, 0.1), (1, 2), (0.7, 0.2), (0.75, 0.3))
    state.validation = validation_view()
    progress = dock.progress
    for widget, is_shown in (
        (dock.data, False), (dock.settings, False), (progress.pause_button, True), (progress.plot, True),
        (progress.validation_pictures, True), (progress.progress_bar, True), (progress.use_button, True),
    ):  # fmt: skip
        assert widget.isVisible() == is_shown
    assert dock.progress.progress_bar.value() == 500
    assert not dock.progress.use_button.isEnabled()
    state.saved = Path("mine.safetensors")
    assert dock.progress.use_button.isEnabled()
    state.stopping = True
    assert "saving" in dock.progress.progress_note.text()
    state.running = state.stopping = False
    assert dock.progress.plot.isVisible()
    assert dock.settings.isVisible()
    assert not dock.progress.pause_button.isVisible()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_curves_are_drawn_in_the_colours_of_the_theme(dock, theme):
    from napari.utils.theme import get_theme

    state = dock.control.state
    dock.control.viewer.theme = theme
    state.summary_text = "mine"
    state.curves = make_curves((0.5, 1.0, 2.0), (3.0, 0.4, 0.1), (1, 2), (0.9, 0.2), (0.95, 0.3))
    shown = dock.progress.plot
    (plot,) = shown.plots
    points = {name: list(zip(*line.getOriginalDataset(), strict=True)) for name, line in shown.lines.items()}
    assert points["validation"] == [(1, 0.95), (2, 0.3)]
    assert points["training"] == [(1, 0.9), (2, 0.2)]
    assert points["steps"] == [(0.5, 3.0), (1.0, 0.4), (2.0, 0.1)]
    assert points["best, saved"] == [(2, 0.3)]
    assert plot.getAxis("left").logMode
    bottom, left = (plot.getAxis(side) for side in ("bottom", "left"))
    assert (bottom.labelText, left.labelText) == ("Epoch", "Mean absolute error")
    wanted = get_theme(theme)
    assert shown.canvas.backgroundBrush().color() == QColor(wanted.background.as_hex())
    assert bottom.textPen().color() == QColor(wanted.text.as_hex())


def test_axes_follow_the_curves_and_keep_room_for_their_labels(qtbot, dock):
    state = dock.control.state
    state.summary_text = "mine"
    state.curves = make_curves((0.05, 0.1), (3.0, 2.0))
    state.curves = make_curves((0.5, 1.0, 7.0), (3.0, 0.4, 0.1), (1, 7), (0.9, 0.2), (0.95, 0.3))
    for theme in ("dark", "light"):
        dock.control.viewer.theme = theme
        (plot,) = dock.progress.plot.plots
        (left, right), (low, high) = plot.viewRange()
        assert left == 0
        assert right >= 7
        assert 10**low <= 0.1 and 10**high >= 3
        qtbot.waitUntil(lambda: labels_fit(dock.progress.plot))


def labels_fit(shown):
    (plot,) = shown.plots
    boxes = [
        label.mapRectToScene(label.boundingRect()).adjusted(4, 4, -4, -4)  # without its empty margin
        for label in (plot.getAxis(side).label for side in ("bottom", "left"))
    ]
    return all(QRectF(shown.canvas.rect()).contains(box) for box in boxes)


def test_validation_pictures_share_their_contrast():
    shown = validation_view()
    grey = [to_picture(f, shown.limits) for f in (shown.lde, shown.output, shown.hde)]
    assert [(p.width(), p.height()) for p in grey] == [(56, 40)] * 3
    for picture, frame in zip(grey, (shown.lde, shown.output, shown.hde), strict=True):
        for row, col in ((0, 0), (11, 50), (39, 3)):
            level = np.clip(frame[row, col] / 2, 0, 1) * 255
            assert abs(picture.pixelColor(col, row).red() - level) <= 1
    assert to_picture(np.full((3, 5), np.nan, np.float32), (0, 1)).pixelColor(4, 2).red() == 96


def test_the_liveliest_detail_is_shown():
    frame = np.ones((300, 500), np.float32)
    frame[200:260, 400:480] += np.random.default_rng(0).normal(size=(60, 80))
    rows, cols = find_detail(frame, 160)
    assert rows.stop - rows.start == cols.stop - cols.start == 160
    assert rows.start <= 210 and rows.stop >= 250
    assert cols.start <= 420 and cols.stop >= 470
    frame[:50] = np.nan
    frame[20, 20] = 9  # alone amid the unknown
    assert find_detail(frame, 160) == (rows, cols)
    assert find_detail(frame[:90, :70], 160) == (slice(0, 90), slice(0, 70))


def test_overwriting_is_asked_for(dock, monkeypatch, folder):
    told = []
    monkeypatch.setattr(dock.control, "train", told.append)
    dock.settings.train_button.click()
    assert told == [False]
    (folder / "mine.safetensors").write_bytes(b"")
    dock.control.choose_name("mine")
    for answer, then in ((QMessageBox.StandardButton.No, []), (QMessageBox.StandardButton.Yes, [True])):
        told.clear()
        monkeypatch.setattr(QMessageBox, "question", lambda *a, answer=answer: answer)
        dock.settings.train_button.click()
        assert told == then


def test_dock_imports_neither_torch_nor_matplotlib():
    code = """
import sys
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
app = QApplication([])
from napari_lowdose_tem.widgets.train.dock import TrainDock
dock = TrainDock(ViewerModel())
dock.show()
app.processEvents()
print([name for name in ("torch", "matplotlib", "rsciio") if name in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def viewer(make_napari_viewer):
    manager = PluginManager.instance()
    if PLUGIN not in manager:
        manager.register(PluginManifest.from_distribution(PLUGIN))
    return make_napari_viewer()


def test_through_the_menu_the_model_goes_to_the_enhance_dock(viewer, qtbot, folder, tiny_model):
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
    path = folder / "mine.safetensors"
    path.write_bytes(tiny_model.read_bytes())
    dock.control.state.summary_text, dock.control.state.saved = "mine", path
    for _ in range(2):  # opens the dock, then finds it open
        dock.progress.use_button.click()
        enhance = viewer.window.dock_widgets["Enhance (Enhance low-dose TEM)"]
        assert enhance.control.state.model == str(path)
        enhance.control.choose_model(enhance.control.state.models[0][0])


def test_closing_the_dock_ends_the_training_and_napari_asks_first(viewer, qtbot, monkeypatch):
    made = []

    def train(config):
        try:
            for _ in range(1000):
                time.sleep(0.01)
                made.append(config)
                yield Progress()
        finally:
            saved.state_of(config.output).write_bytes(b"state")

    monkeypatch.setattr(run, "iter_steps", train)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
    control = dock.control
    dock.settings.train_button.click()
    qtbot.waitUntil(lambda: len(made) > 1)
    assert "training of simulated" in "\n".join(viewer.window._task_status_manager.get_status())
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not control.state.running)
    assert len(made) < 1000
    assert saved.state_of(made[0].output).is_file()
