import numpy as np
import pytest

from napari_lowdose_tem.camera.level import measure_level


def test_an_x_ray_hardly_moves_the_level():
    frame = np.random.default_rng(2).poisson(200.0, (60, 90)).astype(np.uint16)
    hit = frame.astype(np.float32)
    hit[30, 40] = 5e6
    assert hit.mean() > 4 * frame.mean()
    assert measure_level(hit) == pytest.approx(frame.mean(), rel=0.03)


def test_level_needs_pixels():
    assert measure_level(np.empty(0)) == 0
