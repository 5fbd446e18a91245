import numpy as np

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.widgets.enhance.preview import EngineKey, FrameCache, FrameKey, PreviewFrame


def make_preview_frame(index):
    key = FrameKey(0, index, EngineKey(EngineOptions(), 1))
    pixels = np.zeros((10, 10), np.float32)
    return PreviewFrame(key=key, pixels=pixels, provenance={}, device="", note="")


def test_cache_holds_its_limit_and_drops_the_oldest():
    frames = [make_preview_frame(i) for i in range(4)]
    cache = FrameCache(1000)
    for frame in frames[:2]:
        cache.add(frame)
    assert cache.get(frames[0].key) is frames[0]
    cache.add(frames[2])
    assert cache.get(frames[1].key) is None
    assert cache.get(frames[0].key) is frames[0]
