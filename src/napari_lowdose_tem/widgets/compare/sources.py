"""Which layers are compared, and where their images lie in the field."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.compare.field_of_view import (
    Placement,
    find_field_of_view,
    place_image,
    why_not_same_field,
)
from napari_lowdose_tem.widgets.compare.state import ROLES, CompareState
from napari_lowdose_tem.widgets.shared.connections import Connections
from napari_lowdose_tem.widgets.shared.layers import KEY, image_from_layer, is_kymograph, why_not

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_WATCHED = (
    "data", "scale", "translate", "rotate", "shear", "affine", "units", "metadata",
    "contrast_limits", "colormap",
)  # fmt: skip


class Sources:
    """Follows the image layers of a viewer and gives each role one.

    Parameters
    ----------
    viewer
        The viewer's model.
    state
        Of the dock.
    changed
        Called with the event after the layers, their names, pixels, calibration or look changed.
    """

    def __init__(self, viewer: ViewerModel, state: CompareState, changed: Callable[[Any], None]) -> None:
        self._viewer, self._state, self._changed = viewer, state, changed
        self.of: dict[str, tuple[Layer, Image]] = {}
        self._by_hand: set[str] = set()
        layers = viewer.layers.events
        changes = layers.inserted, layers.removed, layers.reordered, layers.renamed
        self._connections = Connections(*((change, self._on_layers) for change in changes))
        self.follow()

    def close(self) -> None:
        """Listen no more."""
        self._connections.close()
        for layer, _ in self.of.values():
            self._watch(layer, False)
        self.of = {}

    def layer(self, role: str) -> Layer | None:
        """Layer of a role."""
        return self.of[role][0] if role in self.of else None

    @property
    def is_calibrated(self) -> bool:
        """Whether the image whose grid it is has a pixel size."""
        field = self._state.field
        return field is not None and self.of[field.role][1].pixel_size_nm is not None

    @property
    def reference(self) -> tuple[Layer, Placement] | None:
        """Layer of the role whose grid it is, and where that lies in the field."""
        field = self._state.field
        if field is None or field.role not in self.of:
            return None
        layer, image = self.of[field.role]
        return layer, place_image(image, field, self.is_calibrated)

    @property
    def pixel_size_nm(self) -> tuple[float, float] | None:
        """Pixel size of the grid."""
        field = self._state.field
        return self.of[field.role][1].pixel_size_nm if field is not None else None

    def choose(self, role: str, name: str) -> None:
        """Take another layer for a role; "" for none."""
        chosen = ["" if other == name else other for other in self._state.chosen]  # one layer has one role
        chosen[ROLES.index(role)] = name
        self._by_hand.add(role)
        self._take(tuple(chosen))

    def choose_automatically(self) -> None:
        """Choose the layers by provenance, size and name again."""
        self._by_hand.clear()
        self.follow()

    def follow(self) -> None:
        """Take names, roles, pixels and calibration anew."""
        from napari_lowdose_tem.pairs.roles import find_roles

        images = [x for x in self._viewer.layers if not (why_not(x) or is_kymograph(x) or _is_map(x))]
        self._state.layers = tuple(layer.name for layer in reversed(images))
        named = {role: layer.name for role, (layer, _) in self.of.items() if layer in images}
        # where the layer chosen by hand was removed, the role is filled by itself again
        self._by_hand -= {role for role in self._by_hand if role in self.of and role not in named}
        by_hand = {role: named.get(role, "") for role in self._by_hand}
        free = {x.name: image_from_layer(x) for x in images if x.name not in by_hand.values()}
        roles = find_roles(free)
        guessed = dict(zip(ROLES, (roles.hde or "", roles.lde or "", roles.output or ""), strict=True))
        chosen = guessed | by_hand
        self._take(tuple(chosen[role] for role in ROLES))

    def _on_layers(self, event: Any) -> None:
        self.follow()
        self._changed(event)

    def _on_changed(self, event: Any) -> None:
        if event.type not in ("contrast_limits", "colormap"):
            self.follow()
        self._changed(event)

    def _take(self, chosen: tuple[str, ...]) -> None:
        for layer, _ in self.of.values():
            self._watch(layer, False)
        self.of = {}
        for role, name in zip(ROLES, chosen, strict=True):
            if name in self._viewer.layers:
                layer = self._viewer.layers[name]
                self.of[role] = layer, image_from_layer(layer)
                self._watch(layer, True)
        state = self._state
        state.chosen = (chosen[0], chosen[1], chosen[2])
        images = {role: image for role, (_, image) in self.of.items()}
        state.field = find_field_of_view(images)
        state.averages = _averages(images["LDE"].n_frames if "LDE" in images else 1)
        if state.average not in state.averages:
            state.average = 1
        state.note = self._describe(images)

    def _describe(self, images: dict[str, Image]) -> str:
        field, is_calibrated = self._state.field, self.is_calibrated
        if field is None:
            return ""
        reasons = [
            f"{role}: {reason}."
            for role, image in images.items()
            if (reason := why_not_same_field(image, field, is_calibrated))
        ]
        if reasons:
            return " ".join(reasons)
        sizes = [image.pixel_size_nm for image in images.values()]
        is_one_grid = all(image.frame_shape == field.shape for image in images.values())
        if None in sizes and not is_one_grid:
            return "Some images have no pixel size; all are taken to show exactly the same field."
        return ""

    def _watch(self, layer: Layer, on: bool) -> None:
        for name in _WATCHED:
            event = getattr(layer.events, name)
            (event.connect if on else event.disconnect)(self._on_changed)


def _is_map(layer: Layer) -> bool:
    """Whether a layer was made by the dock, as a residual."""
    return "residual_of" in layer.metadata.get(KEY, {}).get("provenance", {})


def _averages(n: int) -> tuple[int, ...]:
    """1, 2, 4 … and all frames."""
    powers = [2**i for i in range(n.bit_length()) if 2**i <= n]
    return tuple(powers if powers[-1] == n else [*powers, n])
