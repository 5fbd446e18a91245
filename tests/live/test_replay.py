import time

import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live import Arrival, Passed, ReplaySource, Wait


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
