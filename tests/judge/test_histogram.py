import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_lowdose_tem.judge.histogram import compare_histograms, make_histogram

RNG = np.random.default_rng(5)
FILM, PARTICLES = RNG.normal(200, 4, 60_000), RNG.normal(120, 15, 9_000)


def test_counts_and_edges():
    found = make_histogram([[0, 1, 1, 2], [3, 4, np.nan, 4]], bins=4, name="LDE")
    np.testing.assert_allclose(found.edges, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(found.counts, [1, 2, 1, 3])
    np.testing.assert_allclose(found.centers, [0.5, 1.5, 2.5, 3.5])
    assert found.name == "LDE"
    cut = make_histogram([[0, 1, 1, 2], [3, 4, 4, 4]], bins=2, range=(1, 3))
    np.testing.assert_array_equal(cut.counts, [2, 2])


@given(slope=st.floats(0.01, 100), offset=st.floats(-1000, 1000))
def test_scaled_histograms_forget_dose_and_offset(slope, offset):
    frame = np.add.outer(np.arange(31.0), np.arange(17.0) ** 2)
    a, b = (make_histogram(x, 40, scaled=True) for x in (frame, slope * frame + offset))
    np.testing.assert_allclose(b.edges, a.edges)
    assert np.abs(np.cumsum(b.counts) - np.cumsum(a.counts)).max() <= 20  # values on an edge


def test_two_peaks_are_separated_by_their_distance_over_their_widths():
    found = make_histogram(np.concatenate([FILM, PARTICLES]))
    (film, particles) = found.peaks
    assert film.position == pytest.approx(200, abs=2)
    assert particles.position == pytest.approx(120, abs=5)
    assert (film.width, particles.width) == pytest.approx((4, 15), rel=0.2)
    assert particles.share == pytest.approx(9 / 69, abs=0.01)
    assert found.peak_separation == pytest.approx(80 / np.hypot(4, 15), rel=0.1)
    # scaling does not change it
    assert make_histogram(np.concatenate([FILM, PARTICLES]), scaled=True).peak_separation == pytest.approx(
        found.peak_separation, rel=1e-3
    )


@pytest.mark.parametrize("seed", range(5))
def test_one_broad_peak_is_one(seed):
    rng = np.random.default_rng(seed)
    assert make_histogram(rng.normal(0, 1, (300, 200))).peak_separation is None
    clipped = np.maximum(rng.normal(200, 160, (300, 200)), 0)
    assert len(make_histogram(clipped).peaks) == 1  # what is cut off at 0 is no peak
    assert make_histogram(rng.exponential(1, (300, 200))).peak_separation is None


def test_figure_5(field):
    """High dose has two peaks, low dose one."""
    high, low, _ = field
    assert make_histogram(high.data, scaled=True).peak_separation > 1
    assert make_histogram(low.data, scaled=True).peak_separation is None


def test_overlap():
    whole = make_histogram(FILM)
    assert compare_histograms(whole, whole) == pytest.approx(1)
    assert compare_histograms(make_histogram(FILM, 100), make_histogram(FILM, 256)) > 0.97
    assert compare_histograms(whole, make_histogram(FILM + 500)) == pytest.approx(0, abs=1e-9)
    # two Gaussians 2 standard deviations apart overlap by erfc(1 / √2)
    assert compare_histograms(whole, make_histogram(FILM + 8)) == pytest.approx(0.317, abs=0.02)
    shifted = compare_histograms(make_histogram(FILM + 8), whole)
    assert shifted == pytest.approx(compare_histograms(whole, make_histogram(FILM + 8)))


def test_careless_input():
    with pytest.raises(ValueError, match="no finite"):
        make_histogram(np.full((3, 4), np.nan))
    with pytest.raises(ValueError, match="0 bins"):
        make_histogram(np.ones((3, 4)), bins=0)
    with pytest.raises(ValueError, match="3 to 1 is empty"):
        make_histogram(np.ones((3, 4)), range=(3, 1))
    constant = make_histogram(np.full((3, 4), 7.0))
    assert constant.counts.sum() == 12
    assert constant.peak_separation is None
    assert make_histogram(np.full((3, 4), 7.0), scaled=True).counts.sum() == 12
