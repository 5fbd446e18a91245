"""Copies of the lines on the other images in grid mode, where every layer takes a cell of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_lowdose_tem.widgets.shared.connections import Connections
from napari_lowdose_tem.widgets.shared.delay import DelayedCall
from napari_lowdose_tem.widgets.shared.layers import KEY, is_grid_copy
from napari_lowdose_tem.widgets.shared.viewer import unique_name

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Shapes

Color = tuple[float, float, float, float]
ORANGE: Color = (1.0, 0.69, 0.0, 1.0)


class CopiedLines(Protocol):
    """What the copies need of the lines: their layer, and their look at the present zoom."""

    layer: Shapes | None

    def look(self) -> tuple[float, Color]:
        """Width [the layer's units] and colour of a line."""

    @property
    def thin(self) -> float:
        """Width of a line that is thin on the screen [the layer's units]."""


class GridCopies:
    """In grid mode: above each other layer a copy of the lines, and two layers a cell.

    Parameters
    ----------
    viewer
        The viewer's model.
    lines
        What is copied.
    """

    def __init__(self, viewer: ViewerModel, lines: CopiedLines) -> None:
        self._viewer, self._lines = viewer, lines
        self._of: dict[Layer, Shapes] = {}
        self._stride: int | None = None
        self._watched: set[Layer] = set()
        self._is_arranging = False
        self._soon = DelayedCall(self.arrange)
        self._grid = viewer.canvas.grid
        self._connections = Connections(
            (self._grid.events.enabled, self.arrange_soon),
            (viewer.layers.events.reordered, self.arrange_soon),
        )
        for layer in [layer for layer in viewer.layers if is_grid_copy(layer)]:  # of a dock that crashed
            viewer.layers.remove(layer)
        self.arrange_soon()

    @property
    def layers(self) -> list[Shapes]:
        """The copies."""
        return list(self._of.values())

    def close(self) -> None:
        """Take them away."""
        self._soon.cancel()
        self._connections.close()
        self._remove_all()

    def arrange_soon(self, event: Any = None) -> None:
        """Arrange them when whatever happens to the layers has happened."""
        if not self._is_arranging:
            self._soon.ask()

    def arrange(self) -> None:
        """Put a copy above each layer, the lines above the last that is visible, two layers a cell."""
        lines, viewer = self._lines.layer, self._viewer
        if not self._grid.enabled or lines is None or lines not in viewer.layers or not lines.visible:
            self._remove_all()
            return
        self._is_arranging = True
        try:
            others = [layer for layer in viewer.layers if layer is not lines and layer not in self.layers]
            self._watch(set(others))
            shown = [layer for layer in others if layer.visible]
            if not shown:
                self._remove_all()
                return
            for gone in [layer for layer in self._of if layer not in others or layer is shown[-1]]:
                self._remove(gone)
            for layer in others:
                if layer is not shown[-1] and self._of.get(layer) not in viewer.layers:
                    self._add(layer)
            wanted = [x for layer in others for x in (layer, self._of.get(layer, lines))]
            for place, layer in enumerate(wanted):
                if viewer.layers[place] is not layer:
                    viewer.layers.move(viewer.layers.index(layer), place)
            if self._stride is None:
                self._stride = self._grid.stride
                self._grid.stride = int(math.copysign(2, self._stride))
        finally:
            self._is_arranging = False
        self.follow()

    def follow(self) -> None:
        """Draw the lines where they are now."""
        lines = self._lines.layer
        if lines is None or not self._of:
            return
        width, color = self._lines.look()
        data = [np.asarray(shape, float)[[0, -1], -2:] for shape in lines.data]
        # bands, and in each a thin line
        widths = [width] * len(data) + [self._lines.thin] * len(data)
        colors = np.array([color] * len(data) + [ORANGE] * len(data)).reshape(-1, 4)
        for layer, copy in self._of.items():
            copy.visible = layer.visible
            # nobody else needs to hear of it; napari would look at all layers anew
            with copy.events.data.blocker(), copy.block_thumbnail_update():
                copy.data = (data * 2, ["line"] * len(widths)) if data else []
                if data and not np.allclose(copy.edge_width, widths):
                    copy.edge_width = widths
                if data and not np.allclose(copy.edge_color, colors, atol=0.01):
                    copy.edge_color = colors
            copy.editable = False

    def _watch(self, layers: set[Layer]) -> None:
        for layer in self._watched - layers:
            layer.events.visible.disconnect(self.arrange_soon)
        for layer in layers - self._watched:
            layer.events.visible.connect(self.arrange_soon)
        self._watched = layers

    def _add(self, layer: Layer) -> None:
        viewer, lines = self._viewer, self._lines.layer
        selected, active = set(viewer.layers.selection), viewer.layers.selection.active
        copy = viewer.add_shapes(
            None,
            ndim=2,
            name=unique_name(f"Line on {layer.name}", [other.name for other in viewer.layers]),
            metadata={KEY: {"mirror": True}},
            face_color="transparent",
            opacity=1.0,
            **{key: _last_two(getattr(lines, key)) for key in ("scale", "translate", "units")},
        )
        self._of[layer] = copy
        viewer.layers.selection.active = active
        viewer.layers.selection.update(selected)

    def _remove(self, layer: Layer) -> None:
        copy = self._of.pop(layer)
        if copy in self._viewer.layers:
            self._viewer.layers.remove(copy)

    def _remove_all(self) -> None:
        was_arranging, self._is_arranging = self._is_arranging, True
        if not (self._grid.enabled and self._connections.are_open):
            self._watch(set())
        for layer in list(self._of):
            self._remove(layer)
        if self._stride is not None:
            if abs(self._grid.stride) == 2:  # else the user chose another
                self._grid.stride = self._stride
            self._stride = None
        self._is_arranging = was_arranging


def _last_two(values: Any) -> Any:
    return tuple(values)[-2:]
