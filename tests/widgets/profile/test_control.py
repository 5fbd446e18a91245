import csv
import time

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from scipy import ndimage

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.profile.control import ProfileControl
from napari_lowdose_tem.widgets.profile.state import parse_segments, segments_text
from napari_lowdose_tem.widgets.shared.layers import image_from_layer, layer_tuple, set_calibration
from napari_lowdose_tem.widgets.shared.viewer import add_image

LONG = 60_000
GAIN = 44.0
# nm: one particle, and two of the paper's sizes
ONE, PAIR = (150.0, 240.0, 96.0, 0.59), ((330.0, 300.0, 58.3, 0.6), (330.0, 378.4, 73.0, 0.6))
LDE_NM, LDE_SHAPE = (4.8, 6.0), (88, 100)
LINE = ((150 / 4.8, 120 / 6), (150 / 4.8, 372 / 6))  # through the centre of the one
PAIR_LINE = ((330 / 4.8, 210 / 6), (330 / 4.8, 480 / 6))


@pytest.fixture(scope="session")
def truth(spheres):
    """Transmission of one field, coarse with pixels that are not square, and four times finer."""
    particles = (ONE, *PAIR)
    hde_nm, hde_shape = tuple(s / 4 for s in LDE_NM), tuple(4 * n for n in LDE_SHAPE)
    shift = [1.5 * s for s in hde_nm]  # the first fine pixel lies by this before the first coarse one
    moved = tuple((r + shift[0], c + shift[1], d, t) for r, c, d, t in particles)
    return spheres(LDE_SHAPE, LDE_NM, particles), spheres(hde_shape, hde_nm, moved, finer=2), shift


@pytest.fixture
def images(truth):
    coarse, fine, shift = truth
    rng = np.random.default_rng(5)
    hde = Image(rng.poisson(fine * 4000).astype(np.float32), tuple(s / 4 for s in LDE_NM))
    lde = Image(rng.poisson(coarse * 20) * GAIN, LDE_NM, GAIN)
    error = ndimage.gaussian_filter(rng.normal(size=coarse.shape), 1.5)
    output = coarse * 20 * GAIN * (1 + 0.004 * error / error.std())
    return hde, lde, Image(output, LDE_NM, GAIN, provenance={"enhanced": {"model": "x"}}), shift


@pytest.fixture
def viewer(images):
    viewer = ViewerModel()
    hde, lde, output, shift = images
    add_image(viewer, layer_tuple(hde, "HDE", translate=[-s for s in shift]))
    add_image(viewer, layer_tuple(lde, "LDE"))
    add_image(viewer, layer_tuple(output, "LDE enhanced"))
    return viewer


@pytest.fixture
def control(viewer, qtbot):
    control = ProfileControl(viewer)
    yield control
    control.close()
    qtbot.waitUntil(lambda: not control._fits.is_busy, timeout=LONG)
    qtbot.wait(20)


def measured(qtbot, control, roles=("HDE", "LDE", "output")):
    """Wait until the profiles are measured and return the fits."""
    qtbot.wait(40)

    def is_there():
        curves = {curve.role: curve for curve in control.state.curves}
        return set(roles) <= set(curves) and all(curves[role].is_fresh for role in roles)

    qtbot.waitUntil(is_there, timeout=LONG)
    return {curve.role: curve.measurement for curve in control.state.curves}


def draw(control, *ends):
    control.lines.add(control.viewer.layers["LDE"], ends)


def test_known_diameter_on_all_three(qtbot, control):
    assert control.state.chosen == ("HDE", "LDE", "LDE enhanced")
    control.choose_particles(1)
    draw(control, *LINE)
    found = measured(qtbot, control)
    hde, output = found["HDE"].particles[0], found["output"].particles[0]
    assert hde.diameter == pytest.approx(96, abs=4 * hde.diameter_se)
    assert hde.diameter_se < 1
    assert output.diameter == pytest.approx(96, abs=2)
    assert hde.center == pytest.approx(120, abs=1)
    assert output.center == pytest.approx(120, abs=1)
    lengths = {round(curve.profile.length, 6) for curve in control.state.curves}
    assert lengths == {252.0}
    assert control.state.line_text.startswith("252 nm long")


