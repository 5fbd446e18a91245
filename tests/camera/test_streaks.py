import numpy as np
import pytest

from napari_lowdose_tem.camera.streaks import measure_streaks
from napari_lowdose_tem.simulate.camera import IDEAL, MEASURED, expose


def test_streaks_are_told_from_the_specimen():
    frame = np.full((256, 300), 8.0, np.float32)
    found = measure_streaks(expose(frame, MEASURED, 3))
    assert not found.is_white and not found.along_columns
    # 0.85² and 0.2² of about 18 e-² a pixel
    assert found.correlation[4] == pytest.approx(0.85**2 / 18, abs=0.012)
    assert measure_streaks(expose(frame, MEASURED, 3).T).along_columns
    assert measure_streaks(expose(frame, IDEAL, 3)).is_white
    assert measure_streaks(frame[:40]).is_white
