import time

import numpy as np
import pytest

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live import Arrival, LiveConfig, ReplaySource, Wait


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


@pytest.fixture
def stack(frames):
    return Image(np.stack([frames(n) for n in range(9)]), (2.0, 3.0), 44.0, 0.5, "stack", {"source": "s.tif"})


@pytest.fixture
def config(tiny_model, stack):
    options = EngineOptions(model=tiny_model, device="cpu", precision="float32")
    return LiveConfig(ReplaySource(stack, 1e5), engine=options, save_all=True)
