"""The layers that show a validation frame as the network learns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.shared import layers
from napari_lowdose_tem.widgets.shared.viewer import add_image
from napari_lowdose_tem.widgets.train.state import ValidationView

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_FRAMES = {"hde": "HDE", "lde": "LDE", "output": "output"}


class ValidationLayers:
    """Puts validation frames of one training after the other into layers; on the GUI thread only.

    Parameters
    ----------
    viewer
        The viewer or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layers: dict[str, Layer] = {}

    def start(self, model: Path) -> None:
        """Leave the layers there are alone; the next belong to the training of another model."""
        self._model, self._layers = model, {}

    def add(self, view: ValidationView) -> None:
        """Add the layers that are not there, the output on top."""
        self.update(view)
        for key, what in _FRAMES.items():
            if not self._is_there(key):
                name = f"{self._model.stem} {what}"
                made = layers.layer_tuple(self._image(key, view), name, contrast_limits=view.limits)
                self._layers[key] = add_image(self._viewer, made)

    def update(self, view: ValidationView) -> None:
        """Show a newer validation frame in the layers that are still there."""
        for key in _FRAMES:
            if self._is_there(key):
                image = self._image(key, view)
                self._layers[key].data = image.data
                layers.set_provenance(self._layers[key], image)

    def _image(self, key: str, view: ValidationView) -> Image:
        made: dict[str, Any] = {"model_file": str(self._model), "epoch": view.epoch}
        kind = "enhanced" if key == "output" else "validation"
        return Image(getattr(view, key), name=key, provenance={kind: made})

    def _is_there(self, key: str) -> bool:
        return key in self._layers and self._layers[key] in self._viewer.layers
