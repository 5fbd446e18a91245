"""What the Enhance dock does: follows the viewer, starts jobs, puts their results into layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.network.model_file import DEFAULT_MODEL, ModelFile, find_model, list_models
from napari_lowdose_tem.widgets.enhance import stack
from napari_lowdose_tem.widgets.enhance.preview import EngineChoice
from napari_lowdose_tem.widgets.enhance.preview_layer import PreviewLayer
from napari_lowdose_tem.widgets.enhance.stack_output import StackOutput
from napari_lowdose_tem.widgets.enhance.state import (
    EnhanceState,
    describe_image,
)
from napari_lowdose_tem.widgets.shared import layers as _layers
from napari_lowdose_tem.widgets.shared.devices import DEVICES
from napari_lowdose_tem.widgets.shared.models import describe_model, model_label
from napari_lowdose_tem.widgets.shared.settings import read_settings
from napari_lowdose_tem.widgets.shared.worker import Job, error_line

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_lowdose_tem.enhancement.run import Progress


class EnhanceControl:
    """Between viewer, state and jobs; lives on the GUI thread and knows no widget.

    Parameters
    ----------
    viewer
        The viewer or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer = _layers.viewer_itself(viewer)
        self.state = EnhanceState()
        self._settings = read_settings()
        self._models: dict[str, ModelFile] = {}
        self._source: Layer | None = None
        self.image: Image | None = None
        self._job: Job | None = None
        self._preview_error = ""
        self._output = StackOutput(viewer)
        self._preview = PreviewLayer(viewer, self._on_preview_shown, self._on_preview_error)
        self.state.device = self._settings.device if self._settings.device in DEVICES else "auto"
        self._connected = [
            (viewer.layers.events.inserted, self._on_layers),
            (viewer.layers.events.removed, self._on_removed),
            (viewer.layers.events.reordered, self._on_layers),
            (viewer.layers.events.renamed, self._on_layers),
            (viewer.layers.selection.events.active, self._on_active),
            (viewer.dims.events.point, self._on_frame),
        ]
        for event, slot in self._connected:
            event.connect(slot)
        self.reload_models()
        self._on_active()
        self._show_layers()

    def close(self) -> None:
        """End jobs and leave the viewer alone; for when the dock goes."""
        for event, slot in self._connected:
            event.disconnect(slot)
        self._connected = []
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
        if path not in self._models:
            try:
                self._models[path] = find_model(path)
            except (ValueError, OSError) as error:
                self._say(error_line(error), error=True)
                return
        self.state.models = tuple((key, model_label(file)) for key, file in self._models.items())
        self.state.model = path
        self.state.model_text = describe_model(self._models[path])
        self._say("")
        self._update_preview()

    def choose_device(self, device: str) -> None:
        """Take another processor."""
        self.state.device = device
        self.state.device_text = ""
        self._update_preview()

    def reload_models(self) -> None:
        """List the models anew, those bundled and those of the user's folder."""
        self._models = {str(file.path): file for file in list_models(self._settings.model_folder)}
        self.state.models = tuple((key, model_label(file)) for key, file in self._models.items())
        default = [key for key, file in self._models.items() if file.label == DEFAULT_MODEL]
        if chosen := [*default, *self._models][:1]:
            self.choose_model(chosen[0])
        else:
            self.state.model_text = "No model is installed; choose a model file."

    def set_preview(self, on: bool) -> None:
        """Show the current frame enhanced, or stop doing so."""
        self.state.preview = on
        self._say("")
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
        """Enhance the whole stack, or go on with an interrupted output."""
        choice = self._choice()
        if self.state.running or not self.state.source_ok or choice is None or self._source is None:
            return
        self._preview.pause()
        self.image = _layers.image_from_layer(self._source)  # metadata may be changed in place, unheard
        request = stack.StackRequest(self.image, choice, self.state.output, resume)
        self._output.start(self._source, request)
        self._job = Job(request.iter_steps, f"enhancement of {self.image.name}")
        self._job.progress.connect(self._on_progress)
        self._job.finished.connect(self._on_finished)
        self._job.errored.connect(self._on_errored)
        self._job.cancelled.connect(self._on_cancelled)
        self._say("")
        self.state.running = True
        self.state.share_done = 0.0
        self.state.progress_text = "Loading the model …"
        self._job.start()

    def cancel_stack(self) -> None:
        """Stop within a tile; finished frames stay."""
        if self._job is not None:
            self.state.stopping = True
            self._job.cancel()

    def _on_progress(self, progress: Progress) -> None:
        self.state.share_done = progress.done / progress.total if progress.total else 1.0
        self.state.progress_text = stack.progress_text(progress)
        self._show_device(progress.device, progress.note)
        if not self._output.take(progress):
            # its layer was removed: nobody waits for what is only in memory
            self.cancel_stack()

    def _on_finished(self, progress: Progress) -> None:
        self._output.finish(progress)
        took, request = progress.elapsed_s, self._output.request
        self.set_preview(False)
        count = f"{progress.total} frames" if request.image.is_stack else "Frame"
        speed = f", {progress.frames_per_s:.3g} frames/s" if request.image.is_stack else ""
        where = f" in {request.output}" if request.output else ""
        self._end_stack(f"{count} enhanced in {took:.1f} s{speed}{where}.")

    def _on_cancelled(self, last: Progress | None) -> None:
        if last is not None and last.result is not None:  # too late, all is there
            self._on_finished(last)
            return
        done = self._output.stop()
        kept = f"{done} enhanced frame{'s' * (done != 1)} kept in the layer."
        self._end_stack(f"Stopped. {kept}" if done else "Stopped before a frame was done.")

    def _on_errored(self, error: Exception) -> None:
        self._output.stop()
        self._end_stack(error_line(error), error=True)

    def _end_stack(self, message: str, error: bool = False) -> None:
        self._job = None
        self.state.running = self.state.stopping = False
        self.state.progress_text = ""
        self._say(message, error)
        self._show_output()
        self._update_preview()

    # ---- the viewer

    def _on_active(self, event: Any = None) -> None:
        """Follow the selection to any image that is not an output."""
        active = self.viewer.layers.selection.active
        if (
            active is None
            or active is self._preview.layer
            or active is self._source
            or _layers.is_output(active)
        ):
            return
        if not _layers.why_not(active) or self._source is None:
            self._set_source(active)

    def _on_layers(self, event: Any = None) -> None:
        if self._source is None:
            self._on_active()
        self._show_layers()

    def _on_removed(self, event: Any) -> None:
        if event.value is self._preview.layer:
            self.set_preview(False)
        if event.value is self._source:
            others = [x for x in self.viewer.layers if not (_layers.why_not(x) or _layers.is_output(x))]
            if not others:
                self._preview.stop()
            self._set_source(others[-1] if others else None)
        self._show_layers()

    def _on_frame(self, event: Any = None) -> None:
        if self.state.preview:
            self._update_preview()

    def _on_pixels(self, event: Any = None) -> None:
        self._preview.tokens.changed(self._source)
        self._set_source(self._source)

    def _on_calibration(self, event: Any = None) -> None:
        self._set_source(self._source)

    def _set_source(self, layer: Layer | None) -> None:
        if layer is not self._source:
            self.state.output = None  # that path was chosen for another layer
        self._watch(layer)
        reason = "Open an image or select an image layer." if layer is None else _layers.why_not(layer)
        self.image = None if reason else _layers.image_from_layer(layer)
        state = self.state
        state.source_text = reason or describe_image(self.image)
        state.is_stack = not reason and self.image.is_stack
        state.source_ok = not reason
        state.source = layer.name if layer is not None else ""
        self._show_output()
        self._show_layers()
        self._update_preview()

    def _watch(self, layer: Layer | None) -> None:
        if layer is self._source:
            return
        for watched, connect in ((self._source, False), (layer, True)):
            if watched is None:
                continue
            events = watched.events
            for event, slot in (
                (events.data, self._on_pixels),
                (events.scale, self._on_calibration),
                (events.units, self._on_calibration),
                (events.metadata, self._on_calibration),
            ):
                (event.connect if connect else event.disconnect)(slot)
        self._source = layer

    # ---- the state

    def _choice(self) -> EngineChoice | None:
        path = self.state.model
        try:
            changed = Path(path).stat().st_mtime_ns if path else 0
        except OSError:
            changed = 0
        if not changed:
            self._say(f"The model file {path} is gone; choose another." if path else "Choose a model.", True)
            return None
        settings = self._settings = read_settings()
        return EngineChoice(path, changed, self.state.device, settings.precision, settings.tile_px)

    def _show_layers(self) -> None:
        self.state.layers = tuple(
            layer.name
            for layer in reversed(self.viewer.layers)
            if _layers.is_image(layer) and layer is not self._preview.layer
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
        state.output_text = f"Takes {size}."
        if state.needs_disk:
            state.output_text = f"Takes {size}, too much for the free memory: goes to disk."
        state.can_resume = stack.has_partial(state.output)

    def _show_device(self, device: str, note: str) -> None:
        self.state.device_text = f"Used: {device}" + (f"\n{note}" if note else "")

    def _say(self, message: str, error: bool = False) -> None:
        self.state.is_error = error
        self.state.message = message

    def _update_preview(self) -> None:
        is_closed = not self._connected  # its last job may end after it
        if is_closed or not self.state.preview or self.state.running:
            return
        choice = self._choice() if self.state.source_ok else None
        if choice is None:
            self._preview.pause()
            self.state.preview_text = ""
            return
        if not self._preview.show(self._source, self.image, choice):
            self.state.preview_text = "Enhancing …"

    def _on_preview_shown(self, frame: Any) -> None:
        self._show_device(frame.device, frame.note)
        what = f"Frame {frame.index}" if self.state.is_stack else "The frame"
        self.state.preview_text = f"{what} is shown enhanced."
        self._show_layers()
        if self.state.message == self._preview_error:  # what the stack’s job said stays
            self._say("")

    def _on_preview_error(self, error: Exception) -> None:
        self.state.preview_text = ""
        self._preview_error = error_line(error)
        self._say(self._preview_error, error=True)
