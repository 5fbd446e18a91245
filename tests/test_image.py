import copy
import pickle

import dask.array as da
import numpy as np
import pytest

from napari_lowdose_tem.image import Image

DATA = np.arange(3 * 5 * 7, dtype=np.uint16).reshape(3, 5, 7)


@pytest.mark.parametrize("data", [DATA, da.from_array(DATA, chunks=(1, -1, -1))], ids=["NumPy", "Dask"])
@pytest.mark.parametrize("how", [lambda image: pickle.loads(pickle.dumps(image)), copy.copy, copy.deepcopy])
def test_pickled_and_copied(data, how):
    image = Image(data, (0.3, 0.2), 44.0, 0.04, "run 7", {"reader": "x", "origin": {"source": "a"}})
    back = how(image)
    np.testing.assert_array_equal(back.data, DATA)
    for key in ("is_lazy", "pixel_size_nm", "counts_per_electron", "frame_time_s", "name", "provenance"):
        assert getattr(back, key) == getattr(image, key)
    with pytest.raises(TypeError):
        back.provenance["reader"] = "y"


def test_reading_lazy_frames_leaves_other_threads_computations_alone():
    import dask.array as da
    from dask.callbacks import Callback

    seen = []
    data = np.arange(4 * 5 * 7.0).reshape(4, 5, 7)
    with Callback(pretask=lambda key, *rest: seen.append(key)):
        frames = Image(da.from_array(data, chunks=(1, 5, 7)) - 1.0).frames(1, 3)
    np.testing.assert_array_equal(frames, data[1:3] - 1)
    assert not seen
