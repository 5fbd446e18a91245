import time

import numpy as np
import pytest
import tifffile

from napari_lowdose_tem.live import Arrival, Wait

SHAPE = (40, 56)


@pytest.fixture
def frames():
    """Makes frame number n: noise about a level that tells the number [counts]."""

    def make(n, shape=SHAPE):
        return (np.random.default_rng(n).poisson(5, shape) * 44 + n).astype(np.uint16)

    return make


@pytest.fixture
def save_tiff(frames):
    """Saves frame n under its final name at once, as a camera that renames does."""

    def save(folder, n, **options):
        path = folder / f"frame_{n}.tif"
        temporary = folder / f"frame_{n}.tmp"
        tifffile.imwrite(temporary, frames(n), **options)
        temporary.rename(path)
        return path

    return save


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