def test_raw_counts_follow_when_the_line_rests(qtbot, control):
    control.choose_particles(1)
    draw(control, *LINE)
    qtbot.waitUntil(lambda: control.state.counts is not None, timeout=LONG)
    counts = control.state.counts
    assert counts.diameter == pytest.approx(96, abs=4 * counts.diameter_se)
    assert 0 < counts.bound < 1.5 * counts.diameter_se
    assert "Cramér–Rao" in control.state.counts_text
    set_calibration(control.viewer.layers["LDE"], LDE_NM, None)
    qtbot.waitUntil(lambda: "gain" in control.state.counts_text, timeout=LONG)
    assert control.state.counts is None


def test_pair_gives_its_separation_and_no_count_fit(qtbot, control):
    control.choose_particles(2)
    draw(control, *PAIR_LINE)
    found = measured(qtbot, control)["HDE"]
    assert [p.diameter for p in found.particles] == pytest.approx([58.3, 73.0], abs=1.0)
    assert found.separation == pytest.approx(78.4, abs=0.5)
    assert found.resolved
    qtbot.waitUntil(lambda: "one particle" in control.state.counts_text, timeout=LONG)


def test_choices_measure_anew(qtbot, control):
    control.choose_particles(1)
    draw(control, *LINE)
    full = measured(qtbot, control)["HDE"].particles[0].diameter
    control.choose_fit("paper")
    paper = measured(qtbot, control)["HDE"]
    assert paper.fit == "paper"
    assert paper.particles[0].diameter > full + 3  # its known bias
    control.set_width(30.0)
    control.choose_fit("full")
    measured(qtbot, control)
    widths = {curve.role: curve.profile.line.width_px for curve in control.state.curves}
    assert widths["LDE"] == pytest.approx(30 / np.sqrt(4.8 * 6))
    assert widths["HDE"] == pytest.approx(4 * widths["LDE"])
    assert control.lines.width == 30


def test_background_by_hand_is_used_and_belongs_to_its_line(qtbot, control):
    control.choose_particles(1)
    draw(control, *LINE)
    control.set_background("200–240, 0-50")
    assert control.state.background == ((0, 50), (200, 240))
    found = measured(qtbot, control)["HDE"]
    assert found.background.segments == ((0, 50), (200, 240))
    control.set_background("50–0")
    assert control.state.is_error
    assert "empty" in control.state.message
    assert control.state.background == ((0, 50), (200, 240))
    draw(control, *PAIR_LINE)
    assert control.state.background == ()
    control.choose_line(0)
    assert control.state.background == ((0, 50), (200, 240))
    control.set_background(())
    assert control.state.background == ()
    measured(qtbot, control)


def test_segments_are_read_and_written():
    assert parse_segments(" 120–150; 0-30 ,") == ((0, 30), (120, 150))
    assert parse_segments("") == ()
    assert segments_text(((0, 30), (120.25, 150))) == "0–30, 120.2–150"
    with pytest.raises(ValueError, match="not a segment"):
        parse_segments("a–b")


def test_refusal_has_its_reason(qtbot, control):
    draw(control, (5, 5), (5, 90))  # bare film
    found = measured(qtbot, control)
    assert found["HDE"].refused
    curve = control.state.curves[0]
    assert curve.reason == found["HDE"].refused
    draw(control, (5, 5), (5, 8))
    qtbot.waitUntil(lambda: "px long" in control.state.curves[1].reason, timeout=LONG)
    draw(control, (5, 5), (5, 300))
    qtbot.waitUntil(lambda: "outside" in control.state.curves[1].reason, timeout=LONG)


def test_layers_without_pixel_size_are_not_mixed_with_others(qtbot, viewer, control):
    viewer.add_image(np.ones((200, 500)), name="bare")
    control.choose_layer("HDE", "bare")
    draw(control, *LINE)
    qtbot.waitUntil(lambda: len(control.state.curves) == 3, timeout=LONG)
    assert "no pixel size" in control.state.curves[0].reason
    for role in ("LDE", "output"):
        control.choose_layer(role, "")
    qtbot.waitUntil(lambda: len(control.state.curves) == 1, timeout=LONG)
    assert control.state.unit == "px"
    assert control.state.curves[0].profile.unit == "px"


def test_roles_are_guessed_and_corrected(viewer, control):
    control.choose_layer("HDE", "LDE")
    assert control.state.chosen == ("LDE", "", "LDE enhanced")
    viewer.layers["LDE"].name = "renamed"
    assert control.state.chosen == ("renamed", "", "LDE enhanced")
    viewer.add_image(np.ones((4, 6)), name="new")
    assert control.state.chosen[0] == "renamed"
    assert "new" in control.state.layers


