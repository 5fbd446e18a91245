import time

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.enhancement import enhance
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.enhance import stack
from napari_lowdose_tem.widgets.enhance.control import EnhanceControl
from napari_lowdose_tem.widgets.enhance.dock import EnhanceDock
from napari_lowdose_tem.widgets.shared.layers import image_from_layer, layer_tuple, set_calibration
from napari_lowdose_tem.widgets.shared.parts import Note
from napari_lowdose_tem.widgets.shared.viewer import add_image

pytestmark = pytest.mark.usefixtures("model_folder")
LONG = 120_000  # ms; the first job imports torch


@pytest.fixture
def viewer(movie):
    viewer = ViewerModel()
    image = Image(movie, (2.0, 3.0), 44.0, 0.5, "movie", {"source": "movie.tif"})
    add_image(viewer, layer_tuple(image))
    return viewer


@pytest.fixture
def control(viewer, qtbot):
    control = EnhanceControl(viewer)
    control.choose_model(next(path for path, label in control.state.models if label == "tiny"))
    control.choose_device("cpu")
    yield control
    control.close()
    qtbot.wait(20)


def wait_shown(qtbot, control, frame):
    qtbot.waitUntil(lambda: control.state.preview_text == f"Frame {frame} is shown enhanced.", timeout=LONG)
    return control._preview.layer


def wait_stack(qtbot, control):
    qtbot.waitUntil(lambda: not control.state.running, timeout=LONG)


def use(viewer, data, **options):
    viewer.layers.clear()
    return add_image(viewer, layer_tuple(Image(data, name="other", **options)))


def slow(movie, pause_s=0.05):
    """Frames that take their time to read."""

    def read(block, block_info=None):
        time.sleep(pause_s)
        return block

    # the meta keeps Dask from calling it to find out the type
    return da.from_array(movie, chunks=(1, -1, -1)).map_blocks(read, meta=np.empty((0, 0, 0), movie.dtype))


def test_whole_stack_into_memory(qtbot, viewer, control, movie):
    control.start_stack()
    assert control.state.running
    wait_stack(qtbot, control)
    assert not control.state.is_error, control.state.message
    output, source = viewer.layers["movie enhanced"], viewer.layers["movie"]
    expected = enhance(image_from_layer(source), control.state.model, "cpu")
    np.testing.assert_allclose(output.data, expected.data, rtol=1e-4, atol=1e-2)
    assert tuple(output.scale) == tuple(source.scale) == (0.5, 2, 3)
    assert output.units == source.units
    assert output.axis_labels == source.axis_labels
    image = image_from_layer(output)
    assert image.counts_per_electron == 44
    assert image.provenance["source"] == "movie.tif"
    assert image.provenance["enhanced"]["model_sha256"]
    low, high = output.contrast_limits
    assert output.data.min() <= low < high <= output.data.max()
    assert control.state.source == "movie"  # the output is not what to enhance next
    assert control.state.message.startswith("5 frames enhanced in ")


def test_corrected_gain_reaches_the_outputs(qtbot, viewer, control):
    source = viewer.layers["movie"]
    control.set_preview(True)
    preview = wait_shown(qtbot, control, viewer.dims.current_step[0])
    set_calibration(source, (2.0, 3.0), 55.0)
    assert image_from_layer(preview).counts_per_electron == 55
    source.metadata["lowdose_tem"]["counts_per_electron"] = 66.0  # in place nothing is told
    control.start_stack()
    wait_stack(qtbot, control)
    assert image_from_layer(viewer.layers["movie enhanced"]).counts_per_electron == 66


def test_preview_follows_the_slider_and_equals_the_stack(qtbot, viewer, control):
    viewer.dims.set_current_step(0, 1)
    control.set_preview(True)
    layer = wait_shown(qtbot, control, 1)
    source = viewer.layers["movie"]
    expected = enhance(image_from_layer(source), control.state.model, "cpu").data
    assert viewer.layers.selection.active is source
    for frame in (1, 3, 4, 3):
        viewer.dims.set_current_step(0, frame)
        assert wait_shown(qtbot, control, frame) is layer
        np.testing.assert_allclose(layer.data[0], expected[frame], rtol=1e-3, atol=0.1)
        np.testing.assert_allclose(layer.data_to_world((0, 5, 7)), source.data_to_world((frame, 5, 7)))
    assert image_from_layer(layer).provenance["frame"] == 3
    assert image_from_layer(layer).pixel_size_nm == (2, 3)
    assert len(viewer.layers) == 2
    control.set_preview(False)
    assert list(viewer.layers) == [source]


