import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_lowdose_tem.simulate import IDEAL, MEASURED, Camera, expose
from napari_lowdose_tem.simulate.camera import draw_camera, expose_torch

SHAPE = (4, 240, 360)
UNCLIPPED = replace(MEASURED, clip=False)
CAMERAS = {
    "ideal": IDEAL,
    "measured": MEASURED,
    "columns": replace(UNCLIPPED, streaks_along_columns=True, streak_e=1.2),
    "outliers": replace(UNCLIPPED, outlier_rate=1e-3, dark_counts=100.0),
}


def expose_in_torch(electrons, camera, seed):
    generator = torch.Generator().manual_seed(seed)
    return expose_torch(torch.from_numpy(electrons), camera, generator).numpy()


def correlation(frames, rows, cols):
    d = frames - frames.mean(axis=(1, 2), keepdims=True)
    shifted = d[:, rows:, cols:] * d[:, : d.shape[1] - rows, : d.shape[2] - cols]
    return shifted.mean() / d.var()


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_numpy_and_torch_draw_the_same_noise(camera):
    electrons = np.full(SHAPE, 6.0, np.float32)
    a, b = (draw(electrons, camera, 3).astype(float) for draw in (expose, expose_in_torch))
    assert a.mean() == pytest.approx(b.mean(), rel=0.01)
    assert a.var() == pytest.approx(b.var(), rel=0.08 if camera.outlier_rate else 0.02)
    for rows, cols in ((0, 1), (0, 3), (0, 10), (1, 0), (3, 0), (10, 0)):
        assert correlation(a, rows, cols) == pytest.approx(correlation(b, rows, cols), abs=0.012)


@pytest.mark.parametrize("draw", [expose, expose_in_torch])
@pytest.mark.parametrize("along_columns", [False, True])
def test_moments_follow_from_the_parameters(draw, along_columns):
    camera = replace(UNCLIPPED, streaks_along_columns=along_columns, psf_px=0.0)
    found = draw(np.full(SHAPE, 5.0, np.float32), camera, 1).astype(float)
    noise_e2 = 5 * (1 + 1 / 3) + 3.1**2 + 0.85**2 + 0.2**2
    assert found.mean() == pytest.approx(44 * 5, rel=0.01)
    assert found.var() == pytest.approx(44**2 * noise_e2, rel=0.02)
    for lag in (1, 8, 16, 32):
        expected = (0.85**2 * math.exp(-lag / 16) + 0.2**2) / noise_e2
        along, across = ((lag, 0), (0, lag)) if along_columns else ((0, lag), (lag, 0))
        assert correlation(found, *along) == pytest.approx(expected, abs=0.01)
        assert correlation(found, *across) == pytest.approx(0, abs=0.01)


def test_ideal_camera_counts_electrons():
    dose = np.linspace(1, 9, 360, dtype=np.float32) * np.ones((240, 1), np.float32)
    counts = expose(dose, IDEAL, 0)
    assert (counts == np.rint(counts)).all()
    assert np.mean((counts - dose) ** 2 / dose) == pytest.approx(1, abs=0.02)


def test_light_is_shared_but_not_lost():
    dose = np.zeros((1, 61, 80), np.float32)
    dose[0, 20, 50] = 1e6
    counts = expose(dose, replace(IDEAL, psf_px=0.43, clip=False), 0)[0]
    assert counts.sum() == pytest.approx(1e6, rel=0.01)
    assert counts[19:22, 49:52].sum() == pytest.approx(counts.sum(), rel=1e-3)
    assert 0.05 < counts[20, 49] / counts[20, 50] < 0.09  # exp(-1/(2·0.43²)) = 0.067


def test_clipping_and_dark_level():
    dose = np.full((100, 150), 0.5, np.float32)
    assert expose(dose, MEASURED, 0).min() == 0
    assert expose(dose, UNCLIPPED, 0).min() < 0
    assert expose(dose, replace(MEASURED, dark_counts=1000.0), 0).mean() == pytest.approx(1022, rel=0.01)
    assert expose(dose * 1e5, MEASURED, 0).max() == 65535


def test_seed_decides():
    dose = np.full((20, 30), 5.0, np.float32)
    assert (expose(dose, MEASURED, 5) == expose(dose, MEASURED, 5)).all()
    assert (expose(dose, MEASURED, 5) != expose(dose, MEASURED, 6)).any()


def test_cameras_drawn_for_training_are_possible():
    rng = np.random.default_rng(0)
    gains = [draw_camera(rng).gain for _ in range(300)]
    assert min(gains) < 2
    assert max(gains) > 100


@pytest.mark.parametrize("wrong", [{"gain": 0}, {"gamma_shape": -1}, {"read_e": -1}, {"streak_length_px": 0}])
def test_impossible_cameras_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        Camera(**wrong)
