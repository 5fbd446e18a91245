import time

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from npe2 import PluginManager, PluginManifest
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.measure import FitOptions, Line, OverTime, fit_profile, sample_line
from napari_lowdose_tem.measure.sphere_window import SphereFit
from napari_lowdose_tem.widgets.profile.dock import ProfileDock
from napari_lowdose_tem.widgets.profile.over_time_plot import OverTimePlot
from napari_lowdose_tem.widgets.profile.plot import ProfilePlot
from napari_lowdose_tem.widgets.profile.results_text import (
    describe_counts,
    numbers_html,
    with_error,
    with_transmission,
)
from napari_lowdose_tem.widgets.profile.state import Curve
from napari_lowdose_tem.widgets.shared.layers import layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import add_image

PLUGIN = "napari-lowdose-tem"
LONG = 60_000
SIZE_NM, SHAPE, GAIN = (4.0, 5.0), (70, 96), 44.0
LINE = ((35, 12), (35, 84))


@pytest.fixture(scope="session")
def frames(spheres):
    """The raw and the clear frame of a particle of 96 nm [counts]."""
    clear = spheres(SHAPE, SIZE_NM, [(140, 240, 96, 0.55)]) * 20 * GAIN
    rng = np.random.default_rng(1)
    return rng.poisson(clear / GAIN) * GAIN, clear + rng.normal(size=SHAPE)


@pytest.fixture
def viewer(frames):
    viewer = ViewerModel()
    raw, clear = frames
    made = {"enhanced": {"model": "x"}}
    for image in (Image(raw, SIZE_NM, GAIN, name="LDE"), Image(clear, SIZE_NM, GAIN, None, "output", made)):
        add_image(viewer, layer_tuple(image))
    return viewer


@pytest.fixture
def dock(viewer, qtbot):
    dock = ProfileDock(viewer)
    qtbot.addWidget(dock)
    dock.resize(430, 1200)
    dock.show()
    yield dock
    dock.close()
    qtbot.waitUntil(lambda: not dock.control._fits.is_busy, timeout=LONG)
    qtbot.wait(20)


def draw(qtbot, dock, line=LINE):
    dock.control.choose_particles(1)
    dock.control.lines.add(dock.control.viewer.layers["LDE"], line)
    qtbot.wait(40)
    state = dock.control.state
    qtbot.waitUntil(lambda: bool(state.curves) and all(c.is_fresh for c in state.curves), timeout=LONG)


def curve(frames, role="output", line=LINE, **options):
    pixels = frames[role == "output"]
    profile = sample_line(pixels, Line(*line), SIZE_NM)
    found = fit_profile(profile, FitOptions(particles=1, **options))
    return Curve(role, role, profile, found, is_fresh=True)


def test_fresh_dock_asks_for_a_line(dock):
    assert dock.line_note.text() == "Draw a line across one particle, or across two."
    assert dock.draw_button.isEnabled()
    for hidden in (dock.plot, dock.numbers_label, dock.kept_group, dock.time_group):
        assert not hidden.isVisible()
    for disabled in (dock.keep_button, dock.snap_button, dock.figure_button):
        assert not disabled.isEnabled()
    assert [box.currentText() for box in dock.role_boxes.values()] == ["none", "LDE", "output"]
    dock.draw_button.click()
    assert dock.control.viewer.layers.selection.active.mode == "add_line"


def test_numbers_and_plot_appear(qtbot, dock):
    draw(qtbot, dock)
    assert dock.plot.isVisible()
    assert len(dock.plot.plots) == 1
    text = dock.numbers_label.text()
    found = dock.control.state.curves[1].measurement.particles[0]
    assert found.diameter == pytest.approx(96, abs=2)
    assert with_error(found.diameter, found.diameter_se) in text
    assert "[nm]" in text
    qtbot.waitUntil(lambda: ">&nbsp;&nbsp;LDE (count fit)<" in dock.numbers_label.text(), timeout=LONG)
    assert "Cramér–Rao" in dock.counts_note.text()
    assert dock.keep_button.isEnabled()


