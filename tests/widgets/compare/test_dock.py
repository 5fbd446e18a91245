import time

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.settings import get_settings
from npe2 import PluginManager, PluginManifest
from qtpy.QtCore import QEvent, QPoint, QPointF, QRectF, Qt
from qtpy.QtGui import QImage, QMouseEvent, QPainter, QTransform, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDockWidget, QFileDialog

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.compare.dock import CompareDock
from napari_lowdose_tem.widgets.compare.field_of_view import Placement, Pyramid
from napari_lowdose_tem.widgets.compare.paint import make_image, paint_picture
from napari_lowdose_tem.widgets.compare.state import Picture, picture_of
from napari_lowdose_tem.widgets.shared.layers import layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import add_image

PLUGIN = "napari-lowdose-tem"
LONG = 60_000
SIZE_NM, SHAPE = (4.0, 5.0), (72, 96)


def images(n_frames=0):
    rng = np.random.default_rng(1)
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]]
    clear = 300 - 180 * (((rows - 24) * 4.0) ** 2 + ((cols - 60) * 5.0) ** 2 < 50**2)
    shape = (n_frames, *SHAPE) if n_frames else SHAPE
    fine = np.kron(clear, np.ones((4, 4))) * 100.0
    return (
        Image(fine, (1.0, 1.25), 44.0, name="HDE"),
        Image(rng.poisson(np.broadcast_to(clear / 44, shape)) * 44, SIZE_NM, 44.0, name="LDE"),
        Image(
            np.broadcast_to(clear * 1.0, shape) + 1e-3,
            SIZE_NM,
            44.0,
            None,
            "out",
            {"enhanced": {"model": "x"}},
        ),
    )


def add(viewer, *chosen):
    return [add_image(viewer, layer_tuple(image)) for image in chosen]


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def empty(viewer, qtbot):
    dock = CompareDock(viewer)
    qtbot.addWidget(dock)
    dock.resize(1500, 430)
    dock.show()
    yield dock
    dock.close()
    qtbot.waitUntil(lambda: not dock.control.is_busy, timeout=LONG)
    qtbot.wait(20)


@pytest.fixture
def dock(empty, viewer, qtbot):
    add(viewer, *images())
    settle(qtbot, empty)
    return empty


def settle(qtbot, dock):
    control = dock.control
    qtbot.waitUntil(lambda: control.state.is_fresh and not control.is_busy, timeout=LONG)


def choose(box, value):
    box.setCurrentIndex(box.findData(value))
    box.activated.emit(box.currentIndex())


def drag(view, start, stop):
    QTest.mousePress(view, Qt.MouseButton.LeftButton, pos=start)
    move(view, (start + stop) / 2)
    move(view, stop)
    QTest.mouseRelease(view, Qt.MouseButton.LeftButton, pos=stop)


def move(view, at):
    at, none = QPointF(at), Qt.KeyboardModifier.NoModifier
    kind, button = QEvent.Type.MouseMove, Qt.MouseButton.NoButton
    QApplication.sendEvent(view, QMouseEvent(kind, at, view.mapToGlobal(at), button, button, none))


def to_screen(view, row, col):
    return view.transform.map(QPointF(col, row)).toPoint()


def test_empty_dock_says_what_to_do(empty):
    hints = {role: view.hint for role, view in empty.views.views.items() if role != "residual"}
    assert "Enhance dock" in hints["output"]
    assert "sample" in hints["LDE"]
    assert empty.numbers_note.text().startswith("Open")
    for disabled in (empty.figure_button, empty.register_button, empty.region_button, empty.undo_button):
        assert not disabled.isEnabled()
    empty.grab()


