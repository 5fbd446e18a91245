"""The layer that the enhanced stack fills."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.image import F32, Image
from napari_lowdose_tem.widgets.enhance.stack import StackRequest
from napari_lowdose_tem.widgets.shared import layers
from napari_lowdose_tem.widgets.shared.viewer import add_image

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_lowdose_tem.enhancement import Progress

_REFRESH_S = 0.25


class StackOutput:
    """Puts the progress of one enhancement after the other into layers; on the GUI thread only.

    Parameters
    ----------
    viewer
        The viewer or its model.
    """

    request: StackRequest

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Layer | None = None
        self._path: Path | None = None

    def start(self, source: Layer, request: StackRequest) -> None:
        """Get ready for the enhancement of a layer, which may be removed or changed while it runs."""
        # a resumed output keeps its layer
        if request.output is None or request.output != self._path or self._shown() is None:
            self._layer = None
        self.request, self._path, self._source = request, request.output, source
        self._data: Any = None
        self._made: Mapping[str, Any] = {}
        self._n_done = 0
        self._refreshed_s = 0.0

    def take(self, progress: Progress) -> bool:
        """Show the frames just finished; return False when nobody waits for more."""
        if progress.frames is not None:
            layer = self._shown()
            if self._data is None:
                self._data = progress.view
                if layer is not None:
                    layer.data = self._data
            self._made, self._n_done = progress.made, progress.first + len(progress.frames)
            if self._layer is None:
                image = self._unfinished().with_data(self._data)
                self._add_layer(image, progress.frames, cache=self.request.output is None)
            elif layer is not None and time.monotonic() - self._refreshed_s > _REFRESH_S:
                layer.refresh()
                layers.set_provenance(layer, self._unfinished())
                self._refreshed_s = time.monotonic()
        return self._layer is None or self._shown() is not None or self.request.output is not None

    def finish(self, progress: Progress) -> None:
        """Show the finished output."""
        result = progress.result
        if result is None:
            return
        if self._layer is None:  # all was done in an earlier run
            self._add_layer(result, result.frames(0, 1), cache=True)
        if (layer := self._shown()) is not None:
            if self.request.output is not None:
                layer.data = result.data
            layer.refresh()
            layers.set_provenance(layer, result)
        self._path = self._data = None

    def stop(self) -> int:
        """Keep what is finished; return how many frames."""
        if (layer := self._shown()) is not None and self._n_done:
            if self.request.image.is_stack:
                # no zeros that could be taken for frames
                layer.data = self._data[: self._n_done]
            layers.set_provenance(layer, self._unfinished())
        self._data = None
        return self._n_done

    def _unfinished(self) -> Image:
        return self.request.unfinished(self._made, self._n_done)

    def _add_layer(self, image: Image, sample: F32, cache: bool) -> None:
        # a Zarr that is being written must not be cached: napari would keep frames that were not there yet
        made = layers.layer_tuple(
            image,
            f"{self._source.name} enhanced",
            like=self._source,
            contrast_limits=layers.limits_of(sample),
            cache=cache,
        )
        self._layer = add_image(self._viewer, made)

    def _shown(self) -> Layer | None:
        """Return the layer, None before it is added and when the user has removed it."""
        return self._layer if self._layer is not None and self._layer in self._viewer.layers else None
