"""What the Live dock does: starts and stops a live enhancement, shows its newest frame."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live.latest import LatestStep
from napari_lowdose_tem.network.model_file import DEFAULT_MODEL, ModelFile, find_model, list_models
from napari_lowdose_tem.widgets.enhance.preview import EngineChoice
from napari_lowdose_tem.widgets.live.layers import LiveLayers
from napari_lowdose_tem.widgets.live.request import LiveRequest, describe_played, why_not_start
from napari_lowdose_tem.widgets.live.state import (
    LAYER,
    LiveState,
    describe_counts,
    describe_rate,
    describe_skipped,
)
from napari_lowdose_tem.widgets.shared import layers as _layers
from napari_lowdose_tem.widgets.shared.delay import DelayedCall
from napari_lowdose_tem.widgets.shared.devices import DEVICES
from napari_lowdose_tem.widgets.shared.models import describe_model, model_label
from napari_lowdose_tem.widgets.shared.settings import read_settings
from napari_lowdose_tem.widgets.shared.worker import Job, error_line

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_lowdose_tem.live import LiveStep


_TELL_S = 0.5
_LONGEST_REST_MS = 500


class LiveControl:
    """Between viewer, state and job; lives on the GUI thread and knows no widget.

    Parameters
    ----------
    viewer
        The viewer or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer = _layers.viewer_itself(viewer)
        self.state = LiveState()
        self._settings = read_settings()
        self._models: dict[str, ModelFile] = {}
        self._layers = LiveLayers(viewer)
        self._job: Job | None = None
        self._request: LiveRequest | None = None
        self._newest = LatestStep()
        self._step: LiveStep | None = None
        self._shown = ""
        self._n_skipped, self._told_s, self._shown_s = 0, 0.0, 0.0
        self._drawn, self._rest = DelayedCall(self._on_drawn), DelayedCall(self._show_newest)
        self._telling = DelayedCall(self._tell_last)
        self.state.device = self._settings.device if self._settings.device in DEVICES else "auto"
        events = viewer.layers.events
        self._connected = [events.inserted, events.removed, events.reordered, events.renamed]
        for event in self._connected:
            event.connect(self._show_layers)
        events.removed.connect(self._free_memory)
        self.reload_models()
        self._show_layers()

    def close(self) -> None:
        """End the job and leave the viewer alone; for when the dock goes."""
        for event in self._connected:
            event.disconnect(self._show_layers)
        self._connected = []
        self.viewer.layers.events.removed.disconnect(self._free_memory)
        gc.unfreeze()
        self._drawn.cancel()
        self._rest.cancel()
        self._telling.cancel()
        if self._job is not None and self._request is not None:
            self._request.stopped.set()
            self._job.cancel()

    # ---- what the user chooses

    def choose(self, **values: Any) -> None:
        """Set choices of the state: kind, path, layer, rate_per_s, loop, save_all, average_s, level."""
        for key, value in values.items():
            setattr(self.state, key, value)
        self._say("")
        self._show_source()

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
        self._show_source()

    def reload_models(self) -> None:
        """List the models anew, those bundled and those of the user's folder."""
        self._models = {str(file.path): file for file in list_models(self._settings.model_folder)}
        default = [key for key, file in self._models.items() if file.label == DEFAULT_MODEL]
        if chosen := [*default, *self._models][:1]:
            self.choose_model(chosen[0])
        else:
            self.state.model_text = "No model is installed; choose a model file."

    def choose_output(self, path: Path | None) -> None:
        """Save what is enhanced to an OME-Zarr or a folder of TIFF files, or nothing."""
        self.state.output = path
        if path is not None:
            self.state.save_all = True  # who saves mostly wants all; newest can be chosen again
        self._show_output()

    def set_side_by_side(self, on: bool) -> None:
        """Show raw and enhanced beside each other, or one on the other."""
        self.state.side_by_side = on
        self._layers.set_side_by_side(on)

    # ---- the job

    def start(self) -> None:
        """Follow the source."""
        if self.state.running or not self.state.source_ok:
            return
        state, settings = self.state, read_settings()
        try:
            changed = Path(state.model).stat().st_mtime_ns
        except OSError:
            self._say(f"The model file {state.model} is gone; choose another.", error=True)
            return
        self._request = request = LiveRequest(
            state.kind,
            state.path,
            self._image(),
            state.rate_per_s,
            state.loop,
            EngineChoice(state.model, changed, state.device, settings.precision, settings.tile_px),
            state.save_all,
            state.output,
            state.average_s,
            state.average_of,
            state.level,
        )
        job = self._job = Job(request.iter_steps, "live enhancement")
        job.progress.connect(self._on_progress)
        job.finished.connect(self._on_finished)
        job.cancelled.connect(self._on_finished)
        job.errored.connect(self._on_errored)
        self._n_skipped, self._step, self._shown, self._newest = 0, None, "", LatestStep()
        state.rate_text = state.count_text = state.skipped_text = state.skipped_all = state.device_text = ""
        self._say("Starting …")
        state.running = True
        gc.freeze()  # a search for garbage among all objects of the viewer takes 0.2 s, every minute or two
        job.start()

    def stop(self) -> None:
        """Stop after the frame in work; the layers keep the last one."""
        if self._request is not None and self.state.running:
            self.state.stopping = True
            self._request.stopped.set()

    def _on_progress(self, step: LiveStep) -> None:
        self._newest.put(step)
        if not (self._drawn.is_waiting or self._rest.is_waiting):
            self._show_newest()

    def _on_drawn(self) -> None:
        """Rest as long as showing took, so that a slow display leaves half the time to the user."""
        took_ms = 1000 * (time.monotonic() - self._shown_s)
        self._rest.ask_in(min(took_ms, _LONGEST_REST_MS))

    def _show_newest(self) -> bool:
        """Show the newest frame; return False if it has to be called once more for that."""
        step = self._newest.take()
        if step is None or not step.device:
            return True
        self._step = step
        self._shown_s = time.monotonic()
        self._drawn.ask()
        if step.raw is not None and step.output is not None:
            if not self._layers.show(self._name(), step.raw, step.output):
                self._newest.put_back(step)
                return False
            self._shown = step.name
        now_s = time.monotonic()
        if now_s - self._told_s > _TELL_S:
            self._told_s = now_s
            self._telling.ask()  # after the frame is drawn
        return True

    def _tell_last(self) -> None:
        if self._step is not None:
            self._tell(self._step)

    def _tell(self, step: LiveStep) -> None:
        """Show the numbers; faster than they can be read is of no use."""
        state = self.state
        if not state.stopping:
            self._say(f"Shows {self._shown}" if self._shown else "Waiting for frames …")
        state.device_text = f"Used: {step.device}" + (f"\n{step.note}" if step.note else "")
        state.rate_text = describe_rate(step)
        state.count_text = describe_counts(step, state.save_all)
        if step.n_skipped != self._n_skipped:
            self._n_skipped = step.n_skipped
            state.skipped_text = describe_skipped(step.n_skipped, step.skipped)
            state.skipped_all = "\n".join(f"{item.name}: {item.reason}" for item in step.skipped)

    def _on_finished(self, _: Any = None) -> None:
        if not self._connected:  # the dock is gone
            return
        while not self._show_newest():
            pass
        self._tell_last()
        saved = f" All that was enhanced is in {self.state.output}." if self.state.output else ""
        self._end(f"Stopped.{saved}" if self.state.stopping else f"The replay is over.{saved}")

    def _on_errored(self, error: Exception) -> None:
        if self._connected:
            self._end(error_line(error), error=True)

    def _end(self, message: str, error: bool = False) -> None:
        for later in (self._drawn, self._rest, self._telling):
            later.cancel()  # or they would speak after the end
        gc.unfreeze()
        self._job = self._request = None
        self.state.running = self.state.stopping = False
        self._layers.note_provenance()
        self._say(message, error)
        self._show_output()

    # ---- the state

    def _name(self) -> str:
        if self.state.kind == LAYER:
            return self.state.layer
        return Path(self.state.path).name.removesuffix(".zarr").removesuffix(".ome")

    def _image(self) -> Image | None:
        """Take the layer to be replayed."""
        if self.state.kind != LAYER or self.state.layer not in self.viewer.layers:
            return None
        return _layers.image_from_layer(self.viewer.layers[self.state.layer])

    def _free_memory(self, event: Any = None) -> None:
        """Let the garbage be searched for what a removed layer held."""
        gc.unfreeze()

    def _show_layers(self, event: Any = None) -> None:
        live = self._layers.own
        names = tuple(
            layer.name
            for layer in reversed(self.viewer.layers)
            if not _layers.why_not(layer) and layer not in live and not _layers.is_output(layer)
        )
        self.state.layers = names
        if self.state.layer not in names:
            self.state.layer = names[0] if names else ""
        self._show_source()

    def _show_source(self) -> None:
        state = self.state
        image = self._image()
        reason = why_not_start(state.kind, state.path, image)
        state.source_text = reason or describe_played(image)
        state.source_ok = not reason and bool(state.model)
        self._show_output()

    def _show_output(self) -> None:
        state = self.state
        if state.output is None:
            state.output_text = ""
        elif state.output.exists():
            state.output_text = "Exists: goes on with it, frames in it are not enhanced again."
        else:
            which = "Every frame" if state.save_all else "Each frame that is shown enhanced"
            state.output_text = f"{which} is saved, float32, in counts."

    def _say(self, message: str, error: bool = False) -> None:
        self.state.is_error = error
        self.state.message = message
