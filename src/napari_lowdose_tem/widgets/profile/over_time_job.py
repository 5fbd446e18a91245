"""A line over all frames of a stack: the job, and the kymograph as a layer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.measure.measurement import FitOptions
from napari_lowdose_tem.measure.profile import Line
from napari_lowdose_tem.widgets.profile.state import ProfileState
from napari_lowdose_tem.widgets.shared.layers import layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import add_image
from napari_lowdose_tem.widgets.shared.worker import Job, error_line

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_lowdose_tem.measure.over_time import OverTimeProgress

_REPORT_S = 0.1


@dataclass(frozen=True, eq=False)
class OverTimeRequest:
    """A line to be measured on every frame; `raw` is the stack an enhanced one was made from."""

    image: Image
    line: Line
    options: FitOptions
    follow: bool
    raw: Image | None = None

    def iter_steps(self) -> Iterator[OverTimeProgress]:
        """Measure it."""
        from napari_lowdose_tem.measure import iter_over_time

        yield from iter_over_time(self.image, self.line, self.options, follow=self.follow, raw=self.raw)


class OverTimeRun:
    """Measures one line on every frame and tells the dock's state.

    Parameters
    ----------
    viewer
        The viewer's model.
    state
        State of the dock.
    """

    def __init__(self, viewer: ViewerModel, state: ProfileState) -> None:
        self._viewer, self._state = viewer, state
        self._job: Job | None = None
        self._image: Image | None = None
        self._last: OverTimeProgress | None = None
        self.stacks: tuple[str, ...] = ()
        self._chosen = ""

    def offer(self, images: list[tuple[str, Image]]) -> None:
        """Offer the stacks among the images, the output first."""
        stacks = (name for name, image in reversed(images) if image.is_stack and image.n_frames > 1)
        self.stacks = tuple(stacks)
        if self._chosen not in self.stacks:
            self._chosen = ""
        self._state.stack = self._chosen or (self.stacks[0] if self.stacks else "")

    def choose(self, name: str) -> None:
        """Take another stack."""
        self._chosen = self._state.stack = name

    def start(
        self, layer: Layer, image: Image, line: Line, options: FitOptions, raw: Image | None = None
    ) -> None:
        """Measure; `raw` is the stack an enhanced one was made from."""
        if self._state.time_running:
            return
        self._image, self._name, self._reported_at, self._last = image, layer.name, 0.0, None
        request = OverTimeRequest(image, line, options, self._state.follow, raw)
        job = self._job = Job(request.iter_steps, f"line over time: {image.name}")
        job.progress.connect(self._on_progress)
        job.finished.connect(self._on_finished)
        job.errored.connect(lambda error: self._end(error_line(error), error=True))
        job.cancelled.connect(self._on_cancelled)
        self._state.time_running, self._state.time_share, self._state.time_text = True, 0.0, "Starting …"
        job.start()

    def cancel(self) -> None:
        """Stop within a frame."""
        if self._job is not None:
            self._job.cancel()

    def close(self) -> None:
        """Stop."""
        self.cancel()

    def add_kymograph(self) -> None:
        """Add the kymograph as a layer: time downwards, the position along the line to the right.

        Its rows are given a length too, for it to be as high as the line is long: napari has one unit for an
        axis of all layers and would draw none of them to scale beside rows in seconds.
        """
        found, image = self._state.over_time, self._image
        if found is None or image is None:
            return
        step_s, rows = image.frame_time_s, np.asarray(found.kymograph, np.float32)
        step = float(found.position[1] - found.position[0])
        attributes: dict[str, Any] = {
            "scale": (step * rows.shape[1] / rows.shape[0], step),
            "units": ("nm" if found.unit == "nm" else "pixel",) * 2,
            "axis_labels": ("time" if step_s else "frame", "position"),
        }
        shown = Image(rows, frame_time_s=step_s, name=f"{self._name} kymograph")
        made = {"kymograph_of": self._name, f"column_{found.unit}": step}
        shown = shown.with_provenance(**made, source=image.provenance.get("source"))
        others = list(self._viewer.layers)
        layer = add_image(self._viewer, layer_tuple(shown, **attributes))
        text = f"Time runs downwards, {step_s:g} s per row" if step_s else "One row per frame"
        if not self._viewer.canvas.grid.enabled:  # else it has a cell of its own
            for other in others:
                other.visible = False
            text += ". The other layers are hidden"
        self._state.report(f"{text}.")
        self._viewer.layers.selection.active = layer
        self.look_at(layer)

    def look_at(self, layer: Layer) -> None:
        """Let a frame-like layer fill the view; napari's own way fails beside stacks."""
        low, high = layer.extent.world[:, -2:]
        camera = self._viewer.scene.camera
        camera.center = (0.0, *((low + high) / 2))
        camera.zoom = 0.9 * min(self._viewer.canvas.size) / max(float((high - low).max()), 1e-9)

    def _on_progress(self, progress: OverTimeProgress) -> None:
        self._last = progress
        if time.monotonic() - self._reported_at < _REPORT_S:
            return
        self._reported_at = time.monotonic()
        self._state.time_share = progress.done / progress.total if progress.total else 1.0
        self._state.time_text = f"Frame {progress.done} of {progress.total}"

    def _on_finished(self, last: OverTimeProgress | None) -> None:
        if last is None:
            self._end("No frames measured.", error=True)
            return
        self._end(self._show(last))

    def _on_cancelled(self, _: object) -> None:
        self._end("Cancelled." if self._last is None else f"Cancelled: {self._show(self._last)}")

    def _show(self, last: OverTimeProgress) -> str:
        """Show what was measured, once the job has ended, and say how much it is."""
        found = self._state.over_time = last.gather()
        refused = sum(map(bool, found.refused))
        text = f"{len(found.frames)} frames measured"
        return f"{text}; no result on {refused}." if refused else f"{text}."

    def _end(self, text: str, error: bool = False) -> None:
        self._job = None
        self._state.time_running, self._state.time_text = False, ""
        self._state.report(text, error)
