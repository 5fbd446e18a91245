"""What the Compare dock does: shows the frames the viewer is at, computes in jobs, registers and exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.widgets.compare.contrast import Contrast
from napari_lowdose_tem.widgets.compare.export import draw_figure, make_layer_image
from napari_lowdose_tem.widgets.compare.field_of_view import Box, Point
from napari_lowdose_tem.widgets.compare.grid_frame import Grid, GridFrame
from napari_lowdose_tem.widgets.compare.outlines import Outlines
from napari_lowdose_tem.widgets.compare.pictures import Pictures
from napari_lowdose_tem.widgets.compare.registration import RegistrationRun
from napari_lowdose_tem.widgets.compare.results_job import Comparer, ResultsRequest
from napari_lowdose_tem.widgets.compare.sources import Sources
from napari_lowdose_tem.widgets.compare.state import (
    ROLES,
    CompareState,
    Picture,
    Results,
    make_residual_picture,
    picture_of,
)
from napari_lowdose_tem.widgets.shared.connections import Connections
from napari_lowdose_tem.widgets.shared.delay import DelayedCall
from napari_lowdose_tem.widgets.shared.latest_request import LatestRequest
from napari_lowdose_tem.widgets.shared.layers import layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import add_image, frame_index, viewer_itself
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
        self.viewer = viewer = viewer_itself(viewer)
        self.state = CompareState()
        self._shown: tuple[Any, ...] = ()
        self._pointed = np.asarray(viewer.cursor.position, float)[-2:]
        self._compared: dict[str, Layer] = {}
        self._request: ResultsRequest | None = None
        self._contrast = Contrast(self.state)
        # frames are shown at once, the numbers computed when the slider rests
        self._soon = DelayedCall(self.update, 0, restart=False)
        self._rest = DelayedCall(self._compute, _REST_MS)
        self._results: LatestRequest[ResultsRequest] = LatestRequest(
            Comparer().iter_results, self._on_results, self._on_failed, _PAUSE_MS
        )
        self._registering = RegistrationRun(self.state, self._soon.ask)
        self._sources = Sources(viewer, self.state, self._on_layers)
        self._pictures = Pictures(viewer, self.state, self._sources, self._soon.ask)
        self._outlines = Outlines(viewer, self._on_drawn)
        self._connections = Connections(
            (viewer.dims.events.point, self._on_frame),
            (viewer.cursor.events.position, self._on_pointed),
        )
        self._on_layers()
        self.update()

    def close(self) -> None:
        """End jobs and leave the viewer alone; for when the dock goes."""
        self._connections.close()
        for part in (self._soon, self._rest, self._registering, self._results):
            part.cancel()
        for follower in (self._sources, self._outlines, self._pictures):
            follower.close()
        self._request, self._shown = None, ()
        self.state.pictures, self.state.results, self.state.residual_picture = (), None, None

    @property
    def is_busy(self) -> bool:
        """Whether a job runs, or frames or numbers are still to be computed."""
        jobs = self._pictures, self._results, self._registering
        return any(job.is_busy for job in jobs) or self._soon.is_waiting or self._rest.is_waiting

    # ---- what the user chooses

    def choose_layer(self, role: str, name: str) -> None:
        """Take another layer for HDE, LDE or output; "" for none."""
        self._sources.choose(role, name)
        self._on_layers()

    def choose_automatically(self) -> None:
        """Choose the layers by provenance, size and name again."""
        self._sources.choose_automatically()
        self._on_layers()

    def set_average(self, n: int) -> None:
        """Show the mean of so many low-dose frames."""
        self.state.average = n
        self.find_limits()

    def set_mode(self, mode: str) -> None:
        """Show the images "side" by side, or two of them by "swipe", "blink" or "overlay"."""
        self.state.mode = mode

    def choose_pair(self, which: int, role: str) -> None:
        """Choose the first or second role shown by swipe, blink and overlay."""
        pair = list(self.state.pair)
        if pair[1 - which] == role:
            pair[1 - which] = pair[which]
        pair[which] = role
        self.state.pair = (pair[0], pair[1])

    def show_overlay(self) -> None:
        """Lay HDE and LDE over each other."""
        self.state.mode, self.state.pair = "overlay", ("HDE", "LDE")

    def set_blink_ms(self, value: int) -> None:
        """Blink at another rate."""
        self.state.blink_ms = value

    def share_limits(self, on: bool) -> None:
        """Give all views the same limits, or each image those of its layer controls."""
        self.state.shared = on
        self.find_limits()

    def set_limits(self, low: float, high: float) -> None:
        """Take other shared limits."""
        if high > low:
            self._contrast.set(low, high)
            self._soon.ask()

    def find_limits(self) -> None:
        """Choose the shared limits again."""
        self._contrast.forget()
        self._soon.ask()

    def scale_histograms(self, on: bool) -> None:
        """Show histograms of values scaled to 0–1, or of counts."""
        self.state.scaled = on

    def show_residual(self, on: bool) -> None:
        """Show LDE − output in a view of its own."""
        self.state.residual_shown = on

    def point_at(self, place: Point | None) -> None:
        """Mark one place of the field in all views."""
        self.state.cursor = place

    def draw_region(self, on: bool) -> None:
        """Let the next drag in a view mark a region."""
        self.state.drawing = on

    def set_in_region(self, on: bool) -> None:
        """Compute the numbers inside the region only."""
        self.state.in_region = on
        self._rest.ask()

    def mark_region(self, box: Box) -> None:
        """Compare within a region of the field."""
        self.state.drawing = False
        reference, field = self._sources.reference, self.state.field
        if reference is None or field is None:
            return
        box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], field.extent[0]), min(box[3], field.extent[1]))
        if box[2] - box[0] < field.step[0] or box[3] - box[1] < field.step[1]:
            self.state.report("The region is empty; drag from one corner to the opposite one.", True)
            return
        self.state.report("")
        self.state.in_region = True
        self._outlines.mark(box, *reference)

    def clear_region(self) -> None:
        """Remove the region, and compare whole frames again."""
        self.state.drawing = False
        self._outlines.clear()

    # ---- what is written

    def save_figure(self, path: Path, visible: Box | None = None) -> None:
        """Write the pictures shown, with scale bars, ready for a paper."""
        from napari_lowdose_tem.figures.profile import save

        if not self.state.pictures:
            self.state.report("There is nothing to save; choose an image first.", True)
            return
        try:
            save(draw_figure(self.state, self._contrast.factors, visible), path)
        except (OSError, ValueError) as error:
            self.state.report(error_line(error), True)
        else:
            self.state.report(f"Saved: {path}")

    def add_layer(self, what: str) -> None:
        """Add a layer: "HDE" on the grid it is compared on, "LDE" as averaged, or the "residual"."""
        reference = self._sources.reference
        if reference is None:
            self.state.report("Choose images first.", True)
            return
        images = {role: image for role, (_, image) in self._sources.of.items()}
        try:
            image = make_layer_image(self.state, what, images, self._request)
        except ValueError as error:
            self.state.report(error_line(error), True)
            return
        like, frame = reference[0], None
        if like.ndim == 3:  # a stack of one frame, at that frame
            frame = frame_index(self.viewer, like)
            image = image.with_data(image.data[None])
        added = add_image(self.viewer, layer_tuple(image, like=like, frame=frame))
        self.state.report(f"Added as “{added.name}”.")

    # ---- showing

    def update(self) -> None:
        """Show the frames that the viewer is at."""
        self._soon.cancel()
        pictures = []
        for role in ROLES:
            if role not in self._sources.of:
                continue
            try:
                picture = self._pictures.make(role)
            except ValueError as error:
                self.state.report(str(error), True)
                continue
            if picture is not None:
                pictures.append(picture)
        self.state.pictures = self._contrast.apply(pictures, self._layers())
        shown = tuple(
            (p.role, p.pyramid, p.placement.matrix.tobytes(), self._sources.of[p.role][1].pixel_size_nm)
            for p in pictures
        )
        if shown != self._shown:
            self._shown = shown
            self.state.is_fresh = False
            self._rest.ask()

    def _layers(self) -> dict[str, Layer]:
        return {role: layer for role, (layer, _) in self._sources.of.items()}

    # ---- numbers

    def _compute(self) -> None:
        field, state = self.state.field, self.state
        if field is None or not state.pictures:
            return
        frames = []
        for picture in state.pictures:
            frame = self._grid_frame(picture)
            if picture.role == "LDE" and state.average > 1:
                single = self._pictures.single_frame("LDE")
                if single is not None:
                    frames.append(replace(frame, pixels=single))
                frame = replace(frame, role="mean", title=f"mean of {state.average}")
            frames.append(frame)
        self._request = ResultsRequest(
            frames=tuple(frames),
            grid=Grid(field.shape, self._sources.pixel_size_nm),
            alignment=None if state.unregistered else state.alignment,
            region=self._slices() if state.in_region else None,
        )
        self._results.ask(self._request)

    def _grid_frame(self, picture: Picture) -> GridFrame:
        size = self._sources.of[picture.role][1].pixel_size_nm
        return GridFrame(picture.role, picture.role, picture.pixels, size)

    def _slices(self) -> tuple[slice, slice] | None:
        field, box = self.state.field, self.state.region
        if box is None or field is None:
            return None
        found = []
        for first, last, step, n in zip(box[:2], box[2:], field.step, field.shape, strict=True):
            start = min(max(0, round(first / step)), n - 1)
            found.append(slice(start, min(n, max(round(last / step), start + 1))))
        return found[0], found[1]

    def _on_results(self, done: tuple[ResultsRequest, Results]) -> None:
        request, results = done
        state, old = self.state, self.state.results
        if request is not self._request or not self._sources.of:
            return
        is_complete = bool(results.histograms)
        if not is_complete and old is not None:  # those before stay until the new ones are there
            results = replace(
                results,
                residual=results.residual or old.residual,
                residual_text=results.residual_text or old.residual_text,
                histograms=old.histograms,
                histogram_text=old.histogram_text,
            )
        state.results = results
        if is_complete:
            state.is_fresh = True
            state.residual_picture = make_residual_picture(results.residual, picture_of(state, "LDE"))
        state.pictures = tuple(replace(p, level=results.levels.get(p.role)) for p in state.pictures)

    def _on_failed(self, request: ResultsRequest, error: Exception) -> None:
        self.state.report(error_line(error), True)

    # ---- registration

    def register(self) -> None:
        """Find how the high dose lies on the low dose, and show it there."""
        field = self.state.field
        high, low = (picture_of(self.state, role) for role in ("HDE", "LDE"))
        if high is None or low is None or field is None:
            self.state.report("Registration needs a high-dose and a low-dose image.", True)
            return
        self.state.report("")
        grid = Grid(field.shape, self._sources.pixel_size_nm)
        self._registering.start(self._grid_frame(high), self._grid_frame(low), grid)

    def set_rotation(self, on: bool) -> None:
        """Let registration find the rotation as well."""
        self.state.rotation = on

    def set_magnification(self, on: bool) -> None:
        """Let registration find the magnification as well."""
        self.state.magnification = on

    def show_unregistered(self, on: bool) -> None:
        """Show the high dose where it lay before."""
        self.state.unregistered = on
        self._soon.ask()

    def accept_registration(self) -> None:
        """Accept where the high dose was found; its layer remembers it, and is not moved itself."""
        high = self._sources.layer("HDE")
        if high is not None:
            self._registering.accept(high, self.state.chosen[1])

    def undo_registration(self) -> None:
        """Show the high dose where its own pixel size puts it."""
        self._registering.undo(self._sources.layer("HDE"))

    # ---- the viewer

    def _on_layers(self, event: Any = None) -> None:
        """Look again at whatever layers there are."""
        kind = getattr(event, "type", "")
        if kind in ("contrast_limits", "colormap"):
            self._soon.ask()
            return
        if kind == "data":
            self._pictures.forget(event.source)
        layers, field = self._layers(), self.state.field
        self._registering.follow(layers.get("HDE"), layers.get("LDE"), field.shape if field else None)
        if layers != self._compared:
            self._compared = layers
            self._contrast.forget()
            self._pictures.clear()
            self.state.results, self.state.residual_picture, self.state.cursor = None, None, None
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
