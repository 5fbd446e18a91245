"""The pictures of the frames that the viewer shows, low-dose frames averaged where asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from napari_lowdose_tem.image import F32, Image
from napari_lowdose_tem.widgets.compare.field_of_view import Pyramid, place_image
from napari_lowdose_tem.widgets.compare.sources import Sources
from napari_lowdose_tem.widgets.compare.state import CompareState, Picture, picture_of
from napari_lowdose_tem.widgets.shared.frames import FrameReader, is_stretched, same_pixels
from napari_lowdose_tem.widgets.shared.latest_request import LatestRequest
from napari_lowdose_tem.widgets.shared.viewer import frame_index
from napari_lowdose_tem.widgets.shared.worker import error_line

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


@dataclass(frozen=True)
class _MeanRequest:
    image: Image
    frame: int
    n: int


class Pictures:
    """Makes pictures of the layers compared.

    Parameters
    ----------
    viewer
        The viewer's model.
    state
        Of the dock.
    sources
        The layers compared.
    loaded
        Called when pixels that were waited for are there, or cannot be read.
    """

    def __init__(
        self, viewer: ViewerModel, state: CompareState, sources: Sources, loaded: Callable[[], None]
    ) -> None:
        self._viewer, self._state, self._sources, self._loaded = viewer, state, sources, loaded
        self._frames = FrameReader(loaded)
        self._means: LatestRequest[_MeanRequest] = LatestRequest(_iter_mean, self._on_mean, self._on_failed)
        self._mean: tuple[_MeanRequest, F32] | None = None
        self._pyramids: dict[str, Pyramid] = {}

    @property
    def is_busy(self) -> bool:
        """Whether frames are being averaged."""
        return self._means.is_busy

    def close(self) -> None:
        """Stop reading and averaging."""
        self._means.cancel()
        self._frames.close()
        self.clear()

    def clear(self) -> None:
        """Forget what was made."""
        self._pyramids, self._mean = {}, None

    def forget(self, layer: Layer) -> None:
        """Its pixels have changed."""
        self._frames.forget(layer)
        self._mean = None
        for role in [role for role in self._pyramids if self._sources.layer(role) is layer]:
            del self._pyramids[role]

    def make(self, role: str) -> Picture | None:
        """Picture of a role; the one before while its frame is being read, None where there is none.

        Raises
        ------
        ValueError
            When the frame cannot be read.
        """
        layer, image = self._sources.of[role]
        state = self._state
        if state.field is None:
            return None
        pixels = self._pixels(role, layer, image)
        if pixels is None:
            old = picture_of(state, role)
            return old if old is not None and old.placement.shape == image.frame_shape else None
        pyramid = self._pyramids.get(role)
        if pyramid is None or not same_pixels(pixels, pyramid.pixels):
            pyramid = self._pyramids[role] = Pyramid(pixels)
        is_aligned = role == "HDE" and state.alignment is not None and not state.unregistered
        alignment = state.alignment.matrix if is_aligned and state.alignment is not None else None
        return Picture(
            role=role,
            title=self._title(role, layer),
            pyramid=pyramid,
            placement=place_image(image, state.field, self._sources.is_calibrated, alignment),
            limits=(0.0, 1.0),
            unit="" if is_stretched(pixels) else "counts",
            level=state.results.levels.get(role) if state.results is not None else None,
        )

    def single_frame(self, role: str) -> npt.NDArray[Any] | None:
        """Return the frame shown of a role, not averaged, or None until it is read."""
        layer, image = self._sources.of[role]
        return self._frames.get(layer, image, frame_index(self._viewer, layer))

    def _pixels(self, role: str, layer: Layer, image: Image) -> npt.NDArray[Any] | None:
        if role != "LDE" or self._state.average == 1:
            return self.single_frame(role)
        request = _MeanRequest(image, frame_index(self._viewer, layer), self._state.average)
        if self._mean is not None and self._mean[0] == request:
            return self._mean[1]
        self._means.ask(request)
        return None

    def _title(self, role: str, layer: Layer) -> str:
        text = role if layer.name == role else f"{role} · {layer.name}"
        if role == "LDE" and self._state.average > 1:
            text += f" · mean of {self._state.average}"
        if role == "HDE" and self._state.alignment is not None:
            text += " · before registration" if self._state.unregistered else " · registered"
        return text

    def _on_mean(self, done: tuple[_MeanRequest, F32]) -> None:
        self._mean = done
        self._loaded()

    def _on_failed(self, request: _MeanRequest, error: Exception) -> None:
        self._state.report(error_line(error), is_error=True)


def _iter_mean(request: _MeanRequest) -> Iterator[tuple[_MeanRequest, F32]]:
    from napari_lowdose_tem.pairs.grid import average_frames

    yield request, average_frames(request.image, request.frame, request.n)
