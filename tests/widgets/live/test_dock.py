import subprocess
import sys

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from napari_lowdose_tem import live
from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read
from napari_lowdose_tem.live import LiveStep, Skipped
from napari_lowdose_tem.widgets.live import request as live_request
from napari_lowdose_tem.widgets.live.control import LiveControl
from napari_lowdose_tem.widgets.live.dock import LiveDock
from napari_lowdose_tem.widgets.live.layers import LiveLayers
from napari_lowdose_tem.widgets.live.request import LiveRequest, describe_played
from napari_lowdose_tem.widgets.live.state import (
    FOLDER,
    LAYER,
    REPLAY,
    describe_counts,
    describe_ms,
    describe_rate,
    describe_skipped,
)
from napari_lowdose_tem.widgets.shared.layers import image_from_layer, layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import add_image

pytestmark = pytest.mark.usefixtures("model_folder")
LONG = 120_000  # ms; the first job imports torch


@pytest.fixture
def viewer(movie):
    viewer = ViewerModel()
    add_image(viewer, layer_tuple(Image(movie, (2.0, 3.0), 44.0, 0.5, "movie")))
    return viewer


@pytest.fixture
def here(monkeypatch):
    """No process of its own, which takes seconds to start."""
    monkeypatch.setattr(live, "iter_live_in_process", live.iter_live)


@pytest.fixture
def control(viewer, qtbot):
    control = LiveControl(viewer)
    control.choose_model(next(path for path, label in control.state.models if label == "tiny"))
    control.choose_kind(LAYER)
    control.choose_device("cpu")
    control.set_rate(2000.0)
    yield control
    control.close()
    qtbot.waitUntil(lambda: control._job is None or not control._job.is_running, timeout=LONG)


@pytest.fixture
def file(tmp_path, movie):
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, movie, photometric="minisblack")
    return path


def wait_shown(qtbot, control, name):
    qtbot.waitUntil(
        lambda: bool(control.state.rate_text) and f"{name}, live enhanced" in control.viewer.layers,
        timeout=LONG,
    )
    return tuple(control.viewer.layers[f"{name}, live {kind}"] for kind in ("raw", "enhanced"))


def show(layers, raw, output, name="camera"):
    while not layers.show(name, raw, output):
        pass


def wait_ended(qtbot, control):
    qtbot.waitUntil(lambda: not control.state.running, timeout=LONG)


def test_replay_of_a_layer_shows_both_in_place_until_stopped(here, qtbot, control, viewer, movie):
    source = viewer.layers["movie"]
    control.start()
    raw, enhanced = wait_shown(qtbot, control, "movie")
    assert viewer.layers.selection.active is source
    assert viewer.canvas.grid.enabled
    buffer = raw.data
    seen = set()
    qtbot.waitUntil(lambda: seen.add(raw.data.tobytes()) or len(seen) > 2, timeout=LONG)
    assert raw.data is buffer  # the same array all the time
    assert seen <= {frame.tobytes() for frame in movie}
    control.stop()
    assert control.state.stopping
    wait_ended(qtbot, control)
    assert control.state.message == "Stopped."
    assert not control.state.is_error
    for layer in (raw, enhanced):
        assert tuple(layer.scale) == (2, 3)
        assert layer.contrast_limits[0] < layer.contrast_limits[1]
    image = image_from_layer(enhanced)
    assert image.provenance["enhanced"]["model_sha256"]
    assert image.counts_per_electron == 44
    control.start()  # once more, into the same layers
    qtbot.waitUntil(lambda: bool(control.state.rate_text), timeout=LONG)
    control.stop()
    wait_ended(qtbot, control)
    assert len(viewer.layers) == 3
    assert control.state.layers == ("movie",)


def test_frames_are_all_accounted_for_at_the_end(here, qtbot, control, file):
    control.choose_kind(REPLAY)
    control.choose_path(str(file))
    control.set_loop(False)
    control.start()
    wait_ended(qtbot, control)
    assert control.state.message == "End of the replay."
    step = control._step
    assert step.arrived == 5 == step.enhanced + step.dropped
    assert control.state.count_text.startswith("5 received; 99 % within ")


def test_saving_every_frame_ends_with_the_last_and_goes_on(here, qtbot, control, file, tmp_path):
    control.choose_kind(REPLAY)
    control.choose_path(str(file))
    control.choose_output(tmp_path / "out.ome.zarr")
    assert control.state.save_all
    for expected in ("5 received; 99 % within", "0 received\n0 enhanced"):
        control.start()
        wait_ended(qtbot, control)
        assert not control.state.is_error, control.state.message
        assert control.state.count_text.startswith(expected)
        assert read(tmp_path / "out.ome.zarr").n_frames == 5
    assert "will be continued" in control.state.output_text


