"""What the Enhance dock does: follows the viewer, starts jobs, puts their results into layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.enhance import stack
from napari_lowdose_tem.widgets.enhance.preview_layer import PreviewLayer
from napari_lowdose_tem.widgets.enhance.stack_output import StackOutput
from napari_lowdose_tem.widgets.enhance.state import EnhanceState, describe_image
from napari_lowdose_tem.widgets.shared import layers
from napari_lowdose_tem.widgets.shared.connections import Connections
from napari_lowdose_tem.widgets.shared.devices import DEVICES, describe_device, preferred_device
from napari_lowdose_tem.widgets.shared.models import ModelList, engine_options
from napari_lowdose_tem.widgets.shared.viewer import viewer_itself
from napari_lowdose_tem.widgets.shared.worker import Job, error_line

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer
    from napari.utils.events import Event

    from napari_lowdose_tem.enhancement import Progress
    from napari_lowdose_tem.widgets.enhance.preview import PreviewFrame


class EnhanceControl:
    """Between viewer, state and jobs; lives on the GUI thread and knows no widget.

    Parameters
    ----------
    viewer
        The viewer or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer = viewer_itself(viewer)
        self.state = EnhanceState(device=preferred_device(DEVICES))
        self.image: Image | None = None
        self._models = ModelList()
        self._source: Layer | None = None
        self._job: Job | None = None
        self._preview_error = ""
        self._output = StackOutput(viewer)
        self._preview = PreviewLayer(viewer, self._on_preview_shown, self._on_preview_error)
        self._connections = Connections(
            (viewer.layers.events.inserted, self._on_layers),
            (viewer.layers.events.removed, self._on_removed),
            (viewer.layers.events.reordered, self._on_layers),
            (viewer.layers.events.renamed, self._on_layers),
            (viewer.layers.selection.events.active, self._on_active),
            (viewer.dims.events.point, self._on_frame),
        )
        self._models.choose_default(self.state)
        self._on_active()
        self._show_layers()

    def close(self) -> None:
        """End jobs and leave the viewer alone; for when the dock goes."""
        self._connections.close()
        self._watch(None)
        self._preview.close()
        if self._job is not None:
            self._job.cancel()

    # ---- what the user chooses

    def choose_source(self, name: str) -> None:
        """Take another layer."""
        if name in self.viewer.layers:
            self._set_source(self.viewer.layers[name])

    def choose_model(self, path: str) -> None:
        """Take a model of the list or any model file."""
        if self._models.choose(path, self.state):
            self._update_preview()

    def choose_device(self, device: str) -> None:
        """Take another processor."""
        self.state.device = device
        self.state.device_text = ""
        self._update_preview()

    def set_preview(self, on: bool) -> None:
        """Show the current frame enhanced, or stop doing so."""
        self.state.preview = on
        self.state.report("")
        if on:
            self._update_preview()
        else:
            self._preview.stop()
            self.state.preview_text = ""

    def prepare_stack(self) -> None:
        """Take the selected layer, to be enhanced whole, without a preview."""
        active, preview = self.viewer.layers.selection.active, self._preview.layer
        self.set_preview(False)
        if active is not None and active is not preview:
            self._set_source(active)

    def choose_output(self, path: Path | None) -> None:
        """Write the whole stack to an OME-Zarr folder, or keep it in memory."""
        if path is not None and path.suffix.lower() != ".zarr":
            path = path.with_name(f"{path.name}.zarr")
        self.state.output = path
        self._show_output()

    # ---- the whole stack

    def start_stack(self, resume: bool = False) -> None:
        """Enhance the whole stack, or resume an interrupted output."""
        options = self._engine_options()
        if self.state.running or not self.state.source_ok or options is None or self._source is None:
            return
        self._preview.pause()
        image = self.image = layers.image_from_layer(self._source)  # metadata changed in place sends no event
        request = stack.StackRequest(image=image, engine=options, output=self.state.output, resume=resume)
        self._output.start(self._source, request)
        job = self._job = Job(request.iter_steps, f"enhancement of {image.name}")
        job.progress.connect(self._on_progress)
        job.finished.connect(self._on_finished)
        job.errored.connect(self._on_errored)
        job.cancelled.connect(self._on_cancelled)
        self.state.report("")
        self.state.running = True
        self.state.share_done = 0.0
        self.state.progress_text = "Loading the model …"
        job.start()

    def cancel_stack(self) -> None:
        """Stop within a tile; finished frames stay."""
        if self._job is not None:
            self.state.stopping = True
            self._job.cancel()

    def _on_progress(self, progress: Progress) -> None:
        self.state.share_done = progress.done / progress.total if progress.total else 1.0
        self.state.progress_text = stack.progress_text(progress)
        self.state.device_text = describe_device(progress.device, progress.note)
        if not self._output.take(progress):
            # its layer was removed: nobody waits for what is only in memory
            self.cancel_stack()

    def _on_finished(self, progress: Progress) -> None:
        self._output.finish(progress)
        request = self._output.request
        self.set_preview(False)
        self._end_stack(stack.finished_text(progress, request.image.is_stack, request.output))

    def _on_cancelled(self, last: Progress | None) -> None:
        if last is not None and last.result is not None:  # too late, it is complete
            self._on_finished(last)
            return
        done = self._output.stop()
        kept = f"{done} enhanced frame{'s' * (done != 1)} kept in the layer."
        self._end_stack(f"Cancelled. {kept}" if done else "Cancelled before the first frame was finished.")

    def _on_errored(self, error: Exception) -> None:
        self._output.stop()
        self._end_stack(error_line(error), is_error=True)

    def _end_stack(self, message: str, is_error: bool = False) -> None:
        self._job = None
        self.state.running = self.state.stopping = False
        self.state.progress_text = ""
        self.state.report(message, is_error)
        self._show_output()
        self._update_preview()

    # ---- the viewer

    def _on_active(self, event: Event | None = None) -> None:
        """Follow the selection to any image that is not an output."""
        active = self.viewer.layers.selection.active
        if active in (None, self._preview.layer, self._source) or layers.is_output(active):
            return
        if not layers.why_not(active) or self._source is None:
            self._set_source(active)

    def _on_layers(self, event: Event | None = None) -> None:
        if self._source is None:
            self._on_active()
        self._show_layers()

    def _on_removed(self, event: Event) -> None:
        if event.value is self._preview.layer:
            self.set_preview(False)
        if event.value is self._source:
            others = [x for x in self.viewer.layers if not (layers.why_not(x) or layers.is_output(x))]
            if not others:
                self._preview.stop()
            self._set_source(others[-1] if others else None)
        self._show_layers()

    def _on_frame(self, event: Event | None = None) -> None:
        if self.state.preview:
            self._update_preview()

    def _on_pixels(self, event: Event | None = None) -> None:
        if self._source is not None:
            self._preview.tokens.changed(self._source)
        self._set_source(self._source)

    def _on_calibration(self, event: Event | None = None) -> None:
        self._set_source(self._source)

    def _set_source(self, layer: Layer | None) -> None:
        if layer is not self._source:
            self.state.output = None  # that path was chosen for another layer
        self._watch(layer)
        reason = "Open an image or select an image layer." if layer is None else layers.why_not(layer)
        image = self.image = None if reason else layers.image_from_layer(layer)
        state = self.state
        state.source_text = reason if image is None else describe_image(image)
        state.is_stack = image is not None and image.is_stack
        state.source_ok = image is not None
        state.source = layer.name if layer is not None else ""
        self._show_output()
        self._show_layers()
        self._update_preview()

    def _watch(self, layer: Layer | None) -> None:
        if layer is self._source:
            return
        for watched, action in ((self._source, "disconnect"), (layer, "connect")):
            if watched is not None:
                events = watched.events
                getattr(events.data, action)(self._on_pixels)
                for event in (events.scale, events.units, events.metadata):
                    getattr(event, action)(self._on_calibration)
        self._source = layer

    # ---- the state

    def _engine_options(self) -> EngineOptions | None:
        try:
            return engine_options(self.state.model, self.state.device)
        except ValueError as error:
            self.state.report(str(error), is_error=True)
            return None

    def _show_layers(self) -> None:
        self.state.layers = tuple(
            layer.name
            for layer in reversed(self.viewer.layers)
            if layers.is_image(layer) and layer is not self._preview.layer
        )
        if self._source is not None:
            self.state.source = self._source.name

    def _show_output(self) -> None:
        state = self.state
        if self.image is None:
            state.output_text, state.needs_disk = "", False
            return
        size = stack.size_text(stack.output_bytes(self.image))
        state.needs_disk = not stack.fits_memory(self.image)
        if state.needs_disk and state.output is None:
            state.output = stack.propose_output(self.image)
        state.output_text = f"Output size: {size}."
        if state.needs_disk:
            state.output_text = (
                f"Output size: {size}. Too large for the free memory, so it is written to disk."
            )
        state.can_resume = stack.has_partial(state.output)

    def _update_preview(self) -> None:
        is_closed = not self._connections.are_open  # its last job may end after it
        if is_closed or not self.state.preview or self.state.running:
            return
        options = self._engine_options() if self.state.source_ok else None
        if options is None or self._source is None or self.image is None:
            self._preview.pause()
            self.state.preview_text = ""
        elif not self._preview.show(self._source, self.image, options):
            self.state.preview_text = "Enhancing …"

    def _on_preview_shown(self, frame: PreviewFrame) -> None:
        self.state.device_text = describe_device(frame.device, frame.note)
        what = f"Frame {frame.key.frame}" if self.state.is_stack else "This frame"
        self.state.preview_text = f"{what} is shown enhanced."
        self._show_layers()
        if self.state.message == self._preview_error:  # a message about the stack stays
            self.state.report("")

    def _on_preview_error(self, error: Exception) -> None:
        self.state.preview_text = ""
        self._preview_error = error_line(error)
        self.state.report(self._preview_error, is_error=True)
