import numpy as np
import pytest
from napari.components import ViewerModel

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.profile.lines import LineLayers
from napari_lowdose_tem.widgets.shared.layers import layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import add_image

LONG = 5000


@pytest.fixture
def viewer():
    """HDE and LDE of one field, finer and coarser by 4; the LDE's pixels are twice as wide as high."""
    viewer = ViewerModel()
    hde, lde = np.ones((160, 288)), np.ones((40, 36))
    add_image(viewer, layer_tuple(Image(hde, (1.2, 1.2)), "HDE"))
    add_image(viewer, layer_tuple(Image(lde, (4.8, 9.6)), "LDE"))
    return viewer


@pytest.fixture
def lines(viewer, qtbot):
    told = []
    lines = LineLayers(viewer, lambda: told.append(lines.name))
    lines.told = told
    yield lines
    lines.close()


def draw(lines, image, *ends):
    lines.add(image, ends)
    return lines.layer


def names(viewer):
    return [layer.name for layer in viewer.layers]


def test_line_shows_the_same_place_on_every_image(viewer, lines):
    lde, hde = viewer.layers["LDE"], viewer.layers["HDE"]
    draw(lines, lde, (10, 5), (30, 25))
    np.testing.assert_allclose(lines.ends, [[48, 48], [144, 240]])  # nm
    np.testing.assert_allclose(lines.ends_on(lde), [(10, 5), (30, 25)])
    np.testing.assert_allclose(lines.ends_on(hde), [(40, 40), (120, 200)])


def test_line_follows_shift_unit_and_frame_axis(viewer, lines):
    lde = viewer.layers["LDE"]
    draw(lines, lde, (10, 5), (30, 25))
    # the same field in µm, one pixel shifted, as a stack
    stack = viewer.add_image(
        np.ones((3, 40, 36)),
        scale=(0.5, 0.0048, 0.0096),
        translate=(0, 0.0048, -0.0096),
        units=("s", "um", "um"),
    )
    np.testing.assert_allclose(lines.ends_on(stack), [(9, 6), (29, 26)], atol=1e-9)
    ends = lines.ends_from(stack, [(9, 6), (29, 26)])
    np.testing.assert_allclose(ends, lines.ends, atol=1e-9)


def test_each_line_gets_a_name_and_the_chosen_one_is_told(viewer, lines):
    lde = viewer.layers["LDE"]
    layer = draw(lines, lde, (10, 5), (30, 25))
    draw(lines, lde, (5, 5), (5, 30))
    assert lines.names == ("Line 1", "Line 2")
    assert list(layer.features["name"]) == ["Line 1", "Line 2"]
    assert lines.name == "Line 2"
    layer.selected_data = {0}
    assert lines.name == lines.told[-1] == "Line 1"
    layer.selected_data = set()  # a click beside it
    assert lines.name == "Line 1"
    lines.rename("A–B")
    assert lines.names == ("A–B", "Line 2")
    layer.selected_data = {0}
    layer.remove_selected()
    assert lines.names == ("Line 2",)
    assert lines.name == "Line 2"


def test_other_shapes_are_no_lines(viewer, lines):
    layer = draw(lines, viewer.layers["LDE"], (10, 5), (30, 25))
    layer.add(np.array([[0, 0], [0, 9], [9, 9], [9, 0]]), shape_type="rectangle")
    layer.selected_data = {1}
    assert lines.current == 0
    layer.selected_data = {0}
    layer.remove_selected()
    assert lines.current == -1
    assert lines.ends is None


def test_dragging_is_told_at_each_step(viewer, lines):
    layer = draw(lines, viewer.layers["LDE"], (10, 5), (30, 25))
    before = len(lines.told)
    for step in range(5):  # as napari does while the mouse moves
        layer._data_view.edit(0, np.array([[48.0, 48], [144, 240 + step + 1]]))
        layer.refresh()
    assert len(lines.told) == before + 5
    assert lines.ends[1, 1] == 245
    layer.refresh()
    assert len(lines.told) == before + 5


def test_layer_with_lines_is_taken_when_selected(viewer, lines):
    other = viewer.add_shapes([np.array([[1.0, 2], [3, 40]])], shape_type="line", units=("nm", "nm"))
    assert lines.layer is other
    np.testing.assert_allclose(lines.ends, [[1, 2], [3, 40]])
    draw(lines, viewer.layers["LDE"], (10, 5), (30, 25))
    assert len(other.data) == 2  # no second layer


def test_line_is_a_band_as_wide_as_the_profile(viewer, lines):
    layer = draw(lines, viewer.layers["LDE"], (10, 5), (30, 25))
    viewer.scene.camera.zoom = 2
    lines.set_width(24.0)
    assert layer.edge_width == [24.0]
    assert 0.2 < layer.edge_color[0, 3] < 0.6
    lines.set_width(0.5)  # too thin to be seen
    assert layer.edge_width == [1.0]
    assert layer.edge_color[0, 3] == 1
    viewer.scene.camera.zoom = 8
    assert layer.edge_width == [0.25]


