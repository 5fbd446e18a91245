import numpy as np

from napari_lowdose_tem.live.scaling import SeriesScaling
from napari_lowdose_tem.network.scaling import RECIPES


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
