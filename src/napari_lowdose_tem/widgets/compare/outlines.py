"""Lines and regions drawn in the viewer, as the Compare dock shows them; and its own region."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.widgets.compare.field_of_view import Box, Placement, Point
from napari_lowdose_tem.widgets.shared.connections import Connections
from napari_lowdose_tem.widgets.shared.coordinates import convert_points
from napari_lowdose_tem.widgets.shared.layers import KEY, is_grid_copy
from napari_lowdose_tem.widgets.shared.viewer import unique_name

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Shapes

NAME = "Compared region"
_ENTRY = "compared_region"
_COLOR, _EDGE_PX = "#ffb000", 2
_ROUND = np.linspace(0, 2 * np.pi, 49)
_WATCHED = ("set_data", "visible", "scale", "translate", "units")


class Outlines:
    """Follows all Shapes layers of a viewer.

    Parameters
    ----------
    viewer
        The viewer's model.
    changed
        Called after anything was drawn, moved, hidden or removed.
    """

    def __init__(self, viewer: ViewerModel, changed: Callable[[], None]) -> None:
        self._viewer, self._changed = viewer, changed
        self._watched: list[Shapes] = []
        self._connections = Connections(
            (viewer.layers.events.inserted, self._on_layers),
            (viewer.layers.events.removed, self._on_layers),
        )
        self._watch(self._find())

    def close(self) -> None:
        """Listen no more; what was drawn stays."""
        self._connections.close()
        self._watch([])

    def paths(self, image: Layer, placement: Placement) -> tuple[tuple[Point, ...], ...]:
        """All that is drawn and visible, as paths of places in the field that an image shows."""
        found = []
        for layer in self._watched:
            if layer.visible:
                for kind, data in zip(layer.shape_type, layer.data, strict=True):
                    if not self._is_on_this_frame(layer, data):
                        continue
                    points = convert_points(_trace(kind, np.asarray(data, float)[:, -2:]), layer, image)
                    found.append(tuple(placement.to_field(*point) for point in points))
        return tuple(found)

    def _is_on_this_frame(self, layer: Shapes, data: Any) -> bool:
        if layer.ndim < 3:
            return True
        point = layer.world_to_data(np.array(self._viewer.dims.point[-layer.ndim :], float))
        return bool(np.all(np.abs(np.mean(np.asarray(data)[:, :-2], axis=0) - point[:-2]) < 0.5))

    def region(self, image: Layer, placement: Placement) -> Box | None:
        """Return the bounds in the field of what was last drawn into the dock's own layer."""
        layer = self._own()
        if layer is None or not len(layer.data):
            return None
        corners = np.asarray(layer.data[-1], float)[:, -2:]
        points = np.array([placement.to_field(*point) for point in convert_points(corners, layer, image)])
        (top, left), (bottom, right) = points.min(0), points.max(0)
        return float(top), float(left), float(bottom), float(right)

    def mark(self, box: Box, image: Layer, placement: Placement) -> None:
        """Draw the region, in place of an earlier one."""
        top, left, bottom, right = box
        corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
        pixels = [placement.to_pixel(*corner) for corner in corners]
        layer = self._own() or self._make(image)
        layer.data = ([convert_points(pixels, image, layer)], ["rectangle"])
        layer.edge_width = _EDGE_PX * float(np.mean(np.abs(np.asarray(image.scale)[-2:])))
        layer.edge_color, layer.face_color = _COLOR, "transparent"

    def clear(self) -> None:
        """Take the region away."""
        layer = self._own()
        if layer is not None:
            layer.data = []

    def _make(self, image: Layer) -> Shapes:
        active, selected = self._viewer.layers.selection.active, set(self._viewer.layers.selection)
        layer = self._viewer.add_shapes(
            None,
            ndim=2,
            name=unique_name(NAME, [other.name for other in self._viewer.layers]),
            units=image.units[-2:],
            edge_color=_COLOR,
            face_color="transparent",
            metadata={KEY: {_ENTRY: True}},
        )
        self._viewer.layers.selection.active = active
        self._viewer.layers.selection.update(selected)
        return layer

    def _own(self) -> Shapes | None:
        return next((x for x in self._watched if x.metadata.get(KEY, {}).get(_ENTRY)), None)

    def _find(self) -> list[Shapes]:
        from napari.layers import Shapes

        return [x for x in self._viewer.layers if isinstance(x, Shapes) and not is_grid_copy(x)]

    def _on_layers(self, event: Any = None) -> None:
        found = self._find()
        if found != self._watched:
            self._watch(found)
            self._changed()

    def _watch(self, layers: list[Shapes]) -> None:
        for watched, connect in ((self._watched, False), (layers, True)):
            for layer in watched:
                for name in _WATCHED:
                    event = getattr(layer.events, name)
                    (event.connect if connect else event.disconnect)(self._on_change)
        self._watched = layers

    def _on_change(self, event: Any = None) -> None:
        self._changed()


def _trace(kind: str, corners: F64) -> F64:
    if kind == "ellipse":
        center, half, other = corners.mean(0), (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
        ellipse: F64 = center + np.cos(_ROUND)[:, None] * half + np.sin(_ROUND)[:, None] * other
        return ellipse
    if kind in ("rectangle", "polygon"):
        return np.vstack([corners, corners[:1]])
    return corners