def test_layers_may_go_at_any_time(qtbot, viewer, control):
    control.choose_particles(1)
    draw(control, *LINE)
    measured(qtbot, control)
    viewer.layers.remove("HDE")
    qtbot.waitUntil(lambda: {c.role for c in control.state.curves} == {"LDE", "output"}, timeout=LONG)
    viewer.layers["LDE"].data = viewer.layers["LDE"].data[:40]
    qtbot.waitUntil(lambda: {c.role for c in control.state.curves} == {"LDE", "output"}, timeout=LONG)
    viewer.layers.remove(control.lines.layer)
    qtbot.waitUntil(lambda: control.state.curves == (), timeout=LONG)
    assert control.state.line == -1
    viewer.layers.clear()
    qtbot.waitUntil(lambda: control.state.chosen == ("", "", ""), timeout=LONG)
    control.draw()
    assert "Open an image" in control.state.message
    assert control.state.is_error


def test_dragging_updates_each_step_and_fits_the_newest(qtbot, control):
    control.choose_particles(1)
    draw(control, *LINE)
    measured(qtbot, control)
    layer = control.lines.layer
    asked, updates = [], []
    start = control._fits._start
    control._fits._start = lambda request: (asked.append(request), start(request))
    control.state.events.curves.connect(lambda curves: updates.append(curves[0].profile))
    began = time.monotonic()
    for step in range(40):
        layer._data_view.edit(0, np.array([[150.0, 120], [150 + step / 4, 372]]))
        layer.refresh()
        control.update()
        qtbot.wait(5)
    took = time.monotonic() - began
    assert len({id(profile) for profile in updates}) >= 40
    assert len(asked) <= 2 + took / 0.12  # the others were never begun
    measured(qtbot, control)
    (row, _), profile = LINE[0], control.state.curves[1].profile
    assert profile.line.stop[0] - row == pytest.approx(39 / 4 / 4.8)


def test_lazy_stack_is_read_in_a_job_once_a_frame(qtbot, viewer, control, truth):
    read = []
    frames = np.stack([truth[0] * 880 * (1 + 0.1 * i) for i in range(3)])

    def load(block, block_info=None):
        read.append(1)
        return block

    lazy = da.from_array(frames, chunks=(1, -1, -1)).map_blocks(load, meta=np.empty((0, 0, 0)))
    add_image(viewer, layer_tuple(Image(lazy, LDE_NM, GAIN), "lazy LDE", contrast_limits=(0, 9)))
    control.choose_layer("LDE", "lazy LDE")
    control.choose_particles(1)
    viewer.dims.set_current_step(0, 2)
    draw(control, *LINE)
    measured(qtbot, control)
    ground = control.state.curves[1].measurement.background.level
    assert ground == pytest.approx(880 * 1.2, rel=0.02)
    n_read = len(read)
    for _ in range(5):
        control.update()
    measured(qtbot, control)
    assert len(read) == n_read
    viewer.dims.set_current_step(0, 0)
    qtbot.waitUntil(
        lambda: (m := control.state.curves[1].measurement) and m.background.level < 900, timeout=LONG
    )


def test_unreadable_frame_is_told(qtbot, viewer, control):
    def load(block, block_info=None):
        raise OSError("disk gone")

    lazy = da.zeros((3, *LDE_SHAPE), chunks=(1, -1, -1)).map_blocks(load, meta=np.empty((0, 0, 0)))
    shown = layer_tuple(Image(lazy, LDE_NM), "lost LDE", contrast_limits=(0, 9))
    shown[1]["visible"] = False
    add_image(viewer, shown)
    control.choose_layer("LDE", "lost LDE")
    draw(control, *LINE)
    qtbot.waitUntil(lambda: any("disk gone" in curve.reason for curve in control.state.curves), timeout=LONG)


def test_snap_moves_the_line_onto_the_centre(qtbot, control):
    control.choose_particles(1)
    draw(control, (LINE[0][0] + 5, LINE[0][1]), (LINE[1][0] + 5, LINE[1][1]))  # 24 nm beside it
    off = measured(qtbot, control)["HDE"].particles[0].diameter
    assert off < 90
    control.snap()
    qtbot.waitUntil(lambda: "through the centre" in control.state.message, timeout=LONG)
    found = measured(qtbot, control)["HDE"].particles[0]
    assert found.diameter == pytest.approx(96, abs=1)


