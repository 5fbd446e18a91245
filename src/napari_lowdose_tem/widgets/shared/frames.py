"""The frames of layers as arrays, read in a job where they are not in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.shared.latest_request import LatestRequest
from napari_lowdose_tem.widgets.shared.layers import level0
from napari_lowdose_tem.widgets.shared.source_tokens import SourceTokens
from napari_lowdose_tem.widgets.shared.worker import error_line

if TYPE_CHECKING:
    from napari.layers import Layer

_CACHE_BYTES = 2**29


@dataclass(frozen=True, eq=False)
class _FrameRequest:
    image: Image
    frame: int
    key: Hashable


class FrameReader:
    """The frames shown, as arrays: those in memory at once, others after a job has read them.

    Parameters
    ----------
    loaded
        Called when a frame that was asked for is there, or cannot be read.
    """

    def __init__(self, loaded: Callable[[], None]) -> None:
        self._loaded = loaded
        self._tokens = SourceTokens()
        self._cache: OrderedDict[Hashable, npt.NDArray[Any]] = OrderedDict()
        self._errors: dict[Hashable, str] = {}
        self._jobs: dict[Layer, LatestRequest[_FrameRequest]] = {}

    def get(self, layer: Layer, image: Image, frame: int) -> npt.NDArray[Any] | None:
        """Frame (rows, columns), or None until it is read.

        Raises
        ------
        ValueError
            When it cannot be read.
        """
        if not image.is_lazy:
            return np.asarray(image.data[frame] if image.is_stack else image.data)
        key = self._tokens.of(layer, level0(layer)), frame
        if key in self._errors:
            raise ValueError(self._errors[key])
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        if layer not in self._jobs:
            self._jobs[layer] = LatestRequest(_iter_frame, self._on_read, self._on_failed)
        self._jobs[layer].ask(_FrameRequest(image, frame, key))
        return None

    def forget(self, layer: Layer) -> None:
        """Its pixels have changed."""
        self._tokens.changed(layer)

    def close(self) -> None:
        """Stop reading."""
        for job in self._jobs.values():
            job.cancel()
        self._jobs.clear()
        self._cache.clear()

    def _on_read(self, read: tuple[_FrameRequest, npt.NDArray[Any]]) -> None:
        request, pixels = read
        self._cache[request.key] = pixels
        while len(self._cache) > 1 and sum(p.nbytes for p in self._cache.values()) > _CACHE_BYTES:
            self._cache.popitem(last=False)
        self._loaded()

    def _on_failed(self, request: _FrameRequest, error: Exception) -> None:
        self._errors[request.key] = error_line(error)
        self._loaded()


def _iter_frame(request: _FrameRequest) -> Iterator[tuple[_FrameRequest, npt.NDArray[Any]]]:
    yield request, request.image.frames(request.frame, request.frame + 1)[0]


def same_pixels(one: npt.NDArray[Any], other: npt.NDArray[Any] | None) -> bool:
    """Whether two views show the same pixels of one array."""
    if other is None:
        return False
    a, b = one.__array_interface__, other.__array_interface__
    return all(a[key] == b[key] for key in ("data", "shape", "strides", "typestr"))


def is_stretched(pixels: npt.NDArray[Any]) -> bool:
    """Whether a frame was stretched to 0…1, so that zero no longer means no electrons."""
    if np.asarray(pixels).dtype.kind != "f":
        return False
    sample = pixels[:: max(1, pixels.shape[0] // 128), :: max(1, pixels.shape[1] // 128)]
    sample = sample[np.isfinite(sample)]
    return bool(sample.size) and 0 <= float(sample.min()) and 0.3 < float(sample.max()) <= 1