def test_folder_with_a_broken_file_is_followed(here, qtbot, control, viewer, movie, tmp_path):
    folder = tmp_path / "camera"
    folder.mkdir()
    control.choose_kind(FOLDER)
    control.choose_path(str(folder))
    control.start()
    qtbot.waitUntil(lambda: control.state.message.startswith("Waiting"), timeout=LONG)
    tifffile.imwrite(folder / "frame_0.tif", movie[0])
    raw, _ = wait_shown(qtbot, control, "camera")
    np.testing.assert_array_equal(raw.data, movie[0])
    assert control.state.message == "Shows frame_0.tif"
    (folder / "notes.txt").write_text("x")
    qtbot.waitUntil(lambda: "notes.txt" in control.state.skipped_text, timeout=LONG)
    tifffile.imwrite(folder / "frame_1.tif", movie[1, :30, :24])  # the camera was binned otherwise
    qtbot.waitUntil(lambda: raw.data.shape == (30, 24), timeout=LONG)
    np.testing.assert_array_equal(raw.data, movie[1, :30, :24])
    control.stop()
    wait_ended(qtbot, control)


@pytest.mark.parametrize("path", ["none", "movie.dm4"])
def test_what_cannot_be_followed_is_one_red_line(here, qtbot, control, tmp_path, path):
    control.choose_kind(FOLDER)
    control.choose_path(str(tmp_path / path))
    control.start()
    wait_ended(qtbot, control)
    assert control.state.is_error
    assert path in control.state.message


