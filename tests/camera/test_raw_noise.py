import numpy as np
import pytest

from napari_lowdose_tem.camera.raw_noise import measure_raw_noise, read_raw_noise
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.simulate.camera import IDEAL, MEASURED, expose


def test_raw_noise_is_that_of_the_electrons():
    frame = expose(np.full((200, 240), 6.0), IDEAL, 5)
    assert measure_raw_noise(frame) == pytest.approx(1 / np.sqrt(6), rel=0.05)
    assert measure_raw_noise(frame * (1 + 0.001 * np.arange(240))) == pytest.approx(1 / np.sqrt(6), rel=0.06)
    # detective quantum efficiency near a third
    noise = measure_raw_noise(expose(np.full((200, 240), 6.0), MEASURED, 5))
    assert 0.25 < 1 / (6 * noise**2) < 0.5
    for wrong in (np.zeros((50, 60)), np.ones((5, 5)), np.full((50, 60), np.nan)):
        with pytest.raises(ValueError, match=r"noise|signal"):
            measure_raw_noise(wrong)


def test_enhanced_images_carry_the_noise_of_their_electrons():
    image = Image(np.ones((8, 9)), provenance={"enhanced": {"raw_noise": 0.42}})
    assert read_raw_noise(image) == 0.42
    for said in ({}, {"enhanced": {}}, {"enhanced": "yes"}, {"enhanced": {"raw_noise": -1}}):
        assert read_raw_noise(Image(np.ones((8, 9)), provenance=said)) is None