def test_a_line_off_the_frame_offers_nothing_but_the_reason(qtbot, dock):
    draw(qtbot, dock)
    dock.control.lines.add(dock.control.viewer.layers["LDE"], ((5, 5), (5, 900)))
    state = dock.control.state
    qtbot.waitUntil(lambda: all("outside the frame" in c.reason for c in state.curves), timeout=LONG)
    for button in (dock.keep_button, dock.snap_button, dock.figure_button):
        assert not button.isEnabled()
    assert not dock.numbers_label.text()


def test_controls_reach_the_state(qtbot, dock):
    draw(qtbot, dock)
    state = dock.control.state
    for box, key, value in (
        (dock.scale_box, "scale", "counts"),
        (dock.layout_box, "layout", "stacked"),
        (dock.fit_box, "fit", "paper"),
        (dock.particles_box, "particles", 2),
        (dock.rule_box, "rule", "first_crossing"),
    ):
        box.setCurrentIndex(box.findData(value))
        box.activated.emit(box.currentIndex())
        assert getattr(state, key) == value
    dock.width_box.setValue(15)
    assert state.width == 15
    dock.background_edit.setText("0–60, 300–350")
    dock.background_edit.editingFinished.emit()
    assert state.background == ((0, 60), (300, 350))
    assert dock.automatic_button.isEnabled()
    dock.automatic_button.click()
    assert state.background == ()
    assert dock.background_edit.text() == ""
    box = dock.role_boxes["HDE"]
    box.activated.emit(box.findData("output"))
    assert state.chosen == ("output", "LDE", "")
    assert dock.role_boxes["output"].currentText() == "none"


def test_kept_rows_are_shown_edited_copied_and_deleted(qtbot, dock, monkeypatch, tmp_path):
    draw(qtbot, dock)
    qtbot.waitUntil(lambda: dock.control.state.counts is not None, timeout=LONG)
    dock.keep_button.click()
    table = dock.table
    assert dock.kept_group.isVisible()
    assert table.rowCount() == 3  # LDE, its counts, output
    assert [table.item(i, 1).text() for i in range(3)] == ["LDE", "LDE", "output"]
    assert table.item(2, 3).text().startswith("9")
    assert table.item(2, 3).text().endswith("nm")
    assert [row.numbers["fit"] for row in dock.control.state.rows] == ["full", "counts", "full"]
    table.item(2, 5).setText("round")
    table.item(2, 0).setText("A–B")
    assert (dock.control.state.rows[2].note, dock.control.state.rows[2].name) == ("round", "A–B")
    dock.copy_button.click()
    copied = QApplication.clipboard().text().splitlines()
    assert len(copied) == 4
    assert "diameter_nm" in copied[0].split("\t")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(tmp_path / "t"), ""))
    dock.csv_button.click()
    dock.json_button.click()
    dock.figure_button.click()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "t.lines.json", "t.png"]
    table.selectRow(0)
    dock.delete_button.click()
    assert table.rowCount() == 2
    dock.control.viewer.layers.remove(dock.control.lines.layer)
    qtbot.waitUntil(lambda: not dock.kept_group.isVisible(), timeout=LONG)
    assert not dock.plot.isVisible()


def test_saved_lines_come_back_with_their_measurements(qtbot, dock, tmp_path):
    from napari_lowdose_tem.widgets.profile.lines_file import read_lines

    draw(qtbot, dock)
    dock.keep_button.click()
    rows, ends = dock.control.state.rows, dock.control.lines.ends
    dock.control.kept.save_lines(tmp_path / "field.lines.json")
    viewer = dock.control.viewer
    viewer.layers.remove(dock.control.lines.layer)
    ((data, attributes, _),) = read_lines(str(tmp_path / "field.lines.json"))
    viewer.add_shapes(data, **attributes)
    qtbot.waitUntil(lambda: dock.table.rowCount() == len(rows), timeout=LONG)
    assert dock.control.state.rows == rows
    np.testing.assert_allclose(dock.control.lines.ends, ends)


