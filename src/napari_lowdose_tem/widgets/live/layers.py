"""The two layers of the Live dock, refreshed in place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.shared import layers
from napari_lowdose_tem.widgets.shared.viewer import add_image_unselected

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_THUMBNAIL_S = 2.0
_KINDS = ("raw", "enhanced")


class LiveLayers:
    """Shows the newest raw and enhanced frame; on the GUI thread only.

    The pixels are copied into the layers' own arrays: nothing is allocated, and other docks do not take each
    frame for a new image.

    Parameters
    ----------
    viewer
        The viewer or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layers: dict[str, Layer] = {}
        self._shown: dict[str, Image] = {}
        self._has_contrast: dict[str, bool] = {}
        self._thumbnail_s = 0.0
        self._is_side_by_side, self._is_laid_out = True, False

    @property
    def own(self) -> tuple[Layer, ...]:
        """The layers there are."""
        return tuple(layer for layer in self._layers.values() if layer in self._viewer.layers)

    def show(self, name: str, raw: Image, output: Image) -> bool:
        """Show a frame of the series `name`; return False when it must be called again to do so.

        napari takes a tenth of a second to add a layer, and as long to lay out the canvas: each of these is a
        call of its own, so that the user can go on working.
        """
        images = dict(zip(_KINDS, (raw, output), strict=True))
        own = self.own
        if not own:
            self._is_laid_out = False
        for kind, image in images.items():
            if self._layers.get(kind) not in own:
                self._add(kind, f"{name}, live {kind}", image)
                return False
        if not self._is_laid_out:
            self.set_side_by_side(self._is_side_by_side)
            return False
        now_s = time.monotonic()
        with_thumbnail = now_s - self._thumbnail_s > _THUMBNAIL_S
        if with_thumbnail:
            self._thumbnail_s = now_s
        for kind, image in images.items():
            self._refresh(kind, f"{name}, live {kind}", image, with_thumbnail)
        return True

    def note_provenance(self) -> None:
        """Store in the layers what made the frames they show."""
        for kind, image in self._shown.items():
            if self._layers[kind] in self._viewer.layers:
                layers.set_provenance(self._layers[kind], image)
                self._layers[kind].refresh()

    def set_side_by_side(self, on: bool) -> None:
        """Show each layer in a cell of its own, or one over the other; also those still to come."""
        self._is_side_by_side = on
        if self.own:
            self._viewer.canvas.grid.enabled = on
            self._viewer.fit_to_view()
            self._is_laid_out = True

    def _refresh(self, kind: str, name: str, image: Image, with_thumbnail: bool) -> None:
        layer, before = self._layers[kind], self._shown[kind]
        pixels = np.asarray(image.data)
        if layer.data.shape == pixels.shape and layer.data.dtype == pixels.dtype:
            np.copyto(layer.data, pixels)
            with layer.events.loaded.blocker():  # or the list of layers would repaint its rows each time
                layer.refresh(thumbnail=with_thumbnail, highlight=False, extent=False)
        else:
            layer.data = pixels.copy()
            self._has_contrast[kind] = False
        if before.pixel_size_nm != image.pixel_size_nm:
            layers.set_calibration(layer, image.pixel_size_nm, image.counts_per_electron)
        if layer.name != name and name not in self._viewer.layers:
            layer.name = name
        if not self._has_contrast[kind] and np.ptp(pixels) > 0:  # the first frames were dark
            layer.contrast_limits = layers.limits_of(pixels)
            self._has_contrast[kind] = True
        self._shown[kind] = image

    def _add(self, kind: str, name: str, image: Image) -> None:
        own = image.with_data(np.array(image.data))
        self._layers[kind] = add_image_unselected(self._viewer, layers.layer_tuple(own, name))
        self._shown[kind] = image
        self._has_contrast[kind] = bool(np.ptp(own.data) > 0)