def test_grid_has_the_line_above_each_image(viewer, lines, qtbot):
    viewer.add_image(np.ones((40, 36)), scale=(4.8, 9.6), units=("nm", "nm"), name="output")
    layer = draw(lines, viewer.layers["LDE"], (10, 5), (30, 25))
    order = names(viewer)
    viewer.layers.selection.active = viewer.layers["HDE"]
    viewer.canvas.grid.enabled = True
    qtbot.waitUntil(lambda: len(viewer.layers) == 6, timeout=LONG)
    assert names(viewer) == ["HDE", "Line on HDE", "LDE", "Line on LDE", "output", layer.name]
    assert viewer.layers.selection.active.name == "HDE"
    grid = viewer.canvas.grid
    assert abs(grid.stride) == 2
    cells = [grid.position(i, viewer.layers) for i in range(6)]
    assert cells[::2] == cells[1::2]
    assert len(set(cells)) == 3
    mirror = viewer.layers["Line on HDE"]
    for _ in range(2):
        np.testing.assert_allclose(mirror.data[0], layer.data[0])
        layer._data_view.edit(0, np.array([[50.0, 48], [144, 200]]))
        layer.refresh()
    assert not mirror.editable
    viewer.canvas.grid.enabled = False
    qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=LONG)
    assert names(viewer) == order
    assert abs(grid.stride) == 1


def test_grid_follows_layers_that_come_go_and_hide(viewer, lines, qtbot):
    layer = draw(lines, viewer.layers["LDE"], (10, 5), (30, 25))
    viewer.canvas.grid.enabled = True
    qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=LONG)
    viewer.add_image(np.ones((40, 36)), name="new")
    qtbot.waitUntil(lambda: len(viewer.layers) == 6, timeout=LONG)
    assert names(viewer) == ["HDE", "Line on HDE", "LDE", "Line on LDE", "new", layer.name]
    viewer.layers["HDE"].visible = False
    qtbot.waitUntil(lambda: not viewer.layers["Line on HDE"].visible, timeout=LONG)
    viewer.layers["new"].visible = False
    grid = viewer.canvas.grid
    qtbot.waitUntil(lambda: names(viewer)[2:4] == ["LDE", layer.name], timeout=LONG)
    assert grid.actual_shape(viewer.layers) == (1, 1)
    viewer.layers["new"].visible = True
    viewer.layers.remove("LDE")
    qtbot.waitUntil(lambda: names(viewer) == ["HDE", "Line on HDE", "new", layer.name], timeout=LONG)
    viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: names(viewer) == ["HDE", "new"], timeout=LONG)
    assert lines.current == -1


def test_mirrors_go_with_the_dock_and_lines_stay(viewer, qtbot):
    lines = LineLayers(viewer, lambda: None)
    layer = draw(lines, viewer.layers["LDE"], (10, 5), (30, 25))
    viewer.canvas.grid.enabled = True
    qtbot.waitUntil(lambda: len(viewer.layers) == 4, timeout=LONG)
    lines.close()
    assert names(viewer) == ["HDE", "LDE", layer.name]
    viewer.add_image(np.ones((4, 6)))
    viewer.canvas.grid.enabled = False
    layer.data = []
    qtbot.wait(30)
    assert len(viewer.layers) == 4


def test_drawing_starts_in_line_mode(viewer, lines):
    lines.draw(viewer.layers["LDE"])
    assert viewer.layers.selection.active is lines.layer
    assert lines.layer.mode == "add_line"
    assert [str(unit) for unit in lines.layer.units] == ["nanometer", "nanometer"]
    assert lines.current == -1


class Press:
    """A mouse event as napari passes it to callbacks."""

    type = "mouse_press"


def test_drawn_line_can_be_adjusted_at_once(viewer, lines, qtbot):
    lines.draw(viewer.layers["LDE"])
    layer, event = lines.layer, Press()
    (steps,) = [call(layer, event) for call in layer.mouse_drag_callbacks if call == lines._on_mouse]
    next(steps)
    layer.add(np.array([[48.0, 48], [50, 50]]), shape_type="line")
    event.type = "mouse_move"
    next(steps)
    qtbot.wait(20)
    assert layer.mode == "add_line"  # not before it ends
    event.type = "mouse_release"
    assert next(steps, None) is None
    qtbot.waitUntil(lambda: layer.mode == "direct", timeout=LONG)
    lines.close()
    assert lines._on_mouse not in layer.mouse_drag_callbacks
