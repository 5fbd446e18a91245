"""What the Live dock does: starts and stops a live enhancement, shows its newest frame."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live import LatestStep
from napari_lowdose_tem.widgets.live.layers import LiveLayers
from napari_lowdose_tem.widgets.live.request import LiveRequest, describe_played, why_not_start
from napari_lowdose_tem.widgets.live.state import (
    LAYER,
    LiveState,
    describe_counts,
    describe_rate,
    describe_skipped,
)
from napari_lowdose_tem.widgets.shared import layers
from napari_lowdose_tem.widgets.shared.connections import Connections
from napari_lowdose_tem.widgets.shared.delay import DelayedCall
from napari_lowdose_tem.widgets.shared.devices import DEVICES, describe_device, preferred_device
from napari_lowdose_tem.widgets.shared.models import ModelList, engine_options
from napari_lowdose_tem.widgets.shared.viewer import viewer_itself
from napari_lowdose_tem.widgets.shared.worker import Job, error_line

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.utils.events import Event

    from napari_lowdose_tem.live import LiveStep


_NUMBERS_S = 0.5  # numbers that change faster cannot be read
_LONGEST_REST_MS = 500


class LiveControl:
    """Between viewer, state and job; lives on the GUI thread and knows no widget.

    Parameters
    ----------
    viewer
        The viewer or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer = viewer_itself(viewer)
        self.state = LiveState(device=preferred_device(DEVICES))
        self._models = ModelList()
        self._layers = LiveLayers(viewer)
        self._job: Job | None = None
        self._request: LiveRequest | None = None
        self._latest = LatestStep()
        self._step: LiveStep | None = None
        self._shown = ""
        self._n_skipped, self._numbers_s, self._shown_s = 0, 0.0, 0.0
        self._drawn, self._rest = DelayedCall(self._on_drawn), DelayedCall(self._show_latest)
        self._numbers = DelayedCall(self._show_last_numbers)
        events = viewer.layers.events
        changes = events.inserted, events.removed, events.reordered, events.renamed
        self._connections = Connections(
            *((change, self._show_layers) for change in changes), (events.removed, self._free_memory)
        )
        self._models.choose_default(self.state)
        self._show_layers()

    def close(self) -> None:
        """End the job and leave the viewer alone; for when the dock goes."""
        self._connections.close()
        gc.unfreeze()
        for call in (self._drawn, self._rest, self._numbers):
            call.cancel()
        if self._job is not None and self._request is not None:
            self._request.stopped.set()
            self._job.cancel()

    # ---- what the user chooses

    def choose_kind(self, kind: str) -> None:
        """Take frames from a folder, a growing file, or a replay of a file or layer."""
        self.state.kind = kind
        self._on_choice()

    def choose_path(self, path: str) -> None:
        """Take another folder or file."""
        self.state.path = path
        self._on_choice()

    def choose_layer(self, name: str) -> None:
        """Replay another layer."""
        self.state.layer = name
        self._on_choice()

    def set_rate(self, rate_per_s: float) -> None:
        """Replay so many frames per second."""
        self.state.rate_per_s = rate_per_s
        self._on_choice()

    def set_loop(self, on: bool) -> None:
        """Replay again and again, or once."""
        self.state.loop = on
        self._on_choice()

    def choose_mode(self, save_all: bool) -> None:
        """Enhance every frame in order, or the newest only."""
        self.state.save_all = save_all
        self._on_choice()

    def set_average(self, average_s: float) -> None:
        """Average over a time constant [s], 0 for not at all."""
        self.state.average_s = average_s
        self._on_choice()

    def choose_averaged(self, average_of: str) -> None:
        """Average the enhanced or the raw frames."""
        self.state.average_of = average_of
        self._on_choice()

    def choose_level(self, level: str) -> None:
        """Take the brightness from the first frame, or from each frame."""
        self.state.level = level
        self._on_choice()

    def choose_device(self, device: str) -> None:
        """Take another processor."""
        self.state.device = device
        self._on_choice()

    def choose_model(self, path: str) -> None:
        """Take a model of the list or any model file."""
        if self._models.choose(path, self.state):
            self._show_source()

    def choose_output(self, path: Path | None) -> None:
        """Save what is enhanced to an OME-Zarr or a folder of TIFF files, or nothing."""
        self.state.output = path
        if path is not None:
            self.state.save_all = True  # usually wanted when saving; the newest only can be chosen again
        self._show_output()

    def set_side_by_side(self, on: bool) -> None:
        """Show raw and enhanced beside each other, or one over the other."""
        self.state.side_by_side = on
        self._layers.set_side_by_side(on)

    def _on_choice(self) -> None:
        self.state.report("")
        self._show_source()

    # ---- the job

    def start(self) -> None:
        """Follow the source."""
        state = self.state
        if state.running or not state.source_ok:
            return
        try:
            options = engine_options(state.model, state.device)
        except ValueError as error:
            state.report(str(error), is_error=True)
            return
        self._request = request = LiveRequest(
            kind=state.kind,
            path=state.path,
            image=self._image(),
            rate_per_s=state.rate_per_s,
            loop=state.loop,
            engine=options,
            save_all=state.save_all,
            output=state.output,
            average_s=state.average_s,
            average_of=state.average_of,
            level=state.level,
        )
        job = self._job = Job(request.iter_steps, "live enhancement")
        job.progress.connect(self._on_progress)
        job.finished.connect(self._on_finished)
        job.cancelled.connect(self._on_finished)
        job.errored.connect(self._on_errored)
        self._n_skipped, self._step, self._shown, self._latest = 0, None, "", LatestStep()
        state.rate_text = state.count_text = state.skipped_text = state.skipped_all = state.device_text = ""
        state.report("Starting …")
        state.running = True
        gc.freeze()  # a garbage collection over all objects of the viewer takes 0.2 s, every minute or two
        job.start()

    def stop(self) -> None:
        """Stop after the current frame; the layers keep the last one."""
        if self._request is not None and self.state.running:
            self.state.stopping = True
            self._request.stopped.set()

    def _on_progress(self, step: LiveStep) -> None:
        self._latest.put(step)
        if not (self._drawn.is_waiting or self._rest.is_waiting):
            self._show_latest()

    def _on_drawn(self) -> None:
        """Rest as long as showing took, so that a slow display leaves half the time to the user."""
        took_ms = 1000 * (time.monotonic() - self._shown_s)
        self._rest.ask_in(min(took_ms, _LONGEST_REST_MS))

    def _show_latest(self) -> bool:
        """Show the latest frame; return False when it must be called again to do so."""
        step = self._latest.take()
        if step is None or not step.device:
            return True
        self._step = step
        self._shown_s = time.monotonic()
        self._drawn.ask()
        if step.raw is not None and step.output is not None:
            if not self._layers.show(self._name(), step.raw, step.output):
                self._latest.put_back(step)
                return False
            self._shown = step.name
        now_s = time.monotonic()
        if now_s - self._numbers_s > _NUMBERS_S:
            self._numbers_s = now_s
            self._numbers.ask()  # after the frame is drawn
        return True

    def _show_last_numbers(self) -> None:
        step, state = self._step, self.state
        if step is None:
            return
        if not state.stopping:
            state.report(f"Shows {self._shown}" if self._shown else "Waiting for frames …")
        state.device_text = describe_device(step.device, step.note)
        state.rate_text = describe_rate(step)
        state.count_text = describe_counts(step, state.save_all)
        if step.n_skipped != self._n_skipped:
            self._n_skipped = step.n_skipped
            state.skipped_text = describe_skipped(step.n_skipped, step.skipped)
            state.skipped_all = "\n".join(f"{item.name}: {item.reason}" for item in step.skipped)

    def _on_finished(self, _: LiveStep | None = None) -> None:
        if not self._connections.are_open:  # the dock is gone
            return
        while not self._show_latest():
            pass
        self._show_last_numbers()
        saved = f" Saved: {self.state.output}" if self.state.output else ""
        self._end(f"Stopped.{saved}" if self.state.stopping else f"End of the replay.{saved}")

    def _on_errored(self, error: Exception) -> None:
        if self._connections.are_open:
            self._end(error_line(error), is_error=True)

    def _end(self, message: str, is_error: bool = False) -> None:
        for call in (self._drawn, self._rest, self._numbers):
            call.cancel()  # or they would report after the end
        gc.unfreeze()
        self._job = self._request = None
        self.state.running = self.state.stopping = False
        self._layers.note_provenance()
        self.state.report(message, is_error)
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
        return layers.image_from_layer(self.viewer.layers[self.state.layer])

    def _free_memory(self, event: Event | None = None) -> None:
        """Let the garbage collector find what a removed layer held."""
        gc.unfreeze()

    def _show_layers(self, event: Event | None = None) -> None:
        names = tuple(
            layer.name
            for layer in reversed(self.viewer.layers)
            if not layers.why_not(layer) and layer not in self._layers.own and not layers.is_output(layer)
        )
        self.state.layers = names
        if self.state.layer not in names:
            self.state.layer = names[0] if names else ""
        self._show_source()

    def _show_source(self) -> None:
        state, image = self.state, self._image()
        reason = why_not_start(state.kind, state.path, image)
        state.source_text = reason or describe_played(image)
        state.source_ok = not reason and bool(state.model)
        self._show_output()

    def _show_output(self) -> None:
        state = self.state
        if state.output is None:
            state.output_text = ""
        elif state.output.exists():
            state.output_text = "Exists and will be continued; frames in it are not enhanced again."
        else:
            which = "Every frame" if state.save_all else "Each enhanced frame"
            state.output_text = f"{which} is saved as float32 counts."
