import numpy as np
import pytest
from napari.components import ViewerModel

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.judge.comparison import compare_frames
from napari_lowdose_tem.pairs.grid import average_frames
from napari_lowdose_tem.widgets.compare.control import CompareControl
from napari_lowdose_tem.widgets.compare.field_of_view import Pyramid
from napari_lowdose_tem.widgets.compare.outlines import NAME
from napari_lowdose_tem.widgets.compare.state import cursor_texts, picture_of, position_text
from napari_lowdose_tem.widgets.shared.layers import layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import add_image, frame_index

LONG = 60_000
SIZE_NM, SHAPE, GAIN, FINER = (4.0, 5.0), (72, 96), 44.0, 4
PARTICLES = [(100, 140, 60, 0.4), (200, 330, 44, 0.5)]
DOSE = 50.0  # of the high dose over the low


@pytest.fixture(scope="session")
def clear(spheres):
    """Transmission of the field on the fine grid, and on the low-dose grid."""
    fine_nm = tuple(size / FINER for size in SIZE_NM)
    fine = spheres(tuple(n * FINER for n in SHAPE), fine_nm, PARTICLES, finer=1)
    return fine, fine.reshape(SHAPE[0], FINER, SHAPE[1], FINER).mean((1, 3))


def images(clear, n_frames=0, size_nm=SIZE_NM):
    """High dose on a finer grid, low dose and output; stacks where frames are asked for."""
    fine, coarse = clear
    rng = np.random.default_rng(2)
    shape = (n_frames, *SHAPE) if n_frames else SHAPE
    low = rng.poisson(np.broadcast_to(coarse * 8, shape)) * GAIN
    output = np.broadcast_to(coarse * 8 * GAIN, shape) + rng.normal(0, 3, shape)
    if n_frames:  # each frame can be told
        output = output + np.arange(n_frames)[:, None, None]
    fine_nm = tuple(size / FINER for size in size_nm) if size_nm else None
    return {
        "HDE": Image(fine * 8 * GAIN * DOSE, fine_nm, GAIN, name="HDE"),
        "LDE": Image(low.astype(np.uint16), size_nm, GAIN, name="LDE"),
        "output": Image(output, size_nm, GAIN, None, "output", {"enhanced": {"model": "x"}}),
    }


def add(viewer, *chosen):
    return [add_image(viewer, layer_tuple(image)) for image in chosen]


@pytest.fixture
def start(qtbot, clear):
    """Starts a control on a viewer with the images."""
    begun = []

    def begin(**options):
        viewer = ViewerModel()
        add(viewer, *images(clear, **options).values())
        control = CompareControl(viewer)
        begun.append(control)
        return control

    yield begin
    for control in begun:
        control.close()
        qtbot.waitUntil(lambda c=control: not c.is_busy, timeout=LONG)
    qtbot.wait(20)


def settle(qtbot, control):
    qtbot.waitUntil(lambda: control.state.is_fresh and not control.is_busy, timeout=LONG)


# ---- which layers


def test_roles_are_found_and_followed(qtbot, start, clear):
    control = start()
    viewer, state = control.viewer, control.state
    assert state.chosen == ("HDE", "LDE", "output")
    viewer.layers["LDE"].name = "low"
    assert state.chosen == ("HDE", "low", "output")
    viewer.layers.remove("output")
    assert state.chosen == ("HDE", "low", "")
    (again,) = add(viewer, images(clear)["output"])
    assert state.chosen == ("HDE", "low", "output")
    again.data = np.asarray(again.data) + 7
    control.update()
    shown = picture_of(state, "output").pixels
    np.testing.assert_array_equal(shown, again.data)
    viewer.layers.clear()
    control.update()
    assert state.chosen == ("", "", "")
    assert state.pictures == ()
    assert state.field is None


def test_choice_by_hand_stays_until_its_layer_goes(start, clear):
    control = start()
    viewer, state = control.viewer, control.state
    add(viewer, images(clear)["LDE"].with_data(np.ones(SHAPE), name="other"))
    control.choose_layer("LDE", "other")
    assert state.chosen == ("HDE", "other", "output")
    viewer.layers["other"].name = "renamed"
    assert state.chosen == ("HDE", "renamed", "output")
    control.choose_layer("HDE", "renamed")  # one layer has one role
    assert state.chosen == ("renamed", "", "output")
    viewer.layers.remove("renamed")
    assert state.chosen[0] == "HDE"
    control.choose_automatically()
    assert state.chosen == ("HDE", "LDE", "output")


