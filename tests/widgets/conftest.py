import os

import numpy as np
import pytest
from scipy import ndimage

os.environ.setdefault("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "1")

SHAPE = (5, 40, 56)


@pytest.fixture
def model_folder(tiny_model, monkeypatch):
    """A user's folder with the small model in it."""
    monkeypatch.setenv("LOWDOSE_TEM_MODELS", str(tiny_model.parent))
    return tiny_model.parent


@pytest.fixture
def movie():
    rng = np.random.default_rng(3)
    rows, cols = np.mgrid[: SHAPE[1], : SHAPE[2]]
    level = 180 - 90 * np.exp(-((rows - 12) ** 2 + (cols - 40) ** 2) / 40)
    return rng.poisson(level * np.linspace(1, 1.1, SHAPE[0])[:, None, None]).astype(np.uint16)


@pytest.fixture(scope="session")
def spheres():
    """Makes the transmission (rows, columns) of spheres: (row, column, diameter) [nm] and T at the centre."""

    def render(shape, pixel_size_nm, particles, sigma_nm=4.0, finer=4):
        rows, cols = (((np.arange(n * finer) + 0.5) / finer - 0.5) for n in shape)
        y, x = rows[:, None] * pixel_size_nm[0], cols[None] * pixel_size_nm[1]
        depth = np.zeros((len(rows), len(cols)))
        for row, col, diameter, t_min in particles:
            chord = np.sqrt(np.maximum((diameter / 2) ** 2 - (y - row) ** 2 - (x - col) ** 2, 0))
            depth -= chord / (diameter / 2) * np.log(t_min)
        blurred = ndimage.gaussian_filter(
            np.exp(-depth), [sigma_nm / s * finer for s in pixel_size_nm], mode="nearest"
        )
        return blurred.reshape(shape[0], finer, shape[1], finer).mean((1, 3))

    return render
