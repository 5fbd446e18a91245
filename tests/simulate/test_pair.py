from dataclasses import replace

import numpy as np
import pytest

from napari_lowdose_tem.simulate import IDEAL, MEASURED, simulate_pair
from napari_lowdose_tem.simulate.pair import area_mean


@pytest.mark.parametrize(
    "camera", [MEASURED, replace(MEASURED, clip=False, dark_counts=500.0), replace(IDEAL, gain=7.0)]
)
def test_reference_and_low_dose_show_the_same_field_at_the_same_level(camera):
    hde, lde, scene = simulate_pair("FeNi", (160, 240), 2.0, 5.0, camera, 4, n_particles=30)
    assert hde.data.shape == lde.data.shape == scene.transmission.shape == (160, 240)
    for image in (hde, lde):
        assert (image.pixel_size_nm, image.counts_per_electron) == ((2.0, 2.0), camera.gain)
        assert image.data.dtype == np.float32
    assert hde.data.mean() == pytest.approx(lde.data.mean(), rel=0.01)
    signal = (hde.data - camera.dark_counts) / hde.provenance["simulation"]["counts_at_t1"]
    assert np.std(signal - scene.transmission) < 0.02
    coarse = [area_mean(image.data, 10) for image in (hde, lde)]
    assert np.corrcoef(coarse[0].ravel(), coarse[1].ravel())[0, 1] > 0.9


def test_reference_is_nearly_noise_free():
    hde, _, scene = simulate_pair("silicate", (120, 180), rng=1, n_particles=0)
    relative = hde.data / scene.transmission
    assert relative.std() / relative.mean() < 0.01


def test_seed_decides():
    (a, b, _), (c, d, _) = (simulate_pair("SiC", (40, 60), rng=2) for _ in range(2))
    assert (a.data == c.data).all()
    assert (b.data == d.data).all()


def test_dose_must_be_positive():
    with pytest.raises(ValueError, match=r"dose -1 e-/px"):
        simulate_pair(dose_e_per_px=-1)
