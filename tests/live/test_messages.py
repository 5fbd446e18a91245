import io

import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live import (
    LiveStep,
)
from napari_lowdose_tem.live.messages import pack, receive, send


def test_values_travel_whole():
    pixels = np.arange(7 * 5, dtype=np.uint16).reshape(7, 5)
    images = [Image(data) for data in (pixels, pixels.T, pixels[::2, 1:], np.asfortranarray(pixels) * 1.5)]
    file = io.BytesIO()
    for value in (images, LiveStep(name="a", raw=images[0])):
        send(file, pack(value))
    whole = file.getvalue()
    file.seek(0)
    for image, again in zip(images, receive(file), strict=True):
        np.testing.assert_array_equal(again.data, image.data)
        assert again.data.dtype == image.data.dtype
        assert again.data.flags.writeable
    assert receive(file).raw.data.shape == (7, 5)
    for n_bytes in (0, 5, len(whole) // 3):
        with pytest.raises(EOFError):
            receive(io.BytesIO(whole[:n_bytes]))
