import time

import pytest

from napari_lowdose_tem.live import Arrival, Wait


@pytest.fixture
def collect():
    """Takes events of a source until `n` frames came or it slept for a time between two of them."""

    def take(events, n, idle_s=10.0):
        found, slept_s = [], 0.0
        while sum(isinstance(event, Arrival) for event in found) < n and slept_s < idle_s:
            event = next(events, None)
            if event is None:
                break
            if isinstance(event, Wait):
                time.sleep(event.seconds)
                slept_s += event.seconds
            else:
                found.append(event)
                slept_s = 0.0
        return found

    return take
