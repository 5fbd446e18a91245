"""The plugin as napari sees it, through its manifest."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManager, PluginManifest

from napari_lowdose_tem.io import READABLE_SUFFIXES, read

PLUGIN = "napari-lowdose-tem"


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_distribution(PLUGIN)


@pytest.fixture
def viewer(make_napari_viewer):
    # napari's fixture knows only its own plugins
    manager = PluginManager.instance()
    if PLUGIN not in manager:
        manager.register(PluginManifest.from_distribution(PLUGIN))
    return make_napari_viewer()


def open_dock(viewer, name):
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    return widget


def test_manifest_is_valid_and_its_commands_exist(manifest):
    manifest.validate_imports()
    assert manifest.display_name == "Enhance low-dose TEM"
    reader, lines = manifest.contributions.readers
    assert lines.filename_patterns == ["*.lines.json"]
    assert reader.filename_patterns == [f"*{suffix}" for suffix in READABLE_SUFFIXES]
    assert reader.accepts_directories


def test_link_at_the_top_is_the_packaged_manifest():
    root = Path(__file__).parents[2]
    assert (root / "napari.yaml").read_text() == (root / "src/napari_lowdose_tem/napari.yaml").read_text()


def run_python(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return result.stdout.splitlines()[-1]


def test_menu_manifest_and_docks_import_neither_torch_nor_matplotlib():
    code = f"""
import sys
from napari.components import ViewerModel
from npe2 import PluginManager, PluginManifest
manifest = PluginManifest.from_distribution({PLUGIN!r})
PluginManager.instance().register(manifest)
from qtpy.QtWidgets import QApplication
app = QApplication([])
viewer = ViewerModel()
for command in ("load", "enhance", "train", "compare", "line_profile"):
    dock = PluginManager.instance().commands.get({PLUGIN!r} + "." + command)(viewer)
    dock.show()
    app.processEvents()
print([name for name in ("torch", "matplotlib", "rsciio") if name in sys.modules])
"""
    assert run_python(code) == "[]"


def test_dock_with_a_layer_imports_torch_in_its_job():
    code = """
import sys, threading, time
import numpy as np
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication
from napari_lowdose_tem.widgets.enhance.dock import EnhanceDock
app = QApplication([])
threads = []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            threads.append(threading.current_thread() is threading.main_thread())
sys.meta_path.insert(0, Finder())
viewer = ViewerModel()
viewer.add_image(np.random.default_rng(0).poisson(99, (3, 24, 40)))
dock = EnhanceDock(viewer)
dock.show()
assert "torch" not in sys.modules
deadline = time.monotonic() + 100
while not dock.control.state.preview_text.endswith("enhanced."):
    assert time.monotonic() < deadline, dock.control.state.message
    app.processEvents()
