import numpy as np
import pytest

from napari_lowdose_tem.image import Image


@pytest.fixture
def movie():
    """Five frames, not square, no two pixels alike, calibration different in all places."""
    data = np.random.default_rng(3).permutation(5 * 7 * 12).reshape(5, 7, 12).astype(np.float32) + 0.25
    provenance = {
        "source": "/scope/run 7.dm4",
        "format": "DM4",
        "reader": "x 1",
        "recipe": ["µ", 'a<b&"c"\n', 2],
    }
    return Image(data, (0.35, 0.21), 44.0, 0.04, "particle µ", provenance)