def test_foreign_layers_are_no_images(start):
    control = start()
    control.viewer.add_labels(np.ones(SHAPE, int))
    control.viewer.add_image(np.zeros((5, 6, 3), np.uint8), rgb=True)
    control.viewer.add_points(np.ones((2, 2)))
    assert set(control.state.layers) == {"HDE", "LDE", "output"}


def test_closed_control_hears_nothing(qtbot, start, clear):
    control = start()
    settle(qtbot, control)
    control.close()
    before = control.state.layers, control.state.outlines
    add(control.viewer, images(clear)["LDE"].with_data(np.ones(SHAPE), name="later"))
    control.viewer.add_shapes([np.array([[0, 0], [9, 9]])], shape_type="line")
    control.viewer.cursor.position = (5, 5)
    control.viewer.layers["HDE"].contrast_limits = (0, 1)
    qtbot.wait(30)
    assert (control.state.layers, control.state.outlines) == before
    assert control.state.cursor is None
    for layer in control.viewer.layers:
        assert not any("compare" in str(ref) for ref in layer.events.data.callbacks)


# ---- where they lie


@pytest.mark.parametrize("size_nm", [SIZE_NM, None])
def test_one_place_has_the_values_of_one_particle(start, clear, size_nm):
    """The high dose is 4 times finer; calibrated or not, the cursor meets the same spot."""
    control = start(size_nm=size_nm)
    state = control.state
    unit = SIZE_NM if size_nm else (1.0, 1.0)
    center = [p / s * u for p, s, u in zip(PARTICLES[0][:2], SIZE_NM, unit, strict=True)]
    place = tuple(c + u / 2 for c, u in zip(center, unit, strict=True))  # pixels' centres are whole numbers
    control.point_at(place)
    for role in ("HDE", "output"):
        picture = picture_of(state, role)
        row, col = picture.placement.to_pixel(*place)
        finer = FINER if role == "HDE" else 1
        assert (row + 0.5) / finer == pytest.approx(place[0] / unit[0])
        assert (col + 0.5) / finer == pytest.approx(place[1] / unit[1])
    value = picture_of(state, "HDE").placement.value_at(picture_of(state, "HDE").pixels, *place)
    assert value / (8 * GAIN * DOSE) == pytest.approx(0.4, abs=0.03)
    assert ("nm" in position_text(state)) is (size_nm is not None)
    assert "LDE pixel (25, 28)" in position_text(state)
    scales = [tuple(layer.scale) for layer in control.viewer.layers]
    assert scales[0] != scales[1] if size_nm else scales[0] == scales[1]  # no layer was altered


def test_cursor_of_the_viewer_marks_the_same_place_image(start):
    control = start()
    control.viewer.cursor.position = (4.0 * 25, 5.0 * 28)
    assert control.state.cursor == pytest.approx((25.5 * 4, 28.5 * 5))
    control.viewer.cursor.position = (-40.0, 20.0)
    assert control.state.cursor is None


def test_frame_slider_leaves_the_cursor_where_it_is(start):
    control = start(n_frames=4)
    control.point_at((50.0, 60.0))
    control.viewer.dims.set_point(0, 2)
    control.viewer.cursor.position = (3.0, *control.viewer.cursor.position[-2:])
    assert control.state.cursor == (50.0, 60.0)


def test_values_and_transmission_beside_the_cursor(qtbot, start):
    control = start()
    settle(qtbot, control)
    control.point_at((PARTICLES[0][0] + 2, PARTICLES[0][1] + 2))
    texts = cursor_texts(control.state)
    for role in ("HDE", "output"):
        counts, transmission = texts[role].split(" counts · T ")
        assert float(transmission) == pytest.approx(0.41, abs=0.03)
        assert float(counts) == pytest.approx(0.41 * 8 * GAIN * (DOSE if role == "HDE" else 1), rel=0.08)
    control.point_at((-5.0, 3.0))
    assert set(cursor_texts(control.state).values()) == {"–"}


