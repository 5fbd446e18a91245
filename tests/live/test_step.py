import numpy as np

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live import (
    LatestStep,
    LiveStep,
)


def test_newest_report_keeps_the_frame_that_was_not_yet_shown():
    frame = Image(np.ones((2, 3)))
    newest = LatestStep()
    newest.put(LiveStep(name="a", enhanced=1, raw=frame, output=frame))
    newest.put(LiveStep(enhanced=1, arrived=5))
    step = newest.take()
    assert (step.name, step.arrived) == ("a", 5)
    assert step.output is frame
    assert newest.take() is None
    newest.put(LiveStep(name="b", raw=frame, output=frame))
    newest.put(LiveStep(name="c", raw=frame, output=frame))
    assert newest.take(1.0).name == "c"


def test_report_put_back_yields_to_a_newer_one_but_not_its_frame():
    frame, newer = Image(np.ones((2, 3))), Image(np.zeros((2, 3)))
    newest = LatestStep()
    newest.put_back(LiveStep(name="a", arrived=1, raw=frame, output=frame))
    assert newest.take().name == "a"
    newest.put(LiveStep(arrived=5))
    newest.put_back(LiveStep(name="a", arrived=1, raw=frame, output=frame))
    step = newest.take()
    assert (step.name, step.arrived) == ("a", 5)
    assert step.output is frame
    newest.put(LiveStep(name="b", arrived=6, raw=newer, output=newer))
    newest.put_back(step)
    step = newest.take()
    assert (step.name, step.arrived) == ("b", 6)
    assert step.output is newer
