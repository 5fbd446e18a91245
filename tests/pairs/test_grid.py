import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.pairs import reduce_frame
from napari_lowdose_tem.pairs.grid import average_frames, bring_to_grid

RNG = np.random.default_rng(3)


def test_average_is_centred_and_moved_inside_at_the_ends():
    stack = Image(np.arange(7, dtype=np.uint16)[:, None, None] ** 2 * np.ones((1, 4, 6), np.uint16))
    assert average_frames(stack, 3, 3)[0, 0] == pytest.approx((4 + 9 + 16) / 3)
    assert average_frames(stack, 3, 2)[0, 0] == pytest.approx((9 + 16) / 2)
    assert average_frames(stack, 0, 3)[0, 0] == pytest.approx((0 + 1 + 4) / 3)
    assert average_frames(stack, 6, 4)[0, 0] == pytest.approx((9 + 16 + 25 + 36) / 4)
    assert average_frames(stack, 5, 99)[0, 0] == pytest.approx(91 / 7)
    assert average_frames(stack, 5, 1)[0, 0] == 25
    assert average_frames(stack, 5, 1).dtype == np.float32
    single = Image(np.ones((4, 6)))
    assert average_frames(single, 0, 8).shape == (4, 6)
    with pytest.raises(ValueError, match="0 frames"):
        average_frames(stack, 0, 0)
    with pytest.raises(ValueError, match="frame 7 is not within the stack's 0:7"):
        average_frames(stack, 7, 1)


def test_averages_of_many_frames_do_not_overflow_or_round():
    stack = Image(np.full((300, 3, 5), 60_001, np.uint16))
    assert average_frames(stack, 100, 300)[0, 0] == 60_001


def test_whole_factors_average_the_area():
    frame = RNG.random((48, 80))
    found = bring_to_grid(frame, (0.5, 0.5), (6, 10), (4.0, 4.0))
    np.testing.assert_allclose(found, reduce_frame(frame, 8), rtol=1e-5)
    np.testing.assert_allclose(bring_to_grid(frame, None, (6, 10), None), found, rtol=1e-6)
    # rows and columns of different sampling
    found = bring_to_grid(frame, (1.0, 3.0), (24, 20), (2.0, 12.0))
    np.testing.assert_allclose(found, frame.reshape(24, 2, 20, 4).mean((1, 3)), rtol=1e-5)


def test_one_grid_stays_and_is_a_copy():
    frame = RNG.random((7, 9)).astype(np.float32)
    found = bring_to_grid(frame, None, (7, 9), (2.0, 2.0))
    np.testing.assert_array_equal(found, frame)
    assert found is not frame


@given(
    step=st.tuples(st.floats(0.4, 5), st.floats(0.4, 5)),
    shift=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    slope=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
)
def test_ramps_stay_where_they_are_in_nm(step, shift, slope):
    """A plane stays, away from the rim; a part of a pixel is taken to be as grey as its middle."""
    rows, cols = (np.arange(n) + 0.5 for n in (40, 56))
    frame = 5 + slope[0] * rows[:, None] + slope[1] * cols[None]
    shape = tuple(int(n / s) for n, s in zip(frame.shape, step, strict=True))
    found = bring_to_grid(frame, (1.0, 1.0), shape, step, shift)
    r, c = ((np.arange(n) + 0.5 - d) * s for n, s, d in zip(shape, step, shift, strict=True))
    expected = 5 + slope[0] * r[:, None] + slope[1] * c[None]
    inside = np.outer((r > 3) & (r < 37), (c > 3) & (c < 53))
    assert not np.isnan(found[inside]).any()
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-3 + 0.13 * np.abs(slope).sum())


def test_what_is_not_covered_is_nan():
    frame = np.ones((40, 60))
    found = bring_to_grid(frame, (1.0, 1.0), (12, 20), (4.0, 4.0), (1.0, -2.0))
    expected = np.zeros((12, 20), bool)
    expected[1:11, :13] = True  # 40 nm of rows from 4 nm on; 60 nm of columns from −8 nm on
    np.testing.assert_array_equal(np.isfinite(found), expected)
    frame[8:12, 8:12] = np.nan
    frame[0, 0] = np.nan
    found = bring_to_grid(frame, (1.0, 1.0), (10, 15), (4.0, 4.0))
    assert np.isnan(found[2, 2])
    assert found[0, 0] == 1
    assert np.isnan(found).sum() == 1


def test_shift_is_that_of_registration():
    frame = np.zeros((32, 48))
    frame[10, 20] = 1
    found = bring_to_grid(frame, None, (32, 48), None, (3.0, -5.0))
    assert np.unravel_index(np.nanargmax(found), found.shape) == (13, 15)


def test_other_fields_are_named():
    frame = np.ones((40, 60))
    with pytest.raises(ValueError, match="40 × 60 px and 20 × 20 px are not the same field"):
        bring_to_grid(frame, None, (20, 20), None)
    with pytest.raises(
        ValueError, match=r"40 × 60 nm and 5 × 7\.5 nm are not the same field; check the pixel"
    ):
        bring_to_grid(frame, (1.0, 1.0), (5, 8), (1.0, 0.9375))
    with pytest.raises(ValueError, match="needs a frame"):
        bring_to_grid(np.ones((2, 3, 4)), None, (3, 4), None)