@pytest.mark.parametrize("shape", [(64, 96), (61, 97), (7, 1)])
def test_pyramid_keeps_the_mean_and_the_place(shape):
    pixels = np.random.default_rng(0).poisson(9, shape).astype(np.uint16)
    pyramid = Pyramid(pixels)
    level = pyramid.level(2)
    assert level.shape == (-(-shape[0] // 4), -(-shape[1] // 4))
    if shape == (64, 96):
        np.testing.assert_allclose(level, pixels.reshape(16, 4, 24, 4).mean((1, 3)))
    else:
        np.testing.assert_allclose(level[0, 0], pixels[:4, :4].mean() if shape[1] > 1 else pixels[:4].mean())


# ---- contrast


def test_limits_are_shared_and_the_high_dose_scaled(start):
    control = start()
    state = control.state
    limits = {picture.role: picture.limits for picture in state.pictures}
    assert limits["LDE"] == limits["output"] == state.limits
    np.testing.assert_allclose(np.array(limits["HDE"]) / limits["LDE"], DOSE, rtol=0.02)
    factor = float(state.contrast_text.partition("HDE × ")[2].partition(" ")[0])
    assert factor == pytest.approx(1 / DOSE, rel=0.02)
    low, high = limits["output"]
    assert low == pytest.approx(0.5 * 8 * GAIN, rel=0.3)  # of the structure, not of the noise
    assert high == pytest.approx(8 * GAIN, rel=0.1)
    control.set_limits(10, 30)
    control.update()
    assert picture_of(state, "output").limits == (10, 30)
    control.find_limits()
    control.update()
    assert picture_of(state, "output").limits == (low, high)


def test_limits_of_the_layers_when_asked_for(start):
    control = start()
    control.share_limits(False)
    control.viewer.layers["LDE"].contrast_limits = (3, 77)
    control.update()
    assert picture_of(control.state, "LDE").limits == (3, 77)
    assert "layer controls" in control.state.contrast_text


def test_other_units_are_not_shared(start, clear):
    control = start()
    layer = control.viewer.layers["output"]
    layer.data = np.asarray(clear[1], np.float32) * 0.9
    control.find_limits()
    control.update()
    assert picture_of(control.state, "output").limits == tuple(layer.contrast_limits)
    assert "Not the same limits" in control.state.contrast_text


# ---- stacks


def test_stack_is_followed_frame_by_frame(qtbot, start):
    control = start(n_frames=6)
    viewer = control.viewer
    for frame in (4, 1):
        viewer.dims.set_point(0, frame * viewer.dims.range[0].step)
        control.update()
        for role in ("LDE", "output"):
            np.testing.assert_array_equal(
                picture_of(control.state, role).pixels, viewer.layers[role].data[frame]
            )


def test_low_dose_is_averaged_over_frames(qtbot, start):
    control = start(n_frames=6)
    state = control.state
    assert state.averages == (1, 2, 4, 6)
    low = control._sources.of["LDE"][1]
    control.viewer.dims.set_point(0, 3)
    control.set_average(4)
    qtbot.waitUntil(lambda: "mean of 4" in picture_of(state, "LDE").title, timeout=LONG)
    settle(qtbot, control)
    np.testing.assert_allclose(picture_of(state, "LDE").pixels, average_frames(low, 3, 4))
    scores = {score.title: score.comparison for score in state.results.scores}
    assert scores["LDE"].psnr + 3 < scores["mean of 4"].psnr < scores["output"].psnr
    control.viewer.layers.remove("LDE")
    assert state.average == 1


def test_lazy_stack_is_read_in_a_job(qtbot, start, clear):
    import dask.array as da

    control = start(n_frames=6)
    layer = control.viewer.layers["LDE"]
    frames = np.array(layer.data)
    layer.data = da.from_array(frames, chunks=(1, -1, -1))
    control.viewer.dims.set_point(0, 2)

    def is_shown():
        return np.array_equal(picture_of(control.state, "LDE").pixels, frames[2])

    qtbot.waitUntil(is_shown, timeout=LONG)


# ---- numbers


def test_numbers_are_those_of_the_core(qtbot, start, clear):
    control = start()
    settle(qtbot, control)
    found = control.state.results
    reference = clear[1] * 8 * GAIN * DOSE
    for score in found.scores:
        expected = compare_frames(control.viewer.layers[score.title].data, reference)
        assert score.comparison.psnr == pytest.approx(expected.psnr, abs=0.01)
        assert score.comparison.affine_mae == pytest.approx(expected.affine_mae, rel=1e-3)
    assert found.residual.rms == pytest.approx(np.sqrt(8 * clear[1].mean()) * GAIN, rel=0.05)
    assert [h.name.split(" ×")[0] for h in found.histograms[False]] == ["HDE", "LDE", "output"]
    assert found.histograms[True][0].edges[-1] == 1
    assert control.state.residual_picture.pixels.shape == SHAPE


def test_region_is_drawn_once_and_bounds_the_numbers(qtbot, start, clear):
    control = start()
    state, viewer = control.state, control.viewer
    active = viewer.layers.selection.active
    control.mark_region((40.0, 60.0, 160.0, 235.0))
    assert viewer.layers.selection.active is active
    assert state.region == pytest.approx((40, 60, 160, 235))
    assert len(state.outlines) == 1
    settle(qtbot, control)
    region = slice(10, 40), slice(12, 47)
    expected = compare_frames(viewer.layers["output"].data, clear[1] * 8 * GAIN * DOSE, region)
    score = state.results.scores[-1].comparison
    assert score.n_px == 30 * 35
    assert score.mae == pytest.approx(expected.mae, rel=1e-3)
    # by its own tools in the viewer
    layer = viewer.layers[NAME]
    layer.data = [np.array([[0, 0], [0, 50], [80, 50], [80, 0]], float)]
    assert state.region == pytest.approx((2, 2.5, 82, 52.5))  # from the middle of a pixel to that of another
    viewer.layers.remove(NAME)
    assert state.region is None
    control.mark_region((5.0, 5.0, 5.5, 90.0))
    assert "empty" in state.message


def test_lines_of_the_viewer_are_seen_on_all(start):
    control = start()
    layer = control.viewer.add_shapes(
        [np.array([[10.0, 20.0], [60.0, 90.0]])], shape_type="line", scale=(4.0, 5.0), units=("nm", "nm")
    )
    ((first, last),) = control.state.outlines
    assert first == pytest.approx((10.5 * 4, 20.5 * 5))
    assert last == pytest.approx((60.5 * 4, 90.5 * 5))
    layer.visible = False
    assert control.state.outlines == ()


def test_lines_of_another_frame_are_not_seen(start):
    control = start(n_frames=4)
    line = np.array([[2.0, 10, 20], [2.0, 60, 90]])
    control.viewer.add_shapes([line], shape_type="line", scale=(1.0, 4.0, 5.0))
    control.viewer.dims.set_point(0, 0)
    assert control.state.outlines == ()
    control.viewer.dims.set_point(0, 2)
    assert len(control.state.outlines) == 1


def test_without_high_dose_residual_and_histograms_remain(qtbot, start):
    control = start()
    control.viewer.layers.remove("HDE")
    settle(qtbot, control)
    assert control.state.results.scores == ()
    assert control.state.results.residual is not None
    assert len(control.state.results.histograms[False]) == 2
    control.viewer.layers.remove("LDE")
    settle(qtbot, control)
    assert control.state.results.residual is None
    assert control.state.residual_picture is None


def test_images_that_cannot_be_one_field_are_told(qtbot, start):
    control = start(size_nm=None)
    control.viewer.layers["HDE"].data = np.random.default_rng(0).random((300, 70)) * 9000
    assert "cannot show the field" in control.state.note
    settle(qtbot, control)
    assert all(score.comparison is None and score.refused for score in control.state.results.scores)


# ---- registration and export


@pytest.fixture(scope="session")
def wide(spheres):
    """A large field with many particles, and the same seen 3 rows down and 5 columns to the left."""
    rng = np.random.default_rng(5)
    shape, size = (160, 224), (3.0, 3.0)
    particles = [
        (r, c, d, 0.3)
        for r, c, d in zip(
            rng.uniform(60, 420, 24), rng.uniform(60, 610, 24), rng.uniform(24, 60, 24), strict=True
        )
    ]
    moved = [(r + 9, c - 15, d, t) for r, c, d, t in particles]
    return [spheres(shape, size, found, finer=2) for found in (particles, moved)]


def test_high_dose_is_registered_kept_and_undone(qtbot, wide, tmp_path):
    high, low = wide
    viewer = ViewerModel()
    rng = np.random.default_rng(4)
    add(
        viewer,
        Image(high * 20_000, (3.0, 3.0), GAIN, name="HDE"),
        Image(rng.poisson(low * 200) * GAIN, (3.0, 3.0), GAIN, name="LDE"),
    )
    control = CompareControl(viewer)
    state = control.state
    settle(qtbot, control)
    before = state.results.scores[0].comparison.affine_mae
    control.register()
    assert state.registering
    qtbot.waitUntil(lambda: state.alignment is not None, timeout=LONG)
    assert state.alignment.similarity.shift_px == pytest.approx((3, -5), abs=0.1)
    down, right = (
        float(part.split()[-1]) for part in state.alignment.text.replace("−", "-").split(" nm")[:2]
    )
    assert (down, right) == pytest.approx((9, -15), abs=0.3)
    settle(qtbot, control)
    # what the high dose shows at row 10 lies 3 rows further down now
    assert picture_of(state, "HDE").placement.to_field(10, 20) == pytest.approx((13.5 * 3, 15.5 * 3), abs=0.4)
    assert state.results.scores[0].comparison.affine_mae < 0.8 * before
    control.show_unregistered(True)
    control.update()
    assert picture_of(state, "HDE").placement.to_field(10, 20) == pytest.approx((31.5, 61.5))
    control.accept_registration()
    assert not state.unregistered
    layer = viewer.layers["HDE"]
    assert layer.metadata["lowdose_tem"]["registered"]["to"] == "LDE"
    np.testing.assert_allclose(layer.scale, (3, 3))
    np.testing.assert_allclose(layer.translate, 0)
    other = CompareControl(viewer)  # opened again
    assert other.state.alignment.is_accepted
    assert other.state.alignment.similarity.shift_px == state.alignment.similarity.shift_px
    other.close()
    control.undo_registration()
    assert state.alignment is None
    assert "registered" not in layer.metadata["lowdose_tem"]
    assert layer.metadata["lowdose_tem"]["counts_per_electron"] == GAIN
    control.close()
    qtbot.waitUntil(lambda: not control.is_busy and not other.is_busy, timeout=LONG)
    qtbot.wait(20)


def test_turned_picture_lies_where_the_numbers_are_taken():
    """The matrix that views are drawn with and the resampling that numbers use are one transformation."""
    from scipy import ndimage

    from napari_lowdose_tem.pairs.similarity import Similarity
    from napari_lowdose_tem.widgets.compare.state import Alignment

    shape = (80, 130)
    frame = np.zeros(shape, np.float32)
    frame[20, 95] = 1
    found = Similarity((4.0, -7.0), 3.0, 1.02, shape=shape)
    moved = found.apply(ndimage.gaussian_filter(frame, 3))
    center = ndimage.center_of_mass(np.nan_to_num(moved))
    row, col = Alignment(found, "").matrix @ (20.5, 95.5, 1.0)
    assert (row - 0.5, col - 0.5) == pytest.approx(center, abs=0.2)


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_figure_is_written(qtbot, start, tmp_path, ending):
    control = start()
    control.mark_region((40.0, 60.0, 160.0, 235.0))
    control.save_figure(tmp_path / f"out{ending}", (20.0, 30.0, 200.0, 300.0))
    assert [path.name for path in tmp_path.iterdir()] == [f"out{ending}"]
    assert "Saved" in control.state.message
    control.save_figure(tmp_path / "out.bmp")
    assert control.state.is_error
    assert [path.name for path in tmp_path.iterdir()] == [f"out{ending}"]


def test_layers_are_made_of_what_is_shown(qtbot, start, clear):
    control = start(n_frames=4)
    viewer, state = control.viewer, control.state
    viewer.dims.set_point(0, 2)
    settle(qtbot, control)
    control.add_layer("HDE")
    (name,) = [layer.name for layer in viewer.layers if "on the grid" in layer.name]
    layer = viewer.layers[name]
    assert layer.data.shape == (1, *SHAPE)
    np.testing.assert_allclose(layer.data[0], clear[1] * 8 * GAIN * DOSE, rtol=1e-4)
    np.testing.assert_allclose(layer.scale[-2:], SIZE_NM)
    assert frame_index(viewer, layer) == 0
    control.add_layer("residual")
    low, output = (np.asarray(viewer.layers[n].data[2], float) for n in ("LDE", "output"))
    np.testing.assert_allclose(viewer.layers["LDE − output"].data[0], low - output, rtol=1e-4, atol=0.01)
    assert "LDE − output" not in state.layers  # or it would be taken for an image of the field