def test_dock_shows_the_frame_enhanced_at_once(qtbot, viewer, movie):
    layers = list(viewer.layers)
    viewer.layers.clear()
    dock = EnhanceDock(viewer)
    qtbot.addWidget(dock)
    control = dock.control
    control.choose_model(next(path for path, label in control.state.models if label == "tiny"))
    control.choose_device("cpu")
    qtbot.waitUntil(lambda: control.state.preview)
    assert control._preview._job is None
    for _ in range(2):
        viewer.layers.extend(layers)
        first = wait_shown(qtbot, control, viewer.dims.current_step[0])
        assert dock.preview_button.isChecked()
        viewer.layers.remove(layers[0])
        assert not viewer.layers  # and the preview stays on: the next image is shown enhanced
    viewer.layers.extend(layers)
    first = wait_shown(qtbot, control, viewer.dims.current_step[0])
    dock.close()
    qtbot.waitUntil(lambda: control._preview._job is None, timeout=LONG)

    again = EnhanceDock(viewer)
    qtbot.addWidget(again)
    control = again.control
    control.choose_model(next(path for path, label in control.state.models if label == "tiny"))
    control.choose_device("cpu")
    assert wait_shown(qtbot, control, viewer.dims.current_step[0]) is first  # taken over, not doubled
    again.preview_button.click()
    assert list(viewer.layers) == layers
    again.close()


def test_nothing_is_cut_off_in_a_low_dock(qtbot, viewer):
    dock = EnhanceDock(viewer)
    qtbot.addWidget(dock)
    dock.prepare_stack()
    dock.resize(dock.minimumSizeHint().width(), 250)
    dock.show()
    dock.model_note.show_text("What this model was made for and from, said in a few words. " * 4)
    qtbot.wait(50)
    notes = [note for note in dock.findChildren(Note) if note.isVisible()]
    assert dock.model_note in notes
    for note in notes:
        assert note.height() >= note.heightForWidth(note.width())
    for box in (dock.source_box, dock.run_button):
        assert box.mapTo(dock, box.rect().topRight()).x() <= dock.width()
    dock.close()


def test_dock_prepared_for_a_stack_shows_no_preview(qtbot, viewer, movie):
    viewer.add_image(movie[0], name="still")
    dock = EnhanceDock(viewer)
    qtbot.addWidget(dock)
    dock.prepare_stack()
    qtbot.wait(50)
    assert not dock.control.state.preview
    assert dock.control._preview._job is None
    assert dock.control.state.source == "still"
    dock.close()


def test_stack_error_stays_while_the_preview_goes_on(qtbot, viewer, control, tmp_path):
    control.set_preview(True)
    wait_shown(qtbot, control, viewer.dims.current_step[0])
    (tmp_path / "out.zarr").mkdir()
    control.choose_output(tmp_path / "out.zarr")
    control.start_stack()
    wait_stack(qtbot, control)
    assert control.state.preview
    assert control.state.is_error
    assert "exists already" in control.state.message


def test_newest_frame_wins(qtbot, viewer, control, movie):
    use(viewer, slow(movie, 0.1))
    control.set_preview(True)
    for frame in (0, 2, 1, 4):
        viewer.dims.set_current_step(0, frame)
        qtbot.wait(30)
    layer = wait_shown(qtbot, control, 4)
    assert layer.translate[0] == 4
    assert len([x for x in viewer.layers if "(preview)" in x.name]) == 1


def test_previewed_frame_is_shown_again_at_once(qtbot, viewer, control):
    control.set_preview(True)
    wait_shown(qtbot, control, viewer.dims.current_step[0])
    frame = viewer.dims.current_step[0]
    other = (frame + 2) % 5
    viewer.dims.set_current_step(0, other)
    wait_shown(qtbot, control, other)
    viewer.dims.set_current_step(0, frame)
    assert control.state.preview_text == f"Frame {frame} is shown enhanced."


