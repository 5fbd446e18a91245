import numpy as np
import pytest

from napari_lowdose_tem.measure import (
    Line,
    SphereFit,
    fit_counts,
    fit_sphere,
    sample_line,
    snap_to_center,
)
from napari_lowdose_tem.measure.errors import bound_sphere
from napari_lowdose_tem.simulate.camera import IDEAL, MEASURED, expose

PX = 4.8
SIZE = (PX, PX)
CENTER = (146.0, 175.0)


@pytest.fixture(scope="module")
def sphere(render):
    return render((61, 73), [(*CENTER, 96.0, 0.59)], 1.06 * PX, SIZE, level=1.0)


def beside(offset, angle=0.0):
    """Line that passes the centre at a distance [nm]."""
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    middle = np.array(CENTER) + offset * across
    return Line(tuple((middle - 95 * along) / PX), tuple((middle + 100 * along) / PX))


@pytest.mark.parametrize(("offset", "angle"), [(0, 0), (10, 0), (-24, 0), (20, 0.8)])
def test_the_bias_of_a_line_beside_the_centre_is_gone(sphere, offset, angle):
    found = fit_sphere(1000 * sphere, beside(offset, angle), SIZE)
    assert found.diameter == pytest.approx(96, rel=1e-3)
    assert (found.row_px * PX, found.col_px * PX) == pytest.approx(CENTER, abs=0.1)
    # right of the line's direction is towards larger rows for a line along the columns
    assert found.off_line == pytest.approx(-offset, abs=0.1)
    assert found.t_min == pytest.approx(0.59, abs=0.003)


def test_pixels_need_not_be_square(render):
    size = (3.0, 6.0)
    image = render((110, 60), [(160.0, 170.0, 96.0, 0.59)], 6.0, size)
    found = fit_sphere(image, Line((165 / 3, 60 / 6), (165 / 3, 280 / 6)), size)
    assert found.diameter == pytest.approx(96, rel=3e-3)


def test_a_neighbour_is_left_out(render):
    image = render((75, 80), [(*CENTER, 80.0, 0.6), (250.0, 175.0, 90.0, 0.5)], 4.0, SIZE)
    found = fit_sphere(image, Line((146 / PX, 15), (146 / PX, 58)), SIZE)
    assert found.diameter == pytest.approx(80, abs=0.8)


def test_snapping_moves_the_line_across_itself(sphere):
    line = beside(20, 0.8)
    moved = snap_to_center(sphere, line, SIZE)
    assert moved.length_px == pytest.approx(line.length_px)
    profile = sample_line(sphere, moved, SIZE)
    row, col = profile.locate(95.0)
    assert (row * PX, col * PX) == pytest.approx(CENTER, abs=0.2)
    step = np.subtract(moved.start, line.start)
    assert step @ np.subtract(line.stop, line.start) == pytest.approx(0, abs=1e-6)


def test_raw_counts_reach_the_bound(sphere):
    rng = np.random.default_rng(8)
    found = [fit_counts(expose(5 * sphere, IDEAL, rng), beside(8), SIZE, 1.0) for _ in range(60)]
    assert not any(f.refused for f in found)
    diameters = np.array([f.diameter for f in found])
    bound = np.median([f.bound for f in found])
    assert bound == pytest.approx(4.8, abs=0.4)
    assert diameters.std() < 1.35 * bound  # 1.15, and chance
    assert abs(diameters.mean() - 96) < 3 * bound / np.sqrt(60)
    covered = [f.diameter_ci95[0] < 96 < f.diameter_ci95[1] for f in found]
    assert np.mean(covered) > 0.85


def test_raw_counts_of_a_real_camera_have_wider_errors(sphere):
    frame = np.full((192, 200), 10.0)
    frame[:61, :73] = 10 * sphere
    rng = np.random.default_rng(4)
    start = SphereFit("nm", CENTER[0] / PX, CENTER[1] / PX, diameter=90.0, t_min=0.6)
    found = [
        fit_counts(expose(frame, MEASURED, rng), beside(0), SIZE, MEASURED.gain, start=start)
        for _ in range(25)
    ]
    errors = np.array([f.diameter - 96 for f in found if not f.refused])
    assert len(errors) > 20
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(len(errors)) + 1
    ratios = [f.diameter_se / f.bound for f in found if not f.refused]
    assert 1.2 < np.median(ratios) < 3
    turned = fit_counts(
        expose(frame, MEASURED, 1).T, Line((95 / PX, 146 / PX), (275 / PX, 146 / PX)), SIZE, 44.0
    )
    assert turned.refused or abs(turned.diameter - 96) < 30


def test_the_bound_agrees_with_that_of_the_paper_s_dose():
    # 4.7 e-/px, 4.8 nm/px, pure Poisson
    for t_min, expected in ((0.41, 2.5), (0.59, 4.05)):
        found = bound_sphere(48.0, -np.log(t_min), PX, PX, 1 / np.sqrt(4.7), poisson=True)
        assert found.diameter == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("wrong", [{"counts_per_electron": 0.0}, {"blur_px": -1.0}])
def test_impossible_cameras_are_errors(sphere, wrong):
    with pytest.raises(ValueError, match="more than 0"):
        fit_counts(sphere, beside(0), SIZE, **wrong)
