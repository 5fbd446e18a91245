import threading

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import write
from napari_lowdose_tem.widgets.load import control as load_control
from napari_lowdose_tem.widgets.load import read_layers as loading
from napari_lowdose_tem.widgets.load.control import LoadControl
from napari_lowdose_tem.widgets.load.dock import LoadDock
from napari_lowdose_tem.widgets.load.state import describe_calibration
from napari_lowdose_tem.widgets.shared.layers import image_from_layer, layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import add_image


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def control(viewer, qtbot):
    control = LoadControl(viewer)
    yield control
    control.close()
    qtbot.wait(20)


@pytest.fixture
def path(tmp_path, movie):
    image = Image(movie, (2.0, 3.0), counts_per_electron=40.0, frame_time_s=0.5)
    return write(image, tmp_path / "movie.ome.tif")


def load(qtbot, control, *paths):
    control.load(paths)
    qtbot.waitUntil(lambda: not control.state.loading, timeout=30_000)


def test_loads_a_movie_and_says_what_is_known(qtbot, viewer, control, path, movie):
    load(qtbot, control, path)
    (layer,) = viewer.layers
    assert layer.name == "movie"
    qtbot.waitUntil(lambda: control.state.dose_e_per_px is not None)
    assert control.state.dose_e_per_px == pytest.approx(movie[2].mean() / 40)
    text = describe_calibration(control.state)
    assert "5 frames of 40 × 56 px" in text
    assert "Frame time 0.5 s" in text
    assert "no pixel size" not in text


def test_says_plainly_what_is_missing(qtbot, control, tmp_path, movie):
    tifffile.imwrite(tmp_path / "plain.tif", movie)
    load(qtbot, control, tmp_path / "plain.tif")
    qtbot.waitUntil(lambda: control.state.mean_counts is not None)
    text = describe_calibration(control.state)
    assert "no pixel size" in text
    assert "enter the gain to see the dose" in text


def test_corrects_pixel_size_and_gain(qtbot, viewer, control, path):
    load(qtbot, control, path)
    control.calibrate((4.0, 5.0), 20.0)
    image = image_from_layer(viewer.layers[0])
    assert (image.pixel_size_nm, image.counts_per_electron, image.frame_time_s) == ((4, 5), 20, 0.5)
    control.calibrate((4.0, 0.0), None)
    assert control.state.is_error
    assert image_from_layer(viewer.layers[0]).pixel_size_nm == (4, 5)


def test_dose_of_the_layer_before_is_not_shown(qtbot, viewer, control, path, monkeypatch):
    go_on = threading.Event()

    def slow_mean(image):
        go_on.wait(10)
        yield 80.0

    monkeypatch.setattr(load_control, "_iter_mean", slow_mean)
    load(qtbot, control, path)
    before = control._measuring
    image = Image(np.ones((4, 7), np.float32), name="out", provenance={"enhanced": {"model": "tiny"}})
    add_image(viewer, layer_tuple(image))
    assert control.state.layer == "out"
    go_on.set()
    qtbot.waitUntil(lambda: not before.is_running)
    assert control.state.mean_counts is control.state.dose_e_per_px is None


def test_bad_file_is_one_line(qtbot, viewer, control, tmp_path):
    (tmp_path / "bad.tif").write_bytes(b"not a tiff")
    load(qtbot, control, tmp_path / "bad.tif")
    assert control.state.is_error
    assert "bad.tif" in control.state.message
    assert "\n" not in control.state.message
    assert not viewer.layers


def test_subtracts_a_dark_reference(qtbot, viewer, control, path, tmp_path, movie):
    dark = np.full(movie.shape[1:], 7, np.uint16)
    dark[3, 9] = 11
    control.set_dark_reference(write(Image(dark), tmp_path / "dark.tif"))
    load(qtbot, control, path)
    np.testing.assert_allclose(np.asarray(viewer.layers[0].data), movie - dark.astype(float))
    assert viewer.layers[0].metadata["lowdose_tem"]["provenance"]["dark"]["name"] == "dark"


@pytest.mark.parametrize("pixel_size_nm", [(3.0, 2.0), None])
def test_data_set_lies_one_over_the_other(qtbot, viewer, control, tmp_path, pixel_size_nm):
    rng = np.random.default_rng(0)
    folder = tmp_path / "silicate"
    folder.mkdir()
    names = iter(f"{i:04d}.tif" for i in range(1, 99))
    for _ in range(3):
        write(Image(rng.poisson(900, (48, 80)).astype(np.uint16)), folder / next(names))
        for _ in range(2):
            write(Image(rng.poisson(9, (12, 20)).astype(np.uint16), pixel_size_nm), folder / next(names))
    assert loading.is_data_set(folder)
    for name in ("a_movie.tif", "a_movie_reference.tif"):  # as a simulated set has them beside its folders
        write(Image(rng.poisson(9, (2, 12, 20)).astype(np.uint16)), tmp_path / name)
    assert loading.is_data_set(tmp_path)
    load(qtbot, control, folder)
    assert not control.state.is_error, control.state.message
    assert [x.name for x in viewer.layers] == ["HDE silicate", "LDE silicate", "LDE silicate, repeat 1"]
    high, low, _ = viewer.layers
    assert high.data.shape == (3, 48, 80)
    # the corners of the first pixels and of the last coincide
    for a, b in (((0, -0.5, -0.5),) * 2, ((2, 47.5, 79.5), (2, 11.5, 19.5))):
        np.testing.assert_allclose(high.data_to_world(a), low.data_to_world(b))
    assert image_from_layer(high).pixel_size_nm == (None if pixel_size_nm is None else (0.75, 0.5))


def test_dock_keeps_what_is_typed_until_applied(qtbot, viewer, path, movie):
    dock = LoadDock(viewer)
    qtbot.addWidget(dock)
    load(qtbot, dock.control, path)
    assert (dock.row_box.value, dock.col_box.value, dock.gain_box.value) == (2, 3, 40)
    assert not dock.square_box.value
    dock.row_box.value = 2.5
    dock.control.state.report("something happened")
    assert dock.row_box.value == 2.5
    dock.apply_button.click()
    assert image_from_layer(viewer.layers[0]).pixel_size_nm == (2.5, 3)