def test_closing_leaves_the_lines_and_nothing_listens(qtbot, viewer):
    dock = ProfileDock(viewer)
    qtbot.addWidget(dock)
    dock.show()
    draw(qtbot, dock)
    viewer.canvas.grid.enabled = True
    qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=LONG)
    dock.close()
    assert [layer.name for layer in viewer.layers] == ["LDE", "output", "Line profiles"]
    state = dock.control.state
    before = state.curves, state.layers
    viewer.add_image(np.ones((4, 6)))
    viewer.layers["Line profiles"].data = [np.array([[0.0, 0], [100, 100]])]
    viewer.theme = "light"
    qtbot.wait(400)
    assert (state.curves, state.layers) == before
    viewer.canvas.grid.enabled = False


# ---- the plot


@pytest.fixture
def plot(qtbot):
    plot = ProfilePlot()
    qtbot.addWidget(plot)
    plot.resize(420, 280)
    plot.show()
    return plot


def test_plot_draws_profile_fit_and_used_samples(qtbot, plot, frames):
    shown = curve(frames)
    plot.show_curves((shown,), "counts", "overlaid", (), "dark")
    (panel,) = plot.panels
    items = panel.items["output"]
    np.testing.assert_allclose(items.data.yData, shown.profile.intensity)
    np.testing.assert_allclose(items.fit.yData, shown.measurement.curve)
    assert len(items.used.xData) == shown.measurement.used.sum() > 5
    particle = shown.measurement.particles[0]
    ends = items.bars.xData
    np.testing.assert_allclose(ends, particle.center + np.array([-0.5, 0.5]) * particle.diameter)
    assert items.numbers[0].toPlainText() == f"{particle.diameter:.1f}"
    assert panel.plot.getAxis("bottom").labelText == "Distance from start [nm]"
    plot.show_curves((shown,), "transmission", "overlaid", (), "dark")
    items = plot.panels[0].items["output"]
    assert np.nanmax(items.ground.yData) == 1
    assert np.nanmin(items.fit.yData) == pytest.approx(0.55, abs=0.02)


@pytest.mark.parametrize(("layout", "n_axes"), [("overlaid", 1), ("stacked", 2)])
def test_plot_tells_the_reason_of_a_refusal(plot, frames, layout, n_axes):
    refused = Curve("LDE", "LDE", curve(frames, "LDE").profile, refused="the line leaves the frame")
    plot.show_curves((curve(frames), refused), "counts", layout, (), "light")
    assert len(plot.plots) == n_axes
    texts = [panel.head.toPlainText() for panel in plot.panels]
    assert any("LDE: the line leaves the frame" in text for text in texts)


def test_moving_profiles_do_not_redraw_the_axes(qtbot, plot, frames):
    moved_axes = []
    plot.show_curves((curve(frames),), "counts", "overlaid", (), "dark")
    (panel,) = plot.panels
    qtbot.waitUntil(lambda: not plot._rest.is_waiting, timeout=LONG)
    panel.view.sigRangeChanged.connect(lambda *_: moved_axes.append(1))
    moved = [curve(frames, line=((35 + step / 4, 12), (35, 84))) for step in range(12)]
    began = time.thread_time()
    for one in moved:
        plot.show_curves((one,), "counts", "overlaid", (), "dark")
    assert (time.thread_time() - began) / 12 < 0.05
    assert len(moved_axes) <= 1
    assert plot.panels == [panel]