def test_frames_of_another_layer_are_not_shown(qtbot, viewer, control, movie):
    first = viewer.layers["movie"]
    viewer.dims.set_current_step(0, 1)
    control.set_preview(True)
    expected = wait_shown(qtbot, control, 1).data.copy()
    second = viewer.add_image(slow(movie[::-1], 0.2), scale=first.scale, units=first.units, name="second")
    assert control.state.source == "second"
    viewer.layers.selection.active = first
    qtbot.waitUntil(lambda: control._preview._job is None, timeout=LONG)
    np.testing.assert_array_equal(control._preview.layer.data, expected)
    assert second in viewer.layers


def test_preview_sees_changed_pixels(qtbot, viewer, control, movie):
    viewer.dims.set_current_step(0, 1)
    control.set_preview(True)
    layer = wait_shown(qtbot, control, 1)
    before = layer.data.copy()
    control.state.preview_text = ""
    viewer.layers["movie"].data = movie[::-1].copy()
    wait_shown(qtbot, control, 1)
    assert not np.allclose(layer.data, before)


def test_removing_layers_ends_the_preview_quietly(qtbot, viewer, control):
    control.set_preview(True)
    wait_shown(qtbot, control, viewer.dims.current_step[0])
    viewer.layers.remove(control._preview.layer)
    assert not control.state.preview
    control.set_preview(True)
    wait_shown(qtbot, control, viewer.dims.current_step[0])
    viewer.layers.remove(viewer.layers["movie"])
    assert not viewer.layers
    assert not control.state.source_ok
    assert not control.state.is_error


def test_single_frame(qtbot, viewer, control, movie):
    layer = use(viewer, movie[0], pixel_size_nm=(2.0, 3.0))
    assert not control.state.is_stack
    control.start_stack()
    wait_stack(qtbot, control)
    output = viewer.layers["other enhanced"]
    assert output.data.shape == layer.data.shape
    assert output.units == layer.units


def test_cancel_keeps_the_finished_frames(qtbot, viewer, control, movie):
    use(viewer, slow(np.concatenate([movie] * 40), 0.02))
    control.start_stack()
    qtbot.waitUntil(lambda: control.state.share_done > 0.02, timeout=LONG)
    output = viewer.layers["other enhanced"]
    assert image_from_layer(output).provenance["enhanced"]["model_sha256"]  # while it fills
    control.cancel_stack()
    wait_stack(qtbot, control)
    assert 1 <= len(output.data) < 200
    assert (np.asarray(output.data).max(axis=(1, 2)) > 0).all()
    assert f"{len(output.data)} enhanced frame" in control.state.message
    made = image_from_layer(output).provenance["enhanced"]
    assert made["finished_frames"] == len(output.data)
    assert made["model_sha256"]
    assert made["device"]


def test_cancel_after_the_last_frame_is_finished(qtbot, viewer, control):
    control.start_stack()

    def cancel(progress):
        if progress.done == progress.total and progress.result is None:
            control.cancel_stack()

    control._job.progress.connect(cancel)
    wait_stack(qtbot, control)
    assert control.state.message.startswith("5 frames enhanced in ")
    made = image_from_layer(viewer.layers["movie enhanced"]).provenance["enhanced"]
    assert "finished_frames" not in made


def test_cancel_within_a_tile(qtbot, viewer, control, monkeypatch):
    frame = np.random.default_rng(0).poisson(100, (600, 1500)).astype(np.uint16)
    use(viewer, frame)
    options = EngineOptions(model=control.state.model, device="cpu", precision="float32", tile_px=640)
    monkeypatch.setattr(control, "_engine_options", lambda: options)
    control.start_stack()
    control._job.progress.connect(
        lambda progress: control.cancel_stack() if progress.frames is None else None
    )
    wait_stack(qtbot, control)
    assert control.state.message == "Cancelled before the first frame was finished."