dock.close()
print(threads)
"""
    assert run_python(code) == "[False]"


@pytest.mark.parametrize("ending", [".ome.tif", ".tif", ".zarr"])
def test_write_and_read_keep_the_calibration(viewer, tmp_path, ending):
    data = np.arange(3 * 8 * 10, dtype=np.uint16).reshape(3, 8, 10)
    metadata = {"lowdose_tem": {"counts_per_electron": 44.0, "provenance": {"made": "by hand"}}}
    viewer.add_image(data, scale=(0.5, 2, 3), units=("s", "nm", "nm"), metadata=metadata, name="stack")
    path = str(tmp_path / f"saved{ending}")
    assert viewer.layers.save(path, plugin=PLUGIN) == [path]
    (layer,) = viewer.open(path, plugin=PLUGIN)
    np.testing.assert_array_equal(np.asarray(layer.data), data)
    np.testing.assert_allclose(layer.scale, (0.5, 2, 3))
    assert [str(unit) for unit in layer.units] == ["second", "nanometer", "nanometer"]
    assert layer.metadata["lowdose_tem"]["counts_per_electron"] == 44
    assert layer.metadata["lowdose_tem"]["provenance"]["made"] == "by hand"
    assert layer.name == "saved"


def test_pixels_without_unit_stay_without_unit(viewer, tmp_path):
    viewer.add_image(np.ones((8, 10), np.float32))
    path = str(tmp_path / "plain.tif")
    viewer.layers.save(path, plugin=PLUGIN)
    assert read(path).pixel_size_nm is None


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [(np.zeros((8, 10, 3), np.uint8), {"rgb": True}, "colour"), (np.zeros((2, 3, 8, 10)), {}, "4 axes")],
)
def test_writer_refuses_and_leaves_nothing_behind(viewer, tmp_path, data, options, reason):
    viewer.add_image(data, **options)
    with pytest.raises(OSError, match=reason):
        viewer.layers.save(str(tmp_path / "out.tif"), plugin=PLUGIN)
    assert list(tmp_path.iterdir()) == []


def test_writer_does_not_replace_the_file_a_layer_reads_from(viewer, tmp_path):
    path = str(tmp_path / "stack.tif")
    viewer.add_image(np.ones((3, 8, 10), np.float32))
    viewer.layers.save(path, plugin=PLUGIN)
    viewer.layers.clear()
    viewer.open(path, plugin=PLUGIN)
    with pytest.raises(OSError, match="still reads"):
        viewer.layers.save(path, plugin=PLUGIN)


def test_damaged_file_is_a_clear_error(viewer, tmp_path):
    path = tmp_path / "cut.tif"
    path.write_bytes(b"II*\0")
    with pytest.raises(ValueError, match="cut"):
        viewer.open(str(path), plugin=PLUGIN)


def test_sample_pair_has_truth_and_calibration(viewer):
    high, low = viewer.open_sample(PLUGIN, "pair")
    assert high.data.shape == low.data.shape
    assert high.metadata["truth"] == low.metadata["truth"] != []
    assert all(str(unit) == "nanometer" for unit in low.units)


def test_sample_movie_has_truth_for_each_frame(viewer, monkeypatch):
    from napari_lowdose_tem.widgets import contributions

    monkeypatch.setattr(contributions, "_MOVIE_FRAMES", 3)
    monkeypatch.setattr(contributions, "_MOVIE_SHAPE", (48, 64))
    (movie,) = viewer.open_sample(PLUGIN, "movie")
    assert movie.data.shape == (3, 48, 64)
    assert len(movie.metadata["truth"]) == 3
    assert movie.axis_labels == ("frame", "y", "x")


def test_docks_open_twice_and_close(viewer, qtbot):
    viewer.add_image(np.ones((3, 8, 10)), name="stack")
    chosen = {"Load": ("layer", "stack"), "Enhance": ("source", "after Load")}
    for name in (*chosen, "Train", "Compare", "Line profile"):
        widget = open_dock(viewer, name)
        control = widget.control
        assert open_dock(viewer, name) is widget
        viewer.window.remove_dock_widget(widget)
        viewer.add_image(np.ones((8, 10)), name=f"after {name}")  # nobody listens any more
        if name in chosen:
            key, layer = chosen[name]
            assert getattr(control.state, key) == layer


def test_closing_the_dock_ends_its_job(viewer, qtbot, tiny_model, monkeypatch):
    monkeypatch.setenv("LOWDOSE_TEM_MODELS", str(tiny_model.parent))
    viewer.add_image(np.random.default_rng(0).poisson(100, (400, 64, 96)).astype(np.uint16), name="stack")
    widget = open_dock(viewer, "Enhance")
    control = widget.control
    control.choose_model(str(tiny_model))
    control.choose_device("cpu")
    widget.run_button.click()
    qtbot.waitUntil(lambda: control.state.share_done > 0, timeout=120_000)
    viewer.window.remove_dock_widget(widget)
    qtbot.waitUntil(lambda: not control.state.running)
    assert len(viewer.layers["stack enhanced"].data) < 400


def test_menu_command_prepares_the_selected_stack(viewer):
    from napari._app_model import get_app_model

    viewer.add_image(np.ones((3, 8, 10)), name="first")
    viewer.add_image(np.ones((4, 8, 10)), name="second")
    viewer.layers.selection.active = viewer.layers["first"]
    run = get_app_model().commands.execute_command
    run(f"{PLUGIN}.enhance").result()
    run(f"{PLUGIN}.enhance_stack").result()  # the same dock
    (dock,) = (dock for name, dock in viewer.window.dock_widgets.items() if name.startswith("Enhance ("))
    assert dock.isVisibleTo(viewer.window._qt_window)
    assert dock.control.state.source == "first"
    assert dock.run_button.text() == "Enhance whole stack …"
    assert not dock.control.state.preview


def test_preferences_reach_the_docks(viewer, plugin_settings):
    from napari.settings import get_plugin_settings

    from napari_lowdose_tem.widgets.shared.settings import Settings, read_settings

    manager = PluginManager.instance()
    if PLUGIN not in manager:
        manager.register(PluginManifest.from_distribution(PLUGIN))
    assert read_settings() == Settings()
    stored = get_plugin_settings(PLUGIN).processing
    stored.device, stored.tile_px, stored.model_folder = "cpu", 512, "/models"
    assert read_settings() == Settings("cpu", "auto", 512, Path("/models"))


def test_docks_share_the_right_side_as_tabs(viewer, qtbot):
    shell, _ = viewer.window.add_plugin_dock_widget(PLUGIN, "Enhance")
    other, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Line profile")
    viewer.window._qt_window.show()
    qtbot.waitUntil(lambda: viewer.window._qt_window.tabifiedDockWidgets(shell) == [other], timeout=20_000)
    qtbot.waitUntil(dock.isVisible, timeout=20_000)
