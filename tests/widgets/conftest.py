import os

import numpy as np
import pytest

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