def test_three_views_numbers_and_histograms_appear(dock):
    state = dock.control.state
    assert [view.pictures[0].role for view in list(dock.views.views.values())[:3]] == ["HDE", "LDE", "output"]
    for text in ("PSNR", "LDE", "output"):
        assert text in dock.numbers_label.text()
    assert "LDE grid" in dock.numbers_note.text()
    dock.tabs.setCurrentIndex(2)
    (plot,) = dock.plot.plots
    assert plot.getAxis("left").logMode
    assert plot.getAxis("bottom").labelText == "Value [counts]"
    choose(dock.histogram_box, True)
    assert "Scaled" in dock.plot.plots[0].getAxis("bottom").labelText
    assert "separation (σ)" in dock.histogram_note.text()
    dock.tabs.setCurrentIndex(1)
    assert "r.m.s." in dock.residual_note.text()
    dock.residual_box.click()
    assert dock.views.views["residual"].pictures == (state.residual_picture,)
    assert dock.views.views["residual"].isVisible()
    dock.control.point_at((20.0, 30.0))
    assert float(dock.value_labels["residual"].text().split()[1].replace("−", "-")) == pytest.approx(
        float(state.residual_picture.pixels[5, 6]), rel=0.01
    )


def test_views_turn_jointly_and_share_the_cursor(qtbot, dock):
    views = dock.views.views
    move(views["output"], to_screen(views["output"], 98, 302))
    row, col = dock.control.state.cursor
    assert (row, col) == pytest.approx((98, 302), abs=2)
    assert dock.value_labels["HDE"].text().endswith("T 0.40")
    assert "LDE pixel (24, 60)" in dock.position_label.text()
    before = views["HDE"].zoom
    drag(views["LDE"], QPoint(50, 60), QPoint(80, 100))
    zoom = views["LDE"].zoom
    assert views["HDE"].center == views["output"].center
    assert views["HDE"].center == pytest.approx((144 - 40 / zoom, 240 - 30 / zoom))
    assert zoom == pytest.approx(before, rel=0.01)  # views may differ in width by a pixel
    place = views["LDE"].to_field(QPointF(70, 90))
    wheel(views["LDE"], QPointF(70, 90), 480)
    assert views["HDE"].zoom == views["LDE"].zoom == pytest.approx(zoom * 1.0015**480)
    assert views["LDE"].to_field(QPointF(70, 90)) == pytest.approx(place)  # what is under the mouse stays
    dock.fit_button.click()
    assert views["HDE"].zoom == pytest.approx(before)


def wheel(view, at, delta):
    none = Qt.KeyboardModifier.NoModifier
    view.wheelEvent(
        QWheelEvent(at, view.mapToGlobal(at), QPoint(), QPoint(0, delta), Qt.MouseButton.NoButton, none,
                    Qt.ScrollPhase.NoScrollPhase, False)
    )  # fmt: skip


def test_region_is_dragged_in_a_view(qtbot, dock):
    view = dock.views.views["LDE"]
    dock.region_button.click()
    drag(view, to_screen(view, 40, 60), to_screen(view, 200, 300))
    state = dock.control.state
    assert state.region == pytest.approx((40, 60, 200, 300), abs=2.5)
    assert not dock.region_button.isChecked()
    settle(qtbot, dock)
    assert "inside the region" in dock.numbers_note.text()
    assert dock.region_note.text().startswith("Region")
    dock.region_box.click()
    settle_after(qtbot, dock, lambda: "whole frame" in dock.numbers_note.text())
    dock.clear_button.click()
    assert state.region is None


def settle_after(qtbot, dock, condition):
    qtbot.waitUntil(condition, timeout=LONG)
    settle(qtbot, dock)


def pixel(view, at):
    return view.grab().toImage().pixelColor(at)


def test_swipe_shows_two_pictures_divided(qtbot, dock):
    choose(dock.mode_box, "swipe")
    dock.control.choose_pair(0, "HDE")
    dock.control.choose_pair(1, "output")
    dock.control.share_limits(False)
    dock.control.viewer.layers["HDE"].contrast_limits = (1e6, 2e6)  # black
    dock.control.viewer.layers["out"].contrast_limits = (-10, 0)  # white
    dock.control.update()
    view = dock.views.pair_view
    assert view.isVisible()
    assert not dock.views.views["LDE"].isVisible()
    middle = view.width() // 2
    y = view.height() // 2
    assert pixel(view, QPoint(middle - 40, y)).lightness() < 40
    assert pixel(view, QPoint(middle + 40, y)).lightness() > 220
    drag(view, QPoint(middle, y), QPoint(middle + 80, y))
    assert view.divider == pytest.approx((middle + 80) / view.width(), abs=0.01)
    assert pixel(view, QPoint(middle + 40, y)).lightness() < 40


