"""The lines of the Line profile dock: a Shapes layer, and in grid mode its copies on the other images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.widgets.profile.grid_copies import ORANGE, Color, GridCopies
from napari_lowdose_tem.widgets.shared.connections import Connections
from napari_lowdose_tem.widgets.shared.coordinates import convert_points, pad
from napari_lowdose_tem.widgets.shared.delay import DelayedCall
from napari_lowdose_tem.widgets.shared.layers import KEY, is_grid_copy
from napari_lowdose_tem.widgets.shared.viewer import unique_name

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer, Shapes

Ends = npt.NDArray[np.float64]
Segment = tuple[tuple[float, float], tuple[float, float]]

NAME = "Line profiles"
COLOR = "#ffb000"
_LINE_PX, _BAND_FROM_PX, _BAND_ALPHA = 2.0, 5.0, 0.35  # on the screen


class LineLayers:
    """Finds or makes the Shapes layer with the lines, tells of its changes, shows it on every image.

    Parameters
    ----------
    viewer
        The viewer's model.
    changed
        Called after a line was drawn, moved, named, chosen or removed; also while it is dragged.
    """

    def __init__(self, viewer: ViewerModel, changed: Callable[[], None]) -> None:
        self._viewer = viewer
        self._changed: Callable[[], Any] = lambda: None  # who asked for the lines does not have them yet
        self.layer: Shapes | None = None
        self.width = 0.0
        self._current = -1
        self._seen: tuple[Any, ...] = ()
        self._is_drawing = False
        self._drawn = DelayedCall(self._let_adjust)
        self._copies = GridCopies(viewer, self)
        self._connections = Connections(
            (viewer.layers.events.inserted, self._on_layers),
            (viewer.layers.events.removed, self._on_removed),
            (viewer.layers.selection.events.active, self._on_active),
            (viewer.scene.camera.events.zoom, self._on_zoom),
        )
        self._on_active()
        if self.layer is None:
            self._take_any()
        self._changed = changed

    def close(self) -> None:
        """Leave the lines alone and take the copies away."""
        self._connections.close()
        self._drawn.cancel()
        self._watch(None)
        self._copies.close()

    # ---- what there is

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the lines."""
        if self.layer is None:
            return ()
        column = self.layer.features.get("name")
        found = [] if column is None else [_text(value) for value in column]
        found += [""] * (len(self.layer.data) - len(found))
        return tuple(name or f"Line {i + 1}" for i, name in enumerate(found[: len(self.layer.data)]))

    @property
    def current(self) -> int:
        """Index of the line measured, or -1."""
        return self._current

    @property
    def name(self) -> str:
        """Name of the line measured."""
        return self.names[self._current] if self._current >= 0 else ""

    @property
    def ends(self) -> Ends | None:
        """(2, 2) start and stop as (row, column) in the layer's units, or None."""
        return None if self._current < 0 else self._ends_of(self._current)

    def is_ours(self, layer: Layer) -> bool:
        """Whether the layer is a copy of the lines."""
        return layer in self._copies.layers

    def ends_on(self, image: Layer, ends: Ends | None = None) -> Segment | None:
        """Start and stop of the line on an image, (row, column) [px], wherever and however large it lies."""
        ends = self.ends if ends is None else ends
        if ends is None or self.layer is None:
            return None
        start, stop = convert_points(ends, self.layer, image).tolist()
        return (start[0], start[1]), (stop[0], stop[1])

    def ends_from(self, image: Layer, ends: Sequence[tuple[float, float]]) -> Ends:
        """Turn (row, column) [px] on an image into the layer's own coordinates."""
        layer = self.layer or self._make(image)
        return convert_points(ends, image, layer)

    # ---- what the user does

    def draw(self, image: Layer) -> None:
        """Let the user draw a line; make the layer where there is none."""
        layer = self.layer or self._make(image)
        self._viewer.layers.selection.active = layer
        layer.visible = True
        layer.mode = "add_line"
        self._is_drawing = True

    def add(self, image: Layer, ends: Sequence[tuple[float, float]], name: str = "") -> None:
        """Add a line by its (row, column) ends [px] on an image, and measure it."""
        layer = self.layer or self._make(image)
        placed = self.ends_from(image, ends)
        layer.add(np.array([pad(end, layer.ndim) for end in placed]), shape_type="line")
        self._name_lines(name)
        self.choose(len(layer.data) - 1)

    def choose(self, index: int) -> None:
        """Measure another line."""
        if self.layer is not None and 0 <= index < len(self.layer.data):
            self.layer.selected_data = {index}
            self._on_change()

    def move(self, ends: Ends) -> None:
        """Move the line measured."""
        if self.layer is None or self._current < 0:
            return
        data = [np.array(shape, float) for shape in self.layer.data]
        data[self._current][[0, -1], -2:] = ends
        chosen = self._current
        self.layer.data = data
        self.choose(chosen)

    def rename(self, name: str) -> None:
        """Name the line measured."""
        if self.layer is not None and self._current >= 0:
            names = list(self.names)
            names[self._current] = name
            self.layer.features = self.layer.features.assign(name=names)

    def set_width(self, width: float) -> None:
        """Draw the lines as wide as the profile is averaged over, in the layer's units."""
        self.width = width
        self._style()
        self._copies.follow()

    # ---- inside

    def _make(self, image: Layer) -> Shapes:
        units = image.units[-2:]
        if all(unit.is_compatible_with("nm") for unit in units):
            units = ("nm", "nm")
        selected = self._viewer.layers.selection.active
        layer = self._viewer.add_shapes(
            None,
            ndim=2,
            name=unique_name(NAME, [other.name for other in self._viewer.layers]),
            units=units,
            features={"name": np.empty(0, object)},
            text={"string": "{name}", "size": 10, "color": COLOR, "anchor": "upper_left"},
            edge_color=COLOR,
            face_color="transparent",
            opacity=1.0,
            metadata={KEY: {"line_profiles": {}}},
        )
        self._viewer.layers.selection.active = selected
        self._watch(layer)
        self._style()
        return layer

    def _on_active(self, event: Any = None) -> None:
        active = self._viewer.layers.selection.active
        if active is not None and active is not self.layer and _is_lines(active):
            self._watch(active)
            self._on_change()

    def _on_layers(self, event: Any = None) -> None:
        if self.layer is None:
            self._take_any()
        self._copies.arrange_soon()

    def _on_removed(self, event: Any) -> None:
        if event.value is self.layer:
            self._watch(None)
            self._take_any()
            self._on_change()
        self._copies.arrange_soon()

    def _take_any(self) -> None:
        found = [layer for layer in self._viewer.layers if _is_lines(layer) and len(layer.data)]
        if found:
            self._watch(found[-1])
            self._on_change()

    def _watch(self, layer: Shapes | None) -> None:
        for watched, connect in ((self.layer, False), (layer, True)):
            if watched is None:
                continue
            for event, slot in (
                (watched.events.set_data, self._on_change),
                (watched.events.data, self._on_data),
                (watched.events.features, self._on_change),
                (watched.events.units, self._on_change),
                (watched.events.scale, self._on_change),
                (watched.events.translate, self._on_change),
                (watched.events.visible, self._copies.arrange_soon),
                (watched.selected_data.events.items_changed, self._on_change),
            ):
                (event.connect if connect else event.disconnect)(slot)
        if self.layer is not None:
            self.layer.mouse_drag_callbacks.remove(self._on_mouse)
        if layer is not None:
            layer.mouse_drag_callbacks.append(self._on_mouse)
        self.layer, self._current, self._seen = layer, -1, ()
        self._copies.arrange_soon()

    def _on_mouse(self, layer: Shapes, event: Any) -> Iterator[None]:
        """Notice that a line was drawn."""
        yield
        while event.type == "mouse_move":
            yield
        self._drawn.ask()

    def _let_adjust(self) -> None:
        """After a line was drawn let its ends be moved, which most lines need."""
        if self._is_drawing and self.layer is not None and self.layer.mode == "add_line":
            self.layer.mode = "direct"
        self._is_drawing = False

    def _on_data(self, event: Any) -> None:
        if str(getattr(event, "action", "")) in ("added", "ActionType.ADDED"):
            self._name_lines()
        self._on_change()

    def _on_zoom(self, event: Any = None) -> None:
        self._style()
        self._copies.follow()

    def _on_change(self, *_: Any) -> None:
        """Find out what is measured now, and tell where that is new."""
        layer = self.layer
        if layer is None:
            self._current = -1
        else:
            lines = [i for i, kind in enumerate(layer.shape_type) if kind == "line"]
            chosen = [i for i in layer.selected_data if i in lines]
            if chosen:
                self._current = max(chosen)
            elif self._current not in lines:
                self._current = lines[-1] if lines else -1
        ends = self.ends
        seen = (layer, self._current, None if ends is None else ends.tobytes(), self.names)
        if seen != self._seen:
            self._seen = seen
            self._style()
            self._copies.follow()
            self._changed()

    def _ends_of(self, index: int) -> Ends:
        assert self.layer is not None
        return np.asarray(self.layer.data[index], np.float64)[[0, -1], -2:]

    def _name_lines(self, wanted: str = "") -> None:
        """Give each line a name of its own; napari names a new one like the one chosen before."""
        if self.layer is None:
            return
        column = self.layer.features.get("name", [None] * len(self.layer.data))
        names: list[str] = []
        for i, name in enumerate(map(_text, column)):
            if wanted and i == len(column) - 1:
                name = wanted
            if not name or name in names:
                number = 1
                while f"Line {number}" in names or f"Line {number}" in list(column):
                    number += 1
                name = f"Line {number}"
            names.append(name)
        if names != list(column):
            self.layer.features = self.layer.features.assign(name=names)

    def _style(self) -> None:
        if self.layer is None or KEY not in self.layer.metadata:
            return  # a layer of the user's own looks as he made it
        width, color = self.look()
        layer = self.layer
        if len(layer.data) and not np.allclose(layer.edge_width, width, rtol=0.05):
            layer.edge_width = width
        if len(layer.data) and not np.allclose(layer.edge_color, color, atol=0.01):
            layer.edge_color = np.tile(color, (len(layer.data), 1))
        if not layer.selected_data and abs(layer.current_edge_width - width) > 0.05 * width:
            layer.current_edge_width = width

    def look(self) -> tuple[float, Color]:
        """Width [the layer's units] and colour of a line: a translucent band where that can be seen."""
        zoom = max(float(self._viewer.scene.camera.zoom), 1e-12)
        is_band = self.width * zoom >= _BAND_FROM_PX
        return (self.width if is_band else _LINE_PX / zoom), (*ORANGE[:3], _BAND_ALPHA if is_band else 1.0)

    @property
    def thin(self) -> float:
        """Width of a line that is thin on the screen [the layer's units]."""
        return _LINE_PX / max(float(self._viewer.scene.camera.zoom), 1e-12)


def _is_lines(layer: Layer) -> bool:
    from napari.layers import Shapes

    return isinstance(layer, Shapes) and not is_grid_copy(layer)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
