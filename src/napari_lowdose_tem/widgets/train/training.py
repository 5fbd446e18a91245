"""The training that runs, and what the dock shows of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_lowdose_tem.train.config import TrainConfig
from napari_lowdose_tem.widgets.shared.layers import limits_of
from napari_lowdose_tem.widgets.shared.worker import Job, error_line
from napari_lowdose_tem.widgets.train.saved import saved_model
from napari_lowdose_tem.widgets.train.state import (
    Curves,
    StepLosses,
    TrainState,
    ValidationView,
    describe_losses,
    describe_progress,
    explain,
)
from napari_lowdose_tem.widgets.train.validation_layers import ValidationLayers

if TYPE_CHECKING:
    from napari_lowdose_tem.train.loop import TrainProgress, ValidationFrame

_SHOW_EVERY_S = 0.25
_DRAW_EVERY_S = 1.0


class Training:
    """Runs one training after the other in a job; writes to the dock's state and layers.

    Parameters
    ----------
    state
        State of the dock.
    layers
        Layers of the validation frame.
    iter_train
        Trains as a `TrainConfig` says.
    ended
        Called with the model file of a training that ended.
    """

    def __init__(
        self,
        state: TrainState,
        layers: ValidationLayers,
        iter_train: Callable[[TrainConfig], Iterator[TrainProgress]],
        ended: Callable[[Path], None],
    ) -> None:
        self.complete: set[Path] = set()
        self._state, self._layers, self._iter_train, self._ended = state, layers, iter_train, ended
        self._job: Job | None = None
        self._output = Path()
        self._last: TrainProgress | None = None
        self._frame: ValidationFrame | None = None
        self._steps = StepLosses()
        self._shown_s = self._drawn_s = self._begun_s = 0.0

    def begin(self, config: TrainConfig, summary: str) -> None:
        """Start or resume a training."""
        state, iter_train = self._state, self._iter_train
        self.complete.discard(config.output)
        self._begun_s = 0.0 if config.resume else time.time()
        self._output, self._last, self._frame = config.output, None, None
        self._steps = StepLosses()
        self._layers.start(config.output)
        self._shown_s = self._drawn_s = 0.0
        job = self._job = Job(lambda: iter_train(config), f"training of {config.output.stem}")
        job.progress.connect(self._on_progress)
        job.finished.connect(self._on_finished)
        job.errored.connect(self._on_errored)
        job.cancelled.connect(self._on_cancelled)
        state.report("")
        state.curves, state.validation, state.notes = Curves(), None, ()
        state.summary_text = f"{config.output.stem}: {summary}"
        state.share_done, state.saved = 0.0, None
        state.progress_text = "Preparing …"
        state.running = True
        job.start()

    def pause(self) -> None:
        """Let the training wait, or continue."""
        job, state = self._job, self._state
        if job is None or state.stopping:
            return
        state.waiting = not state.waiting
        if state.waiting:
            job.pause()
            self._show_progress()
        else:
            job.go_on()

    def stop(self) -> None:
        """Stop the training and save its state."""
        if self._job is not None:
            self._state.stopping = True
            self._job.cancel()

    def close(self) -> None:
        """Stop the training and save its state; for when the dock goes."""
        if self._job is not None:
            self._job.cancel()

    def _on_progress(self, progress: TrainProgress) -> None:
        is_new_epoch = self._last is None or len(progress.history) != len(self._last.history)
        self._last = progress
        if progress.stage == "training":
            self._steps.add(progress.epochs * progress.step / max(1, progress.steps), progress.loss)
        if is_new_epoch or time.monotonic() - self._shown_s > _SHOW_EVERY_S:
            self._show_progress(redraw=is_new_epoch)

    def _show_progress(self, redraw: bool = False) -> None:
        progress, state, now_s = self._last, self._state, time.monotonic()
        if progress is None:
            return
        self._shown_s = now_s
        is_training = progress.stage == "training"
        state.share_done = progress.step / progress.steps if is_training and progress.steps else 0.0
        state.progress_text = describe_progress(progress)
        state.notes = tuple(progress.notes)
        state.saved = self._saved_model()
        if redraw or now_s - self._drawn_s > _DRAW_EVERY_S:
            self._drawn_s = now_s
            state.curves = self._steps.curves(progress.history)
        frame = progress.example
        if frame is not None and frame is not self._frame:
            self._frame = frame
            state.validation = ValidationView(
                lde=frame.lde,
                output=frame.output,
                hde=frame.hde,
                limits=limits_of(frame.hde),
                epoch=progress.history[-1].epoch if progress.history else progress.epoch,
            )
            self._layers.update(state.validation)

    def _on_finished(self, last: TrainProgress | None) -> None:
        self._take_last(last)
        self.complete.add(self._output)
        if self._last is None or self._last.stage != "training":
            self._end("This training was complete already. Start another one from its model.")
            return
        text = describe_losses(self._state.curves)
        self._end(f"Trained {self._last.epochs} epochs. {text}.\nSaved: {self._output}")

    def _on_cancelled(self, last: TrainProgress | None) -> None:
        self._take_last(last)
        if self._job is not None and self._job.error is not None:  # while saving
            self._on_errored(self._job.error)
        elif last is not None and last.stage == "training" and last.step == last.steps:  # too late
            self._on_finished(last)
        elif self._last is None or self._last.stage != "training":
            self._end("Stopped before the first step. There is nothing new to save.")
        else:
            where = f"Stopped after step {self._last.step:,} of {self._last.steps:,}"
            self._end(f"{where}; the state is saved. Resume continues from there.")

    def _on_errored(self, error: Exception) -> None:
        self._end(explain(error_line(error)), is_error=True)

    def _saved_model(self) -> Path | None:
        """Find the model this training saved, not the one it is to replace."""
        return saved_model(self._output, self._begun_s)

    def _take_last(self, last: TrainProgress | None) -> None:
        self._last = last or self._last
        self._show_progress(redraw=True)

    def _end(self, message: str, is_error: bool = False) -> None:
        state = self._state
        self._job = None
        state.running = state.waiting = state.stopping = False
        state.progress_text = ""
        state.saved = self._saved_model()
        self._ended(self._output)
        state.report(message, is_error)