def use_mouse(plot, start, stop=None, button=Qt.MouseButton.LeftButton):
    """Press at a position along the line, move to another and release: real events of the canvas."""
    (panel,), port = plot.panels, plot.canvas.viewport()
    height = np.mean(panel.view.viewRange()[1])

    def send(kind, position, buttons):
        at = plot.canvas.mapFromScene(panel.view.mapViewToScene(QPointF(position, height)))
        place = QPointF(at)
        event = QMouseEvent(
            kind, place, port.mapToGlobal(place), button, buttons, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(port, event)

    stop = start if stop is None else stop
    send(QEvent.Type.MouseMove, start, Qt.MouseButton.NoButton)
    send(QEvent.Type.MouseButtonPress, start, button)
    for position in np.linspace(start, stop, 6)[1:] if stop != start else ():
        send(QEvent.Type.MouseMove, position, button)
        time.sleep(0.02)  # pyqtgraph takes no more moves than a screen shows
    send(QEvent.Type.MouseMove, stop, button if stop != start else Qt.MouseButton.NoButton)
    send(QEvent.Type.MouseButtonRelease, stop, Qt.MouseButton.NoButton)


def settle(qtbot, plot):
    """Wait until the axes fit, for places along the line to stay where they are."""
    qtbot.waitUntil(lambda: not plot._rest.is_waiting and plot.canvas.isVisible(), timeout=LONG)
    plot.canvas.grab()


def test_background_is_marked_moved_and_removed_in_the_plot(qtbot, plot, frames):
    told = []
    plot.background_changed.connect(told.append)
    plot.show_curves((curve(frames),), "counts", "overlaid", (), "dark")
    settle(qtbot, plot)
    use_mouse(plot, 160, 200)
    assert told == []  # not marking, and no segment there
    plot.marking = True
    use_mouse(plot, 150, 100)
    ((start, stop),) = told[-1]
    assert (start, stop) == pytest.approx((100, 150), abs=2)  # a pixel of the screen is about 1 nm
    plot.marking = False
    plot.show_curves((curve(frames),), "counts", "overlaid", ((100.0, 150.0),), "dark")
    settle(qtbot, plot)
    use_mouse(plot, 150, 190)
    ((start, stop),) = told[-1]
    assert start == 100
    assert stop == pytest.approx(190, abs=2)
    plot.show_curves((curve(frames),), "counts", "overlaid", told[-1], "dark")
    settle(qtbot, plot)
    use_mouse(plot, 130, button=Qt.MouseButton.RightButton)
    assert told[-1] == ()


def test_found_segments_become_the_users_when_moved(qtbot, plot, frames):
    told = []
    shown = curve(frames)
    plot.background_changed.connect(told.append)
    plot.show_curves((shown,), "counts", "overlaid", (), "dark")
    settle(qtbot, plot)
    (first, *others) = shown.measurement.background.segments
    use_mouse(plot, first[1], first[1] - 20)
    assert told[-1][0] == pytest.approx((first[0], first[1] - 20), abs=2)
    assert list(told[-1][1:]) == others


def test_plot_over_time(qtbot):
    import pyqtgraph as pg  # after Qt, as the docks do

    plot = OverTimePlot()
    qtbot.addWidget(plot)
    plot.show_result(None, "dark")
    assert plot.canvas is None
    n = 5
    two = np.column_stack([np.linspace(50, 60, n), np.full(n, 70.0)])
    two[2] = np.nan
    found = OverTime(
        "nm", np.arange(n), np.arange(n) * 0.5, np.arange(40.0), np.ones((n, 40), np.float32),
        two, two * 0, two, two * 0 + 0.5, np.full(n, 80.0), np.full(n, 0.2), np.full(n, 20.0),
        np.zeros((n, 2)), ("", "", "no dip", "", ""),
    )  # fmt: skip
    for theme in ("dark", "light"):
        plot.show_result(found, theme)
    kymograph, diameters = plot.plots
    lines = diameters.listDataItems()
    assert [line.name() for line in lines] == ["d1", "d2", "l"]
    np.testing.assert_allclose(lines[0].xData, [0, 0.5, 1, 1.5, 2])
    assert diameters.getAxis("bottom").labelText == "Time [s]"
    assert kymograph.getAxis("left").labelText == "Position [nm]"
    band = next(item for item in diameters.items if isinstance(item, pg.FillBetweenItem))
    low, high = (np.nanmin(band.curves[0].yData), np.nanmax(band.curves[1].yData))
    assert (low, high) == pytest.approx((50 - 0.98, 60 + 0.98), abs=0.01)


def test_plot_over_time_says_that_no_frame_gave_a_number(qtbot):
    plot = OverTimePlot()
    qtbot.addWidget(plot)
    n, none = 4, np.full((4, 1), np.nan)
    found = OverTime(
        "px", np.arange(n), None, np.arange(30.0), np.ones((n, 30), np.float32), none, none, none, none,
        none[:, 0], none[:, 0], none[:, 0], np.zeros((n, 2)), ("no dip",) * n,
    )  # fmt: skip
    plot.show_result(found, "light")
    plot.show()
    plot.grab()  # draws, without a warning
    texts = [item.toPlainText() for item in plot.plots[1].items if hasattr(item, "toPlainText")]
    assert texts == ["No result on any frame"]
    assert plot.plots[1].getAxis("bottom").labelText == "Frame"


# ---- numbers


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (95.234, 0.41, "95.23 ± 0.41"),
        (95.234, 4.1, "95.2 ± 4.1"),
        (188.4, 15.2, "188 ± 15"),
        (-0.5, 0.25, "−0.50 ± 0.25"),
        (6.94, None, "6.9"),
        (-0.01, None, "0.0"),
        (None, None, "–"),
        (float("nan"), 1.0, "–"),
    ],
)
def test_numbers_have_as_many_digits_as_their_error(value, error, text):
    assert with_error(value, error) == text


