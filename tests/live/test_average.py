import numpy as np
import pytest

from napari_lowdose_tem.live.average import RecursiveAverage


def test_average_weighs_by_age_whatever_the_intervals():
    rng = np.random.default_rng(1)
    frames, times = rng.normal(5, 1, (6, 3, 4)), np.array([0, 0.1, 0.5, 0.55, 2.0, 2.1])
    average = RecursiveAverage(0.7)
    for frame, now in zip(frames, times, strict=True):
        result = average.add(frame, now)
        age = now - times[times <= now]
        weights = np.exp(-age / 0.7)
        expected = np.tensordot(weights / weights.sum(), frames[: len(age)], 1)
        np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_average_leaves_out_pixels_that_are_not_finite():
    frames = np.array([[[1.0, np.nan, 3.0]], [[5.0, 7.0, np.nan]], [[9.0, 8.0, np.nan]]])
    average = RecursiveAverage(1e9)
    results = [average.add(frame, i) for i, frame in enumerate(frames)]
    np.testing.assert_allclose(results[0], [[1.0, np.nan, 3.0]])
    np.testing.assert_allclose(results[2], [[5.0, 7.5, 3.0]], rtol=1e-6)
    assert average.add(np.ones((2, 5)), 4).shape == (2, 5)


@pytest.mark.parametrize("time_s", [-1, float("nan"), float("inf")])
def test_average_refuses_times_that_are_none(time_s):
    with pytest.raises(ValueError, match="average over"):
        RecursiveAverage(time_s)