def test_another_jobs_output_is_refused(here, qtbot, control, file, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    control.choose_kind(REPLAY)
    control.choose_path(str(file))
    control.choose_output(tmp_path / "out")
    control.start()
    wait_ended(qtbot, control)
    assert "not a live output" in control.state.message
    assert (tmp_path / "out" / "mine.txt").read_text() == "x"


def test_removed_layers_come_again(here, qtbot, control, viewer):
    control.start()
    raw, enhanced = wait_shown(qtbot, control, "movie")
    viewer.layers.remove(enhanced)
    qtbot.waitUntil(lambda: "movie, live enhanced" in viewer.layers, timeout=LONG)
    assert raw in viewer.layers


def test_dock_says_what_is_missing_and_runs(here, qtbot, viewer):
    viewer.layers.clear()
    dock = LiveDock(viewer)
    qtbot.addWidget(dock)
    dock.show()
    control = dock.control
    assert not dock.run_button.isEnabled()
    assert "folder" in dock.source_note.text()
    control.choose_kind(LAYER)
    assert "movie" in dock.source_note.text()
    assert not dock.path_edit.isVisible()
    assert dock.rate_box.isVisible()
    add_image(viewer, layer_tuple(Image(np.ones((3, 24, 40)), name="stack")))
    assert dock.layer_box.currentText() == "stack"
    assert dock.run_button.isEnabled()
    control.choose_model(next(path for path, label in control.state.models if label == "tiny"))
    control.choose_device("cpu")
    dock.average_box.setValue(0.5)
    assert control.state.average_s == 0.5
    assert dock.of_box.isEnabled()
    dock.run_button.click()
    assert dock.run_button.text() == "Stop"
    assert not dock.model_box.isEnabled()
    wait_shown(qtbot, control, "stack")
    assert "latency" in dock.rate_label.text()
    dock.grid_box.click()
    assert not viewer.canvas.grid.enabled
    dock.run_button.click()
    wait_ended(qtbot, control)
    assert dock.run_button.text() == "Start"


def test_closing_the_dock_ends_the_job(qtbot, viewer):
    dock = LiveDock(viewer)
    qtbot.addWidget(dock)
    control = dock.control
    control.choose_model(next(path for path, label in control.state.models if label == "tiny"))
    control.choose_kind(LAYER)
    control.choose_device("cpu")
    control.start()
    wait_shown(qtbot, control, "movie")
    job = control._job
    dock.close()
    qtbot.waitUntil(lambda: not job.is_running, timeout=LONG)
    viewer.add_image(np.ones((3, 4)))
    assert control.state.layers == ("movie",)  # nobody listens any more


def test_killed_process_is_told_and_another_can_be_started(
    qtbot, control, viewer, movie, tiny_model, tmp_path, live_processes
):
    from napari_lowdose_tem.engine.engine import Engine

    control.start()
    wait_shown(qtbot, control, "movie")
    (child,) = live_processes()
    child.kill()
    wait_ended(qtbot, control)
    assert control.state.is_error
    assert "start again" in control.state.message
    tifffile.imwrite(tmp_path / "frame.tif", movie[1])
    control.choose_kind(FOLDER)
    control.choose_path(str(tmp_path))
    control.start()
    assert not control.state.is_error
    raw, enhanced = wait_shown(qtbot, control, tmp_path.name)
    np.testing.assert_array_equal(raw.data, movie[1])
    with Engine(tiny_model, "cpu") as engine:
        np.testing.assert_allclose(enhanced.data, engine.enhance(movie[1][None])[0], rtol=1e-4)
    control.stop()
    wait_ended(qtbot, control)
    assert control.state.message == "Stopped."
    assert not live_processes()


def test_stop_while_it_loads_ends_at_once(qtbot, control, live_processes):
    control.start()
    qtbot.waitUntil(lambda: bool(live_processes()), timeout=LONG)
    control.stop()
    wait_ended(qtbot, control)
    assert control.state.message == "Stopped."
    assert not live_processes()


def test_the_picture_is_that_of_the_newest_frame(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    layers = LiveLayers(viewer)
    layers.set_side_by_side(False)
    down, across = np.mgrid[:60, :80].astype(np.float32)
    show(layers, Image(down), Image(down))
    layers.own[1].visible = True
    first = viewer.screenshot(canvas_only=True, flash=False)[..., 0].astype(float)
    show(layers, Image(across), Image(across))
    second = viewer.screenshot(canvas_only=True, flash=False)[..., 0].astype(float)
    for picture, axis in ((first, 0), (second, 1)):
        inner = picture[tuple(slice(int(0.3 * n), int(0.7 * n)) for n in picture.shape)]
        assert np.ptp(inner.mean(1 - axis)) > 50
        assert np.ptp(inner.mean(axis)) < 2


def test_layers_come_one_at_a_time_and_show_the_frame_in_the_end(viewer):
    layers = LiveLayers(viewer)
    layers.set_side_by_side(False)
    viewer.canvas.grid.enabled = True
    first, newer = Image(np.arange(24.0).reshape(4, 6)), Image(np.arange(24.0).reshape(4, 6) + 7)
    assert not layers.show("camera", first, first)
    assert [layer.name for layer in layers.own] == ["camera, live raw"]
    assert not layers.show("camera", first, first)
    assert len(layers.own) == 2
    assert not layers.show("camera", first, first)
    assert not viewer.canvas.grid.enabled  # as was chosen before there were any
    assert layers.show("camera", newer, newer)
    for layer in layers.own:
        np.testing.assert_array_equal(layer.data, newer.data)
    viewer.canvas.grid.enabled = True  # the user's own choice
    viewer.layers.remove(layers.own[0])
    assert not layers.show("camera", first, first)
    assert layers.show("camera", newer, newer)
    assert viewer.canvas.grid.enabled
    assert [layer.name for layer in layers.own] == ["camera, live raw", "camera, live enhanced"]


def test_a_movie_of_one_frame_is_shown_whole(here, qtbot, control, viewer, movie, tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", movie[0])
    control.choose_kind(REPLAY)
    control.choose_path(str(tmp_path / "one.tif"))
    control.set_loop(False)
    control.start()
    wait_ended(qtbot, control)
    assert control.state.message == "End of the replay."
    np.testing.assert_array_equal(viewer.layers["one.tif, live raw"].data, movie[0])
    assert "one.tif, live enhanced" in viewer.layers
    assert viewer.canvas.grid.enabled


def test_only_a_part_of_a_movie_too_large_to_copy_is_played(monkeypatch, movie):
    image = Image(movie)
    assert describe_played(image) == ""
    monkeypatch.setattr(live_request, "_MOST_SENT_BYTES", 3 * movie[0].nbytes)
    assert describe_played(image).startswith("Plays the first 3 of 5 frames")
    request = LiveRequest(
        kind=LAYER, path="", image=image, rate_per_s=30.0, loop=False, engine=EngineOptions()
    )
    events = [
        event for event in request.config().source.iter_events(False) if isinstance(event, live.Arrival)
    ]
    np.testing.assert_array_equal([event.image.data for event in events], movie[:3])


def test_contrast_waits_for_a_frame_with_signal(viewer):
    layers = LiveLayers(viewer)
    dark, bright = Image(np.zeros((4, 6), np.uint16)), Image(np.arange(24, dtype=np.uint16).reshape(4, 6))
    show(layers, dark, dark)
    show(layers, bright, bright)
    for layer in layers.own:
        low, high = layer.contrast_limits
        assert 0 <= low < 1
        assert 22 < high <= 23


def test_texts():
    step = LiveStep(
        arrived=1204, enhanced=640, dropped=564, frames_per_s=24.8, latency_ms_p50=38.2, latency_ms_p99=12_345
    )
    assert describe_rate(step) == "25 frames/s · median latency 38 ms"
    assert describe_counts(step, False) == "1,204 received; 99 % within 12 s\n640 enhanced · 564 dropped"
    assert describe_rate(LiveStep()) == ""
    assert [describe_ms(value) for value in (61.4, 1480, 9994, 9996)] == ["61 ms", "1.48 s", "9.99 s", "10 s"]
    skipped = Skipped("a.txt", "no frame"), Skipped("b.tif", "cut short")
    assert describe_skipped(1, skipped[:1]) == "Skipped “a.txt”: no frame"
    assert describe_skipped(1200, skipped) == "1,200 files skipped, the last one “b.tif”: cut short"


def test_opening_the_dock_imports_no_torch():
    code = """
import sys
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
from napari_lowdose_tem.widgets.live.dock import LiveDock
app = QApplication([])
dock = LiveDock(ViewerModel())
dock.show()
app.processEvents()
print([name for name in ("torch", "matplotlib", "rsciio", "zarr") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
