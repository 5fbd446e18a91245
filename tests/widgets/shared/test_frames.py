import numpy as np

from napari_lowdose_tem.widgets.shared.frames import is_stretched


def test_stretched_frames_have_no_known_zero():
    rng = np.random.default_rng(0)
    assert is_stretched(rng.random((30, 40)))
    assert not is_stretched(rng.random((30, 40)) * 200)
    assert not is_stretched(rng.integers(0, 1, (30, 40)))
    assert not is_stretched(np.full((3, 4), np.nan))