def test_blink_alternates_and_ends(qtbot, dock):
    choose(dock.mode_box, "blink")
    dock.blink_box.setValue(100)
    seen = set()

    def both():
        seen.add(dock.views.pair_view.pictures[0].role)
        return len(seen) == 2

    qtbot.waitUntil(both, timeout=LONG)
    assert seen == {"LDE", "output"}
    choose(dock.pair_boxes[0], "output")  # the two change places
    assert dock.control.state.pair == ("output", "LDE")
    dock.control.viewer.layers.remove("LDE")
    dock.control.update()
    assert not dock.views.is_blinking
    choose(dock.mode_box, "side")
    assert not dock.views.pair_view.isVisible()


def test_overlay_of_equal_pictures_is_grey(qtbot, dock):
    dock.overlay_button.click()
    assert dock.control.state.pair == ("HDE", "LDE")
    dock.control.choose_pair(1, "output")
    color = pixel(dock.views.pair_view, to_screen(dock.views.pair_view, 240, 60))
    assert abs(color.red() - color.green()) < 12
    assert color.red() == color.blue() > 150


def test_choices_reach_the_state(qtbot, dock, tmp_path, monkeypatch):
    state = dock.control.state
    choose(dock.contrast_box, False)
    assert not state.shared
    dock.control.update()
    assert not dock.limits_row.isVisible()
    choose(dock.contrast_box, True)
    dock.control.update()
    assert dock.limits_row.isVisible()
    dock.limit_boxes[1].setValue(999)
    dock.control.update()
    assert picture_of(state, "LDE").limits[1] == 999
    dock.auto_button.click()
    dock.control.update()
    assert picture_of(state, "LDE").limits[1] < 400
    choose(dock.role_boxes["HDE"], "")
    assert state.chosen == ("", "LDE", "out")
    settle(qtbot, dock)
    assert "choose one as HDE" in dock.numbers_note.text()
    assert not dock.register_button.isEnabled()
    dock.choose_button.click()
    assert state.chosen == ("HDE", "LDE", "out")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(tmp_path / "f"), "SVG (*.svg)"))
    dock.figure_button.click()
    assert [path.name for path in tmp_path.iterdir()] == ["f.svg"]
    settle(qtbot, dock)
    dock.layer_actions["residual"].trigger()
    assert "LDE − output" in dock.control.viewer.layers


def test_layers_come_change_and_go_without_an_error(qtbot, dock, viewer):
    for step in range(3):
        for layer in list(viewer.layers):
            layer.name = f"{layer.name} {step}"
        viewer.layers[f"LDE {step}"].data = np.ones((3, 40, 60))
        viewer.layers.move(0, 2)
        viewer.dims.set_point(0, 1)
        qtbot.wait(5)
        viewer.layers.clear()
        qtbot.wait(5)
        assert dock.control.state.pictures == ()
        add(viewer, *images(step * 2))
        dock.grab()
    settle(qtbot, dock)
    assert dock.control.state.message == ""


def test_narrow_dock_has_its_parts_below_each_other(qtbot, dock):
    dock.resize(500, 1100)
    qtbot.wait(20)
    assert dock.tabs.y() > dock.views.mapTo(dock, QPoint()).y()
    dock.resize(1500, 430)
    qtbot.wait(20)
    assert dock.tabs.x() > dock.views.mapTo(dock, QPoint()).x() + dock.views.width() - 1


def test_scrubbing_is_fast(qtbot, empty, viewer):
    n = 200
    add(viewer, *images(n))
    settle(qtbot, empty)
    began = time.thread_time()
    for frame in range(60):
        viewer.dims.set_point(0, frame)
        empty.control.update()
        empty.views.repaint()
    assert (time.thread_time() - began) / 60 < 0.05


# ---- painting


def paint(picture, view, size=(40, 30)):
    image = QImage(*size, QImage.Format.Format_RGB32)
    image.fill(0)
    painter = QPainter(image)
    paint_picture(painter, picture, view, QRectF(0, 0, *size))
    painter.end()
    return np.array([[image.pixelColor(x, y).red() for x in range(size[0])] for y in range(size[1])])


