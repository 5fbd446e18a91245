import time

import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live import Arrival, Passed, Skipped, Wait
from napari_lowdose_tem.live.reader import SourceReader


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


def test_reader_keeps_the_newest_and_counts_the_rest():
    source = Given(arrival(0), arrival(1), Passed(3), Skipped("a", "b"), arrival(5))
    with SourceReader(source, True, set()) as reader:
        wait_until(lambda: reader.counts.arrived == 6)
        assert reader.take(1).name == "5"
        assert reader.take(1) is None
        assert reader.has_ended
        counts = reader.counts
    assert (counts.arrived, counts.taken, counts.dropped, counts.waiting) == (6, 1, 5, 0)
    assert counts.skipped == (Skipped("a", "b"),)


def test_reader_holds_the_reader_back_when_all_are_wanted():
    source = Given(*map(arrival, range(20)))
    with SourceReader(source, False, set(), depth=3) as reader:
        wait_until(lambda: reader.counts.waiting == 3)
        time.sleep(0.05)
        assert source.told == 4  # three in the queue, one in the hand
        assert [reader.take(1).name for _ in range(20)] == [str(n) for n in range(20)]
    assert reader.counts.dropped == 0


def test_reader_passes_on_what_ended_the_source_after_its_frames():
    class Broken(Given):
        def iter_events(self, latest_only, done):
            yield arrival(0)
            raise ValueError("gone")

    with SourceReader(Broken(), False, set()) as reader:
        assert reader.take(1).name == "0"
        with pytest.raises(ValueError, match="gone"):
            reader.take(1)


def test_reader_ends_while_the_reader_waits():
    with SourceReader(Given(*[Wait(1000.0)] * 5), False, set()):
        pass
    with SourceReader(Given(*map(arrival, range(20))), False, set()):
        pass