def test_table_leaves_out_what_was_refused(frames):
    good = curve(frames)
    bad = Curve("LDE", "LDE", good.profile, refused="no dip")
    html = numbers_html((bad, good), None, "nm")
    assert "output" in html
    assert ">&nbsp;&nbsp;LDE<" not in html
    assert numbers_html((bad,), None, "nm") == ""
    assert with_transmission(0.5923, None) == "0.59"


def test_counts_say_what_bounds_them():
    found = SphereFit("nm", 1, 2, -3.21, 95.0, 5.0, (85.0, 106.0), 0.6, 4.0, 4.2)
    assert describe_counts(found) == (
        "Count fit: the centre is 3.2 nm off the line; smallest possible error of d: ± 4.2 nm (Cramér–Rao)."
    )
    assert describe_counts(SphereFit("nm", refused="no dip")) == "Count fit: no dip"


# ---- in napari


def test_menu_and_file_dialogs_know_it(make_napari_viewer, qtbot, frames, tmp_path):
    manager = PluginManager.instance()
    if PLUGIN not in manager:
        manager.register(PluginManifest.from_distribution(PLUGIN))
    viewer = make_napari_viewer()
    add_image(viewer, layer_tuple(Image(frames[1], SIZE_NM, GAIN, name="LDE")))
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Line profile")
    dock.control.choose_particles(1)
    dock.control.lines.add(viewer.layers["LDE"], LINE)
    qtbot.wait(40)
    state = dock.control.state
    qtbot.waitUntil(lambda: bool(state.curves) and state.curves[0].is_fresh, timeout=LONG)
    dock.keep_button.click()
    viewer.canvas.grid.enabled = True
    path = str(tmp_path / "saved.lines.json")
    viewer.layers.selection = {dock.control.lines.layer}
    assert viewer.layers.save(path, selected=True, plugin=PLUGIN) == [path]
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not dock.control._fits.is_busy, timeout=LONG)
    viewer.layers.remove("Line profiles")
    viewer.canvas.grid.enabled = False
    (layer,) = viewer.open(path, plugin=PLUGIN)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Line profile")
    assert dock.control.lines.layer is layer
    assert len(dock.control.state.rows) == 1
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not dock.control._fits.is_busy, timeout=LONG)
    qtbot.wait(20)


@pytest.mark.parametrize("size_nm", [SIZE_NM, None])
def test_kymograph_is_drawn_to_scale_beside_its_movie(make_napari_viewer, qtbot, frames, size_nm):
    viewer = make_napari_viewer()
    told = []
    notification_manager.notification_ready.connect(told.append)
    movie = Image(np.stack([frames[1]] * 3), size_nm, GAIN, 0.5, name="LDE movie")
    add_image(viewer, layer_tuple(movie))
    viewer.canvas.overlays.scale_bar.visible = True
    dock = ProfileDock(viewer)
    qtbot.addWidget(dock)
    control = dock.control
    control.choose_particles(1)
    control.lines.add(viewer.layers["LDE movie"], LINE)
    control.measure_over_time()
    qtbot.waitUntil(lambda: control.state.over_time is not None, timeout=LONG)
    dock.kymograph_button.click()
    viewer.screenshot(flash=False)  # draws
    notification_manager.notification_ready.disconnect(told.append)
    dock.close()
    assert viewer.layers["LDE movie kymograph"].visible
    assert not told
    qtbot.waitUntil(lambda: not control._fits.is_busy, timeout=LONG)
    qtbot.wait(20)