def test_whole_stack_to_disk_and_resume(qtbot, viewer, control, movie, tmp_path):
    movie = np.concatenate([movie] * 40)
    use(viewer, slow(movie, 0.02), pixel_size_nm=(2.0, 3.0), frame_time_s=0.5)
    path = tmp_path / "out.zarr"
    control.choose_output(path)
    control.start_stack()
    qtbot.waitUntil(lambda: control.state.share_done > 0.02, timeout=LONG)
    control.cancel_stack()
    wait_stack(qtbot, control)
    assert control.state.can_resume
    assert not path.exists()
    layer = viewer.layers["other enhanced"]
    kept = len(layer.data)
    control.start_stack(resume=True)
    wait_stack(qtbot, control)
    assert not control.state.is_error, control.state.message
    assert path.is_dir()
    assert not control.state.can_resume
    assert [x.name for x in viewer.layers] == ["other", "other enhanced"]
    assert layer.data.shape == movie.shape
    assert 0 < kept < len(movie)
    assert (np.asarray(layer.data).max(axis=(1, 2)) > 0).all()
    assert image_from_layer(layer).provenance["enhanced"]["model"] == "tiny"
    assert image_from_layer(layer).pixel_size_nm == (2, 3)


def test_existing_output_is_an_error_line(qtbot, viewer, control, tmp_path):
    (tmp_path / "out.zarr").mkdir()
    control.choose_output(tmp_path / "out.zarr")
    control.start_stack()
    wait_stack(qtbot, control)
    assert control.state.is_error
    assert "exists already" in control.state.message


def test_frames_without_signal_are_an_error_line(qtbot, viewer, control):
    use(viewer, np.zeros((3, 20, 30), np.uint16))
    for start in (control.start_stack, lambda: control.set_preview(True)):
        start()
        qtbot.waitUntil(lambda: control.state.is_error, timeout=LONG)
        assert "no signal" in control.state.message
        assert "\n" not in control.state.message
        control.state.report("")


@pytest.mark.filterwarnings("default")
def test_torch_errors_are_an_error_line(qtbot, viewer, control, monkeypatch):
    from napari_lowdose_tem.engine.engine import Engine

    def fail(self, *_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Engine, "_iter_tiles", fail)
    control.start_stack()
    wait_stack(qtbot, control)
    assert control.state.is_error
    assert "RuntimeError: mat1 and mat2" in control.state.message
    control.set_preview(True)
    qtbot.waitUntil(lambda: "RuntimeError" in control.state.message, timeout=LONG)


def test_source_renamed_and_removed_while_running(qtbot, viewer, control, movie):
    layer = use(viewer, slow(np.concatenate([movie] * 4), 0.02))
    control.start_stack()
    layer.name = "renamed"
    qtbot.waitUntil(lambda: control.state.share_done > 0.05, timeout=LONG)
    viewer.layers.remove(layer)
    wait_stack(qtbot, control)
    assert not control.state.is_error
    assert len(viewer.layers[0].data) == 20


def test_output_removed_while_running_stops(qtbot, viewer, control, movie):
    use(viewer, slow(np.concatenate([movie] * 40), 0.02))
    control.start_stack()
    qtbot.waitUntil(lambda: "other enhanced" in viewer.layers, timeout=LONG)
    viewer.layers.remove(viewer.layers["other enhanced"])
    wait_stack(qtbot, control)
    assert not control.state.is_error
    assert [x.name for x in viewer.layers] == ["other"]


def test_follows_the_selection_and_refuses_what_is_no_stack(viewer, control, movie):
    viewer.add_image(movie[0], name="still")
    assert control.state.source == "still"
    viewer.add_labels(np.zeros((4, 5), int), name="seg")
    assert control.state.source == "still"
    viewer.add_image(np.zeros((4, 5, 3), np.uint8), rgb=True, name="colour")
    assert control.state.source == "still"
    control.choose_source("colour")
    assert not control.state.source_ok
    assert "colour image" in control.state.source_text
    control.start_stack()
    assert not control.state.running
    assert "seg" not in control.state.layers


def test_too_large_for_memory_goes_to_disk(viewer, control, monkeypatch, movie, tmp_path):
    monkeypatch.setattr(stack, "free_memory_bytes", lambda: 1000)
    use(viewer, movie, provenance={"source": str(tmp_path / "a.tif")})
    assert control.state.needs_disk
    assert control.state.output == tmp_path / "other-enhanced.zarr"


def test_missing_model_file(control, tmp_path):
    control.choose_model(str(tmp_path / "none.safetensors"))
    assert control.state.is_error
    assert "does not exist" in control.state.message
