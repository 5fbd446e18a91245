"""A viewer's layers by name, and the frame it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_lowdose_tem.widgets.shared.layers import level0

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_lowdose_tem.widgets.shared.layers import LayerTuple


def viewer_itself(viewer: ViewerModel) -> ViewerModel:
    """Return the viewer behind the proxy given to plugins, whose layers are new objects at every look."""
    return getattr(viewer, "__wrapped__", viewer)


def add_image(viewer: ViewerModel, layer: LayerTuple) -> Layer:
    """Add a layer tuple under a name no other layer has."""
    data, attributes, _ = layer
    name = unique_name(attributes["name"], [other.name for other in viewer.layers])
    return viewer.add_image(data, **attributes | {"name": name})


def add_image_unselected(viewer: ViewerModel, layer: LayerTuple) -> Layer:
    """Add a layer tuple; the user keeps working on the layers that are selected, if any."""
    selection = viewer.layers.selection
    selected, active = set(selection), selection.active
    added = add_image(viewer, layer)
    if selected:
        selection.active = active
        selection.update(selected)
    return added


def unique_name(name: str, taken: Sequence[str]) -> str:
    """Append a number where the name is taken: an equal name would replace that layer's data."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name} {number}"
    return candidate


def frame_index(viewer: ViewerModel, layer: Layer) -> int:
    """Index of the frame of a layer that the viewer shows; 0 for a single frame."""
    shape = level0(layer).shape
    if len(shape) < 3:
        return 0
    dims, units = viewer.dims, viewer.layers.extent.units
    point = np.array(dims.point[-layer.ndim :], float)
    if units is not None:
        for axis, (shown, own) in enumerate(zip(units[-layer.ndim :], layer.units, strict=True)):
            if shown != own and shown.is_compatible_with(own):
                point[axis] *= (1 * shown).to(own).magnitude
    return int(np.clip(np.rint(layer.world_to_data(point)[0]), 0, shape[0] - 1))
