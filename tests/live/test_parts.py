"""Average, rates, level, pump and replay by themselves."""

import time

import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live import Arrival, Passed, ReplaySource, Skipped, Wait
from napari_lowdose_tem.live.average import RecursiveAverage
from napari_lowdose_tem.live.rates import Rates
from napari_lowdose_tem.live.reader import SourceReader
from napari_lowdose_tem.live.scaling import SeriesScaling
from napari_lowdose_tem.network.scaling import RECIPES


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


def test_rates_of_even_frames():
    rates = Rates()
    assert rates.frames_per_s(0) == 0
    for i in range(3000):
        rates.record(i * 0.02, 0.001 * (i % 100))
    assert rates.frames_per_s(2999 * 0.02) == pytest.approx(50, rel=0.01)
    assert rates.frames_per_s(2999 * 0.02 + 10) == 0
    p50, p99 = rates.latency_ms()
    assert p50 == pytest.approx(49.5)
    assert p99 == pytest.approx(98, abs=1)


def test_level_is_that_of_the_first_frame_with_signal():
    dark, dim, bright = (np.full((4, 6), v, np.uint16) for v in (0, 100, 300))
    saved = SeriesScaling(RECIPES["level"], each=False, follow=False)
    assert not saved.scaling_for(dark).has_signal
    assert saved.scaling_for(dim).scale == 100
    assert saved.scaling_for(bright).scale == 100
    assert "3 times" in saved.note
    assert saved.scaling_for(dim).scale == 100
    assert not saved.note
    seen = SeriesScaling(RECIPES["level"], each=False, follow=True)
    assert [seen.scaling_for(frame).scale for frame in (dim, dim + 20, bright)] == [100, 100, 300]
    each = SeriesScaling(RECIPES["level"], each=True, follow=False)
    assert [each.scaling_for(frame).scale for frame in (dim, dim + 20, bright)] == [100, 120, 300]
    assert each.scaling is None


class Given:
    """A source that tells what it is given."""

    name, path = "given", ""

    def __init__(self, *events):
        self.events = events
        self.told = 0

    def iter_events(self, latest_only, done):
        for event in self.events:
            self.told += 1
            yield event


def arrival(n):
    return Arrival(str(n), Image(np.full((2, 3), n)), n, 0.0)


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_pump_keeps_the_newest_and_counts_the_rest():
    source = Given(arrival(0), arrival(1), Passed(3), Skipped("a", "b"), arrival(5))
    with SourceReader(source, True, set()) as pump:
        wait_until(lambda: pump.counts.arrived == 6)
        assert pump.take(1).name == "5"
        assert pump.take(1) is None
        assert pump.has_ended
        tally = pump.counts
    assert (tally.arrived, tally.taken, tally.dropped, tally.waiting) == (6, 1, 5, 0)
    assert tally.skipped == (Skipped("a", "b"),)


def test_pump_holds_the_reader_back_when_all_are_wanted():
    source = Given(*map(arrival, range(20)))
    with SourceReader(source, False, set(), depth=3) as pump:
        wait_until(lambda: pump.counts.waiting == 3)
        time.sleep(0.05)
        assert source.told == 4  # three in the queue, one in the hand
        assert [pump.take(1).name for _ in range(20)] == [str(n) for n in range(20)]
    assert pump.counts.dropped == 0


def test_pump_passes_on_what_ended_the_source_after_its_frames():
    class Broken(Given):
        def iter_events(self, latest_only, done):
            yield arrival(0)
            raise ValueError("gone")

    with SourceReader(Broken(), False, set()) as pump:
        assert pump.take(1).name == "0"
        with pytest.raises(ValueError, match="gone"):
            pump.take(1)


def test_pump_ends_while_the_reader_waits():
    with SourceReader(Given(*[Wait(1000.0)] * 5), False, set()):
        pass
    with SourceReader(Given(*map(arrival, range(20))), False, set()):
        pass


def test_replay_tells_all_frames_or_passes_over_them():
    stack = Image(np.arange(7 * 2 * 3).reshape(7, 2, 3), name="stack")
    found = [e for e in ReplaySource(stack, 1e6).iter_events(False) if not isinstance(e, Wait)]
    assert [e.name for e in found] == [f"frame {n}" for n in range(7)]
    np.testing.assert_array_equal(found[4].image.data, stack.data[4])
    assert found[4].recorded_s == 4e-6
    events = ReplaySource(stack, 200.0).iter_events(True)
    played = []
    for event in events:
        if not isinstance(event, Wait):
            played.append(event)
            time.sleep(0.012)  # slower than the camera
    n_passed = sum(e.count for e in played if isinstance(e, Passed))
    n_shown = sum(isinstance(e, Arrival) for e in played)
    assert n_passed + n_shown == 7
    assert n_passed > 0
    assert played[-1].name == "frame 6"


def test_replay_in_a_loop_does_not_end():
    events = ReplaySource(Image(np.ones((2, 3, 4))), 1e6, loop=True).iter_events(False)
    frames = (event for event in events if isinstance(event, Arrival))
    assert [next(frames).name for _ in range(5)][-1] == "frame 4"
    with pytest.raises(ValueError, match="frames/s"):
        ReplaySource(Image(np.ones((2, 3, 4))), 0)
