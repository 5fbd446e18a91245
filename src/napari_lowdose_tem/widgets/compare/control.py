"""What the Compare dock does: shows the frames the viewer is at, computes in jobs, registers and exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.compare.contrast import Contrast
from napari_lowdose_tem.widgets.compare.export import draw_panels, make_layer_image
from napari_lowdose_tem.widgets.compare.field import Box, Point, Pyramid, place
from napari_lowdose_tem.widgets.compare.jobs import Comparer, Item, MeanRequest, NumbersRequest, iter_mean
from napari_lowdose_tem.widgets.compare.outlines import Outlines
from napari_lowdose_tem.widgets.compare.register import Registering
from napari_lowdose_tem.widgets.compare.sources import Sources
from napari_lowdose_tem.widgets.compare.state import ROLES, CompareState, Found, Picture, make_map, picture_of
from napari_lowdose_tem.widgets.shared import layers as _layers
from napari_lowdose_tem.widgets.shared.delay import DelayedCall
from napari_lowdose_tem.widgets.shared.frames import FrameReader, is_stretched, same_pixels
from napari_lowdose_tem.widgets.shared.latest_request import LatestRequest
from napari_lowdose_tem.widgets.shared.worker import error_line

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_REST_MS, _PAUSE_MS = 250, 150


class CompareControl:
    """Between viewer, state and jobs; lives on the GUI thread and knows no widget.

    Parameters
    ----------
    viewer
        The viewer or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer = _layers.viewer_itself(viewer)
        self.state = CompareState()
        self._pyramids: dict[str, Pyramid] = {}
        self._seen: tuple[Any, ...] = ()
        self._pointed = np.asarray(viewer.cursor.position, float)[-2:]
        self._compared: dict[str, Layer] = {}
        self._mean: tuple[Any, Any] | None = None
        self._request: NumbersRequest | None = None
        self._contrast = Contrast(self.state)
        self._frames = FrameReader(self._on_frame)
        self._means: LatestRequest[MeanRequest] = LatestRequest(iter_mean, self._on_mean, self._on_failed)
        self._numbers: LatestRequest[NumbersRequest] = LatestRequest(
            Comparer().iter_found, self._on_found, self._on_failed, _PAUSE_MS
        )
        # frames are shown at once, numbers taken when the slider rests
        self._soon = DelayedCall(self.update, 0, restart=False)
        self._rest = DelayedCall(self._ask, _REST_MS)
        self._registering = Registering(self.state, self._on_frame)
        self._sources = Sources(viewer, self.state, self._on_layers)
        self._outlines = Outlines(viewer, self._on_drawn)
        self._connected = [
            (viewer.dims.events.point, self._on_frame),
            (viewer.cursor.events.position, self._on_pointed),
        ]
        for event, slot in self._connected:
            event.connect(slot)
        self._on_layers()
        self.update()

    def close(self) -> None:
        """End jobs and leave the viewer alone; for when the dock goes."""
        for event, slot in self._connected:
            event.disconnect(slot)
        self._connected = []
        self._soon.cancel()
        self._rest.cancel()
        self._sources.close()
        self._outlines.close()
        self._registering.cancel()
        self._means.cancel()
        self._numbers.cancel()
        self._frames.close()
        self._pyramids, self._mean, self._request, self._seen = {}, None, None, ()
        self.state.pictures, self.state.found, self.state.map = (), None, None

    @property
    def is_busy(self) -> bool:
        """Whether a job runs, or frames or numbers are still to be taken."""
        jobs = self._means, self._numbers, self._registering
        return any(job.is_busy for job in jobs) or self._soon.is_waiting or self._rest.is_waiting

    # ---- what the user chooses

    def choose_layer(self, role: str, name: str) -> None:
        """Take another layer for HDE, LDE or output; "" for none."""
        self._sources.choose(role, name)
        self._on_layers()

    def pair_again(self) -> None:
        """Choose the layers by name and size again."""
        self._sources.pair_again()
        self._on_layers()

    def choose(self, **changes: Any) -> None:
        """Change how is compared: average, mode, blink_ms, shared, in_region, map_shown, scaled or before."""
        for key, value in changes.items():
            setattr(self.state, key, value)
        if changes.keys() & {"average", "shared"}:
            self._contrast.forget()
        if changes.keys() & {"average", "shared", "before"}:
            self._soon.ask()
        if "in_region" in changes:
            self._rest.ask()

    def choose_pair(self, which: int, role: str) -> None:
        """Choose the first or second role shown by swipe, blink and overlay."""
        pair = list(self.state.pair)
        if pair[1 - which] == role:
            pair[1 - which] = pair[which]
        pair[which] = role
        self.state.pair = (pair[0], pair[1])

    def set_limits(self, low: float, high: float) -> None:
        """Take other shared limits."""
        if high > low:
            self._contrast.set(low, high)
            self._soon.ask()

    def find_limits(self) -> None:
        """Choose the shared limits again."""
        self._contrast.forget()
        self._soon.ask()

    def point_at(self, place: Point | None) -> None:
        """Mark one place of the field in all views."""
        self.state.cursor = place

    def mark_region(self, box: Box) -> None:
        """Compare within a region of the field."""
        self.state.drawing = False
        reference, field = self._sources.reference, self.state.field
        if reference is None or field is None:
            return
        box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], field.extent[0]), min(box[3], field.extent[1]))
        if box[2] - box[0] < field.step[0] or box[3] - box[1] < field.step[1]:
            self._say("The region is empty; drag from one corner to the other.", True)
            return
        self._say("")
        self.state.in_region = True
        self._outlines.mark(box, *reference)

    def clear_region(self) -> None:
        """Compare whole frames again."""
        self.state.drawing = False
        self._outlines.clear()

    # ---- what is written

    def save_figure(self, path: Path, visible: Box | None = None) -> None:
        """Write the pictures shown, with scale bars, ready for a paper."""
        from napari_lowdose_tem.figures.profile import save

        if not self.state.pictures:
            self._say("There is nothing to draw; choose an image first.", True)
            return
        try:
            save(draw_panels(self.state, self._contrast.factors, visible), path)
        except (OSError, ValueError) as error:
            self._say(error_line(error), True)
        else:
            self._say(f"Written: {path}")

    def add_layer(self, what: str) -> None:
        """Add a layer: "HDE" on the grid it is compared on, "LDE" as averaged, or the "residual"."""
        reference = self._sources.reference
        if reference is None:
            self._say("Choose images first.", True)
            return
        images = {role: image for role, (_, image) in self._sources.of.items()}
        try:
            image = make_layer_image(self.state, what, images, self._request)
        except ValueError as error:
            self._say(error_line(error), True)
            return
        like, frame = reference[0], None
        if like.ndim == 3:  # a stack of one frame, at that frame
            frame = _layers.frame_index(self.viewer, like)
            image = image.with_data(image.data[None])
        added = _layers.add_image(self.viewer, _layers.layer_tuple(image, like=like, frame=frame))
        self._say(f"Added as “{added.name}”.")

    # ---- showing

    def update(self) -> None:
        """Show the frames that the viewer is at."""
        self._soon.cancel()
        found = (self._picture(role) for role in ROLES if role in self._sources.of)
        pictures = [picture for picture in found if picture is not None]
        self.state.pictures = self._contrast.apply(pictures, self._sources.of)
        seen = tuple(
            (p.role, p.pyramid, p.placement.matrix.tobytes(), self._sources.of[p.role][1].pixel_size_nm)
            for p in pictures
        )
        if seen != self._seen:
            self._seen = seen
            self.state.is_fresh = False
            self._rest.ask()

    def _picture(self, role: str) -> Picture | None:
        layer, image = self._sources.of[role]
        state, old = self.state, picture_of(self.state, role)
        if state.field is None:
            return None
        try:
            pixels = self._pixels(role, layer, image)
        except ValueError as error:
            self._say(str(error), True)
            return None
        if pixels is None:  # still being read: the one before stays
            return old if old is not None and old.placement.shape == image.frame_shape else None
        pyramid = self._pyramids.get(role)
        if pyramid is None or not same_pixels(pixels, pyramid.pixels):
            pyramid = self._pyramids[role] = Pyramid(pixels)
        moved = state.moved.matrix if role == "HDE" and state.moved and not state.before else None
        return Picture(
            role,
            self._title(role, layer),
            pyramid,
            place(image, state.field, self._sources.is_calibrated, moved),
            (0.0, 1.0),
            "" if is_stretched(pixels) else "counts",
            state.found.levels.get(role) if state.found is not None else None,
        )

    def _pixels(self, role: str, layer: Layer, image: Image) -> Any:
        frame, n = _layers.frame_index(self.viewer, layer), self.state.average
        if role != "LDE" or n == 1:
            return self._frames.get(layer, image, frame)
        key = image, frame, n
        if self._mean is not None and self._mean[0] == key:
            return self._mean[1]
        self._means.ask(MeanRequest(image, frame, n, key))
        return None

    def _title(self, role: str, layer: Layer) -> str:
        text = role if layer.name == role else f"{role} · {layer.name}"
        if role == "LDE" and self.state.average > 1:
            text += f" · mean of {self.state.average}"
        if role == "HDE" and self.state.moved is not None:
            text += " · before" if self.state.before else " · registered"
        return text

    def _on_mean(self, done: tuple[MeanRequest, Any]) -> None:
        request, pixels = done
        self._mean = request.key, pixels
        self._soon.ask()

    # ---- numbers

    def _ask(self) -> None:
        field, state = self.state.field, self.state
        if field is None or not state.pictures:
            return
        items = []
        for picture in state.pictures:
            layer, image = self._sources.of[picture.role]
            item = Item(picture.role, picture.role, picture.pixels, image.pixel_size_nm)
            if picture.role == "LDE" and state.average > 1:
                raw = self._frames.get(layer, image, _layers.frame_index(self.viewer, layer))
                if raw is not None:
                    items.append(replace(item, pixels=raw))
                item = replace(item, role="mean", title=f"mean of {state.average}")
            items.append(item)
        moved = None if state.before else state.moved
        region = self._slices() if state.in_region else None
        self._request = NumbersRequest(tuple(items), (field.shape, self._sources.size_nm), moved, region)
        self._numbers.ask(self._request)

    def _slices(self) -> tuple[slice, slice] | None:
        field, box = self.state.field, self.state.region
        if box is None or field is None:
            return None
        found = []
        for first, last, step, n in zip(box[:2], box[2:], field.step, field.shape, strict=True):
            start = min(max(0, round(first / step)), n - 1)
            found.append(slice(start, min(n, max(round(last / step), start + 1))))
        return found[0], found[1]

    def _on_found(self, done: tuple[NumbersRequest, Found]) -> None:
        request, found = done
        state = self.state
        if request is not self._request or not self._sources.of:
            return
        is_whole = bool(found.histograms)
        if not is_whole and state.found is not None:  # those before stay until the new ones are there
            old = state.found
            found = replace(
                found,
                residual=found.residual or old.residual,
                residual_text=found.residual_text or old.residual_text,
                histograms=old.histograms,
                histogram_text=old.histogram_text,
            )
        state.found = found
        if is_whole:
            state.is_fresh = True
            state.map = make_map(found.residual, picture_of(state, "LDE"))
        state.pictures = tuple(replace(p, level=found.levels.get(p.role)) for p in state.pictures)

    def _on_failed(self, request: Any, error: Exception) -> None:
        self._say(error_line(error), True)

    # ---- registration

    def register(self) -> None:
        """Find how the high dose lies on the low dose, and show it there."""
        field, state = self.state.field, self.state
        pictures = [picture_of(state, role) for role in ("HDE", "LDE")]
        items = [
            Item(p.role, p.title, p.pixels, self._sources.of[p.role][1].pixel_size_nm)
            for p in pictures
            if p is not None
        ]
        if len(items) < 2 or field is None:
            self._say("Registration needs a high-dose and a low-dose image.", True)
            return
        self._say("")
        self._registering.start(items[0], items[1], (field.shape, self._sources.size_nm))

    def keep_moved(self) -> None:
        """Accept where the high dose was found; its layer remembers it, and is not moved itself."""
        high = self._sources.layer("HDE")
        if high is not None:
            self._registering.keep(high, self.state.chosen[1])

    def undo_moved(self) -> None:
        """Show the high dose where its own pixels say."""
        self._registering.undo(self._sources.layer("HDE"))

    # ---- the viewer

    def _on_layers(self, event: Any = None) -> None:
        """Look again at whatever layers there are."""
        kind = getattr(event, "type", "")
        if kind in ("contrast_limits", "colormap"):
            self._soon.ask()
            return
        if kind == "data":
            self._frames.forget(event.source)
            self._mean = None
            for role in ROLES:
                if self._sources.layer(role) is event.source:
                    self._pyramids.pop(role, None)
        layers = {role: layer for role, (layer, _) in self._sources.of.items()}
        field = self.state.field
        self._registering.take(layers.get("HDE"), layers.get("LDE"), field.shape if field else None)
        if layers != self._compared:
            self._compared = layers
            self._contrast.forget()
            self._pyramids, self._mean = {}, None
            self.state.found, self.state.map, self.state.cursor = None, None, None
            self.state.is_fresh = False
        self._on_drawn()
        self._soon.ask()

    def _on_frame(self, event: Any = None) -> None:
        self._soon.ask()

    def _on_pointed(self, event: Any = None) -> None:
        """Mark what the mouse is at in the viewer's own canvas."""
        reference, field = self._sources.reference, self.state.field
        position = np.asarray(self.viewer.cursor.position, float)
        at_rest = np.array_equal(position[-2:], self._pointed)  # only the frame changed
        self._pointed = position[-2:]
        if at_rest or reference is None or field is None or len(position) < reference[0].ndim:
            return
        row, col = reference[0].world_to_data(position[-reference[0].ndim :])[-2:]
        at = reference[1].to_field(float(row), float(col))
        is_inside = all(0 <= v <= size for v, size in zip(at, field.extent, strict=True))
        self.state.cursor = at if is_inside else None

    def _on_drawn(self) -> None:
        reference, state = self._sources.reference, self.state
        state.outlines = self._outlines.paths(*reference) if reference is not None else ()
        region = self._outlines.region(*reference) if reference is not None else None
        if region != state.region:
            state.region = region
            self._rest.ask()

    def _say(self, message: str, error: bool = False) -> None:
        self.state.is_error = error
        self.state.message = message