def make_picture(pixels, step):
    placement = Placement(pixels.shape, np.array([[step[0], 0, 0], [0, step[1], 0.0]]))
    return Picture("LDE", "", Pyramid(pixels), placement, (0.0, 255.0))


def test_pixels_are_drawn_where_they_lie():
    pixels = np.zeros((6, 8), np.float32)
    pixels[1, 6] = 255
    drawn = paint(make_picture(pixels, (5.0, 5.0)), QTransform())
    expected = np.zeros((30, 40))
    expected[5:10, 30:35] = 255
    np.testing.assert_array_equal(drawn, expected)
    shifted = paint(make_picture(pixels, (5.0, 5.0)), QTransform.fromTranslate(-5, 10))
    np.testing.assert_array_equal(shifted[15:20, 25:30], 255)
    assert shifted.sum() == 255 * 25


def test_large_frames_are_drawn_as_means():
    """One in four pixels bright: by nearest neighbours it would be all or nothing."""
    pixels = np.zeros((480, 640), np.uint16)
    pixels[::2, ::2] = 255
    drawn = paint(make_picture(pixels, (1.0, 1.0)), QTransform.fromScale(1 / 16, 1 / 16))
    np.testing.assert_allclose(drawn[2:-2, 2:-2], 255 / 4, atol=2)


def test_what_is_not_finite_is_black():
    image = make_image(np.array([[np.nan, np.inf, -np.inf, 5]], np.float32), (0.0, 10.0), None)
    assert [image.pixelColor(x, 0).red() for x in range(4)] == [0, 255, 0, 127]


# ---- in napari


@pytest.fixture
def full_viewer(make_napari_viewer):
    manager = PluginManager.instance()
    if PLUGIN not in manager:
        manager.register(PluginManifest.from_distribution(PLUGIN))
    return make_napari_viewer()


def test_it_opens_where_the_user_put_it(full_viewer, qtbot, monkeypatch):
    positions = get_settings().application.plugin_widget_positions
    for name in ("Compare (Enhance low-dose TEM)", f"Compare ({PLUGIN})"):
        monkeypatch.delitem(positions, name, raising=False)
    below, right = Qt.DockWidgetArea.BottomDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea
    window = full_viewer.window._qt_window
    window.show()
    for placed, area in ((f"Compare ({PLUGIN})", right), ("Compare (Enhance low-dose TEM)", below)):
        with monkeypatch.context() as patch:
            patch.setitem(positions, placed, "right")
            holder, dock = full_viewer.window.add_plugin_dock_widget(PLUGIN, "Compare")
            qtbot.wait(300)
            assert window.dockWidgetArea(holder) == area
            full_viewer.window.remove_dock_widget(dock)


def test_it_opens_below_the_canvas_and_closes(full_viewer, qtbot, monkeypatch):
    monkeypatch.setattr("napari_lowdose_tem.widgets.compare.dock.placed_by_user", frozenset)
    viewer = full_viewer
    viewer.window._qt_window.show()
    add(viewer, *images(3))
    holder, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Compare")
    assert isinstance(holder, QDockWidget)
    below, window = Qt.DockWidgetArea.BottomDockWidgetArea, viewer.window._qt_window
    qtbot.waitUntil(lambda: window.dockWidgetArea(holder) == below, timeout=LONG)
    assert dock.sizeHint().height() >= 430  # or Qt gives it what the form needs, and the views nothing
    settle(qtbot, dock)
    viewer.dims.set_point(0, 2)
    qtbot.waitUntil(
        lambda: np.shares_memory(picture_of(dock.control.state, "LDE").pixels, viewer.layers["LDE"].data[2]),
        timeout=LONG,
    )
    control = dock.control
    viewer.window.remove_dock_widget(dock)
    assert not dock.is_open
    viewer.layers["LDE"].name = "other"
    assert control.state.chosen[1] != "other"
    qtbot.waitUntil(lambda: not control.is_busy, timeout=LONG)
    qtbot.wait(20)


def test_menu_has_it():
    manifest = PluginManifest.from_distribution(PLUGIN)
    commands = {command.id: command.title for command in manifest.contributions.commands}
    assert commands[f"{PLUGIN}.compare"] == "Compare"
    items = [item.command for item in manifest.contributions.menus["napari/layers/measure"]]
    assert f"{PLUGIN}.compare" in items