def test_kept_rows_live_in_the_layer(qtbot, viewer, control, tmp_path):
    control.keep()
    assert control.state.is_error
    control.choose_particles(1)
    draw(control, *LINE)
    measured(qtbot, control)
    control.keep()
    rows = control.state.rows
    assert [row.layer for row in rows] == ["HDE", "LDE", "LDE enhanced"]
    assert rows[0].frame is None
    control.kept.edit(0, note="the big one", name="A–B")
    control.kept.delete([1])
    assert [(row.name, row.note) for row in control.state.rows] == [("A–B", "the big one"), ("Line 1", "")]
    control.kept.save_table(tmp_path / "t.csv")
    with open(tmp_path / "t.csv", encoding="utf-8-sig", newline="") as file:
        first, _ = csv.DictReader(file)
    assert float(first["diameter_nm"]) == pytest.approx(96, abs=2)
    assert first["note"] == "the big one"
    control.kept.save_lines(tmp_path / "x.json")
    layer = control.lines.layer
    viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: control.state.rows == (), timeout=LONG)
    viewer.layers.append(layer)
    qtbot.waitUntil(lambda: len(control.state.rows) == 2, timeout=LONG)
    assert (tmp_path / "x.lines.json").exists()


def test_nothing_is_left_half_written(qtbot, control, tmp_path):
    control.choose_particles(1)
    draw(control, *LINE)
    measured(qtbot, control)
    control.save_figure(tmp_path / "figure.jpg")
    assert control.state.is_error
    assert ".png" in control.state.message
    control.save_figure(tmp_path / "missing" / "figure.png")
    assert control.state.is_error
    assert list(tmp_path.iterdir()) == []
    control.save_figure(tmp_path / "figure.svg")
    assert not control.state.is_error
    assert "HDE" in (tmp_path / "figure.svg").read_text(encoding="utf-8")


def test_over_time_follows_a_growing_particle(qtbot, viewer, control, spheres, tmp_path):
    sizes = (80.0, 88.0, 96.0, 104.0)
    frames = np.stack([spheres(LDE_SHAPE, LDE_NM, [(150, 240, d, 0.59)]) for d in sizes]) * 2e5
    stack = Image(np.random.default_rng(2).poisson(frames).astype(np.float32), LDE_NM, frame_time_s=0.5)
    viewer.layers.clear()
    add_image(viewer, layer_tuple(stack, "LDE movie"))
    assert control.state.stack == "LDE movie"
    control.measure_over_time()
    assert "Draw a line" in control.state.message
    control.choose_particles(1)
    control.lines.add(viewer.layers["LDE movie"], LINE)
    control.measure_over_time()
    assert control.state.time_running
    qtbot.waitUntil(lambda: not control.state.time_running, timeout=LONG)
    found = control.state.over_time
    np.testing.assert_allclose(found.diameter[:, 0], sizes, atol=1)
    np.testing.assert_allclose(found.time_s, [0, 0.5, 1, 1.5])
    assert control.state.message == "4 frames measured."
    control.kept.save_over_time(tmp_path / "time.csv")
    with open(tmp_path / "time.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["diameter_nm"]) for row in table] == pytest.approx(sizes, abs=1)
    control.time.add_kymograph()
    layer = viewer.layers["LDE movie kymograph"]
    assert layer.data.shape == (4, len(found.position))
    step = found.position[1] - found.position[0]
    np.testing.assert_allclose(layer.scale, (step * len(found.position) / 4, step))  # as high as wide
    assert layer.axis_labels == ("time", "position")
    assert "0.5 s per row" in control.state.message
    kept = image_from_layer(layer)
    assert kept.frame_time_s == 0.5
    assert kept.pixel_size_nm is None  # its rows have no height in the specimen
    assert [str(unit) for unit in viewer.layers.extent.units] == ["second", "nanometer", "nanometer"]
    assert layer.name not in control.state.layers


def test_over_time_is_cancelled(qtbot, viewer, control, truth):
    stack = Image(np.stack([truth[0] * 2e4] * 200), LDE_NM)
    viewer.layers.clear()
    add_image(viewer, layer_tuple(stack, "movie"))
    control.choose_particles(1)
    control.lines.add(viewer.layers["movie"], LINE)
    control.measure_over_time()
    qtbot.waitUntil(lambda: control.state.time_share > 0, timeout=LONG)
    control.time.cancel()
    qtbot.waitUntil(lambda: not control.state.time_running, timeout=LONG)
    assert control.state.message.startswith("Cancelled: ")
    assert 0 < len(control.state.over_time.frames) < 200
