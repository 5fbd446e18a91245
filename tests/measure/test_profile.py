import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_lowdose_tem.measure import Line, fit_profile, fit_sphere, sample_line
from napari_lowdose_tem.measure.outliers import find_hot
from napari_lowdose_tem.measure.profile import measure_inflation

ROWS, COLS = np.mgrid[:60, :90]


def test_positions_are_physical():
    profile = sample_line(np.ones((60, 90)), Line((10, 10), (40, 50)), (2.0, 3.0))
    assert profile.unit == "nm"
    assert profile.length == pytest.approx(np.hypot(30 * 2, 40 * 3))
    assert profile.position[0] == 0
    assert profile.step == pytest.approx(profile.length / 50)  # 50 px long
    assert profile.locate(profile.length / 2) == pytest.approx((25, 30))


def test_uncalibrated_lengths_are_pixels():
    profile = sample_line(np.ones((60, 90)), Line((5, 5), (5, 45)))
    assert (profile.unit, profile.length) == ("px", 40)


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.floats(3, 55), st.floats(3, 85)),
    st.tuples(st.floats(3, 55), st.floats(3, 85)),
    st.floats(0.5, 3),
    st.integers(1, 6),
)
def test_a_ramp_is_sampled_exactly(start, stop, ratio, width):
    if np.hypot(*np.subtract(start, stop)) < 8:
        return
    line = Line(start, stop, width)
    if width > 1 and min(*start, *stop) < 12:
        return
    ramp = 2.0 * ROWS - 0.7 * COLS + 5
    profile = sample_line(ramp, line, (1.0, ratio))
    places = np.array([profile.locate(x) for x in profile.position])
    known = np.isfinite(profile.intensity)
    inside = (places.min(1) > 12) & (places[:, 0] < 47) & (places[:, 1] < 77)
    # the mean over the width is that of the middle
    np.testing.assert_allclose(
        profile.intensity[known & inside], (places @ [2.0, -0.7] + 5)[known & inside], atol=1e-3
    )


def test_width_is_averaged_across_in_physical_space():
    # a stripe along the line, 4 nm wide; pixels are 1 × 2 nm and the line runs along the columns
    image = np.where(np.abs(ROWS - 30) <= 2, 0.0, 1.0)
    narrow = sample_line(image, Line((30, 10), (30, 70)), (1.0, 2.0))
    wide = sample_line(image, Line((30, 10), (30, 70), 10.0), (1.0, 2.0))
    assert np.abs(narrow.intensity).max() < 0.01
    assert wide.width == pytest.approx(10 * np.sqrt(2))
    assert wide.intensity.mean() == pytest.approx(1 - 5 / (10 * np.sqrt(2)), abs=0.06)


def test_dead_pixels_become_gaps():
    image = np.ones((60, 90))
    image[30, 40] = np.nan
    profile = sample_line(image, Line((30, 10), (30, 70)))
    gaps = np.flatnonzero(~np.isfinite(profile.intensity))
    assert 30 in gaps
    assert len(gaps) <= 3
    assert np.allclose(profile.intensity[np.isfinite(profile.intensity)], 1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (Line((5, 5), (5, 9)), "4.0 px long; draw at least 8"),
        (Line((5, 5), (5, 95)), "outside the frame of 60 × 90 px"),
        (Line((-3, 5), (40, 5)), "outside the frame"),
    ],
)
def test_impossible_lines_are_refused(line, said):
    with pytest.raises(ValueError, match=said):
        sample_line(np.ones((60, 90)), line)


def test_lines_are_checked_when_made():
    with pytest.raises(ValueError, match="must be numbers"):
        Line((np.nan, 0), (5, 5))
    with pytest.raises(ValueError, match="width 0"):
        Line((0, 0), (5, 50), 0)


def test_inflation_is_the_variance_of_means_over_white_noise():
    rng = np.random.default_rng(3)
    for stop, width in (((30, 70), 1.0), ((45, 60), 1.0), ((45, 60), 3.0)):
        line = Line((15.3, 15.6), stop, width)
        draws = [sample_line(rng.standard_normal((60, 90)), line) for _ in range(400)]
        values = np.stack([d.intensity for d in draws])
        measured = values.mean(1).var() / (values.var() / values.shape[1])
        assert measure_inflation(draws[0]) == pytest.approx(measured, rel=0.25)


def test_a_volume_is_no_frame():
    with pytest.raises(ValueError, match="one frame"):
        sample_line(np.ones((3, 60, 90)), Line((5, 5), (5, 45)))


def test_hot_pixels_are_left_out_and_counted(render):
    image = render((61, 73), [(30.0, 36.0, 20.0, 0.59)], 1.0)
    line = Line((30, 10), (30, 64))
    clean = sample_line(image, line)
    assert clean.hot == 0
    image[30, 30] = 4e3
    hit = sample_line(image, line)
    assert hit.hot == 1
    kept = np.isfinite(hit.intensity)
    assert 1 <= (~kept).sum() <= 3
    # what is left hardly knows of the hit
    np.testing.assert_allclose(hit.intensity[kept], clean.intensity[kept], rtol=0.02)
    found = fit_profile(hit)
    assert found.particles[0].diameter == pytest.approx(20, abs=0.1)
    assert "1 hot pixel near the line left out" in found.notes
    assert fit_sphere(image, line).diameter == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("mean", [0.1, 0.3, 1, 5])
def test_electrons_are_no_hot_pixels(mean):
    counts = np.random.default_rng(4).poisson(mean, (256, 256)).astype(float)
    assert not find_hot(counts).any()
    counts[100, 100] = 80
    assert find_hot(counts).sum() == 1


def test_masks_are_refused():
    with pytest.raises(ValueError, match="mask"):
        sample_line(np.zeros((40, 40), bool), Line((3, 3), (30, 30)))
