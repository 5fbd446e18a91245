"""What the Train dock does: checks data, trains in a job, shows how it learns, hands the model on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.network.model_file import (
    DEFAULT_MODEL,
    SUFFIX,
    ModelFile,
    find_model,
    list_models,
    user_model_folder,
)
from napari_lowdose_tem.train.config import SIMULATOR, TRAIN_RECIPES, TrainConfig
from napari_lowdose_tem.widgets.contributions import open_enhance
from napari_lowdose_tem.widgets.shared import layers as _layers
from napari_lowdose_tem.widgets.shared.devices import TRAINING_DEVICES
from napari_lowdose_tem.widgets.shared.models import describe_model, model_label
from napari_lowdose_tem.widgets.shared.settings import read_settings
from napari_lowdose_tem.widgets.shared.worker import Job, error_line
from napari_lowdose_tem.widgets.train import run, saved
from napari_lowdose_tem.widgets.train.check import DataCheck
from napari_lowdose_tem.widgets.train.state import (
    NEW_WEIGHTS,
    Curves,
    StepLosses,
    TrainState,
    ValidationView,
    describe_budget,
    describe_data,
    describe_losses,
    describe_progress,
    explain,
)
from napari_lowdose_tem.widgets.train.validation_layers import ValidationLayers

if TYPE_CHECKING:
    from napari.components import ViewerModel

_SHOW_EVERY_S = 0.25
_DRAW_EVERY_S = 1.0


class TrainControl:
    """Between viewer, state and jobs; lives on the GUI thread and knows no widget.

    Parameters
    ----------
    viewer
        The viewer or its model.
    iter_train
        Trains as told by a `TrainConfig`, yielding `TrainProgress`.
    """

    def __init__(
        self, viewer: ViewerModel, iter_train: Callable[[TrainConfig], Iterator[Any]] | None = None
    ) -> None:
        self.viewer = viewer = _layers.viewer_itself(viewer)
        self.state = TrainState(theme=viewer.theme)
        self._iter_train = iter_train or run.iter_steps
        self._settings = read_settings()
        self._models: dict[str, ModelFile] = {}
        self._named = False  # whether the name is the user's own
        self.data_check = DataCheck(self.state)
        self._training: Job | None = None
        self._complete: set[Path] = set()
        self._output: Path | None = None
        self._last: Any = None
        self._example: Any = None
        self._layers = ValidationLayers(viewer)
        self._steps = StepLosses()
        self._shown_s = self._drawn_s = self._begun_s = 0.0
        self.state.device = self._settings.device if self._settings.device in TRAINING_DEVICES else "auto"
        viewer.events.theme.connect(self._on_theme)
        self.reload_models()
        default = [path for path, file in self._models.items() if file.label == DEFAULT_MODEL]
        self.choose_start(default[0] if default else NEW_WEIGHTS)
        self.choose_data(SIMULATOR)

    def close(self) -> None:
        """End jobs, which saves a training, and leave the viewer alone; for when the dock goes."""
        self.viewer.events.theme.disconnect(self._on_theme)
        self.data_check.cancel()
        if self._training is not None:
            self._training.cancel()

    @property
    def folder(self) -> Path:
        """Where models are saved."""
        return self._settings.model_folder or user_model_folder()

    @property
    def output(self) -> Path:
        """Where the model of the chosen name is saved."""
        return self.folder / f"{self.state.name}{SUFFIX}"

    # ---- what the user chooses

    def choose_data(self, data: str) -> None:
        """Take a folder, a list of pairs, or the simulator."""
        state = self.state
        if state.running:
            return
        self.data_check.forget()
        state.data = data
        state.data_text = "" if data == SIMULATOR else data
        self._propose_name()
        self._say("")

    def choose_start(self, path: str) -> None:
        """Go on from a model of the list, from any model file, or begin with new weights."""
        if path and path not in self._models:
            try:
                self._models[path] = find_model(path)
            except (ValueError, OSError) as error:
                self._say(error_line(error), error=True)
                return
        self.state.start = path
        self._show_models()
        self._show_start()
        self._say("")
        if path and saved.state_of(Path(path)).is_file():
            self._show_stopped(Path(path))

    def choose_recipe(self, name: str) -> None:
        """Take another recipe."""
        self.state.recipe = name
        self._show_start()

    def choose(self, **values: Any) -> None:
        """Set `minutes`, `epochs`, `batch`, `seed`, `hde_factor` or `device`."""
        if values.get("hde_factor", self.state.hde_factor) != self.state.hde_factor:
            self.data_check.forget()
        for key, value in values.items():
            setattr(self.state, key, value)

    def choose_name(self, name: str) -> None:
        """Call the model so; an empty name proposes one again."""
        self._named = bool(name.strip())
        self.state.name = name.strip()
        self._propose_name()

    def choose_stopped(self, path: str) -> None:
        """Take another stopped training to go on with."""
        self.state.chosen_stopped = path

    def reload_models(self) -> None:
        """List models and stopped trainings anew."""
        self._settings = read_settings()
        found = list_models(self._settings.model_folder)
        chosen = self._models.get(self.state.start)
        self._models = {str(file.path): file for file in found if not file.label.endswith(".last")}
        if chosen is not None:  # it may lie elsewhere
            self._models.setdefault(self.state.start, chosen)
        self._show_models()
        self._show_stopped()

    # ---- the training

    def why_not(self) -> str:
        """Say why training cannot begin, or nothing when it can."""
        if self.state.has_errors:
            return "The data have errors: mend them, then check again."
        return "" if self.state.name_ok else self.state.output_text

    def would_overwrite(self) -> bool:
        """Whether an earlier training has the name chosen."""
        return saved.exists(self.output)

    def train(self, overwrite: bool = False) -> None:
        """Train as chosen."""
        state = self.state
        if reason := self.why_not():
            self._say(reason, error=True)
            return
        recipe = TRAIN_RECIPES[state.recipe]
        if state.epochs:
            recipe = replace(recipe, epochs=state.epochs)
        if state.batch:
            recipe = replace(recipe, batch=state.batch)
        config = TrainConfig(
            state.data,
            self.output,
            recipe,
            start=self._start(),
            hde_factor=state.hde_factor,
            minutes=None if state.epochs else float(state.minutes),
            seed=state.seed,
            device=state.device,
            overwrite=overwrite,
        )
        start = f"from {dict(state.models)[state.start]}" if state.start else "new weights"
        budget = describe_budget(recipe, config.minutes)
        self._begin(config, f"{describe_data(state.data)} · {start} · recipe {state.recipe} · {budget}")

    def _start(self) -> str | None:
        """Name of the model to go on from where that says which, else its path."""
        path = self.state.start
        if not path:
            return None
        label = self._models[path].label
        try:
            return label if str(find_model(label).path) == path else path
        except ValueError:
            return path

    def resume(self) -> None:
        """Go on with the stopped training chosen, exactly where it was."""
        if path := self.state.chosen_stopped:
            config = TrainConfig(SIMULATOR, Path(path), device=self.state.device, resume=True)
            self._begin(config, "Going on where it stopped")

    def pause(self) -> None:
        """Let the training wait, or go on."""
        job, state = self._training, self.state
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
        if self._training is not None:
            self.state.stopping = True
            self._training.cancel()

    def _begin(self, config: TrainConfig, summary: str) -> None:
        state = self.state
        if state.running:
            return
        self.data_check.cancel()
        iter_train = self._iter_train
        self._complete.discard(config.output)
        self._begun_s = 0.0 if config.resume else time.time()
        self._output, self._last, self._example = config.output, None, None
        self._steps = StepLosses()
        self._layers.start(config.output)
        self._shown_s = self._drawn_s = 0.0
        job = self._training = Job(lambda: iter_train(config), f"training of {config.output.stem}")
        job.progress.connect(self._on_progress)
        job.finished.connect(self._on_finished)
        job.errored.connect(self._on_errored)
        job.cancelled.connect(self._on_cancelled)
        self._say("")
        state.curves, state.validation, state.notes = Curves(), None, ()
        state.summary_text = f"{config.output.stem}: {summary}"
        state.share_done, state.saved = 0.0, None
        state.progress_text = "Getting ready …"
        state.running = True
        job.start()

    def _on_progress(self, progress: Any) -> None:
        is_new_epoch = self._last is None or len(progress.history) != len(self._last.history)
        self._last = progress
        if progress.stage == "training":
            self._steps.add(progress.epochs * progress.step / max(1, progress.steps), progress.loss)
        if is_new_epoch or time.monotonic() - self._shown_s > _SHOW_EVERY_S:
            self._show_progress(redraw=is_new_epoch)

    def _show_progress(self, redraw: bool = False) -> None:
        progress, state, now = self._last, self.state, time.monotonic()
        if progress is None:
            return
        self._shown_s = now
        is_training = progress.stage == "training"
        state.share_done = progress.step / progress.steps if is_training and progress.steps else 0.0
        state.progress_text = describe_progress(progress)
        state.notes = tuple(progress.notes)
        state.saved = self._find_saved()
        if redraw or now - self._drawn_s > _DRAW_EVERY_S:
            self._drawn_s = now
            state.curves = self._steps.curves(progress.history)
        if progress.example is not None and progress.example is not self._example:
            self._example = progress.example
            limits = _layers.limits_of(progress.example.hde)
            epoch = progress.history[-1].epoch if progress.history else progress.epoch
            e = progress.example
            state.validation = ValidationView(e.lde, e.output, e.hde, limits, epoch)
            self._layers.update(state.validation)

    def _on_finished(self, last: Any) -> None:
        self._take_last(last)
        if self._output is not None:
            self._complete.add(self._output)
        if self._last is None or self._last.stage != "training":
            self._end_training("This training was complete already; start another from its model.")
            return
        text = describe_losses(self.state.curves)
        self._end_training(f"Trained {self._last.epochs} epochs. {text}.\nSaved as {self._output}")

    def _on_cancelled(self, last: Any) -> None:
        self._take_last(last)
        if self._training is not None and self._training.error is not None:  # while saving
            self._on_errored(self._training.error)
        elif last is not None and last.stage == "training" and last.step == last.steps:  # too late
            self._on_finished(last)
        elif self._last is None or self._last.stage != "training":
            self._end_training("Stopped before the first step; there is nothing new to save.")
        else:
            where = f"Stopped after step {self._last.step:,} of {self._last.steps:,}"
            self._end_training(f"{where}; the state is saved. Resume goes on from there.")

    def _on_errored(self, error: Exception) -> None:
        self._end_training(explain(error_line(error)), error=True)

    def _find_saved(self) -> Path | None:
        """Find the model this training saved, not the one it is to replace."""
        return saved.saved_model(self._output, self._begun_s) if self._output else None

    def _take_last(self, last: Any) -> None:
        self._last = last or self._last
        self._show_progress(redraw=True)

    def _end_training(self, message: str, error: bool = False) -> None:
        state, output = self.state, self._output
        self._training = None
        state.running = state.waiting = state.stopping = False
        state.progress_text = ""
        state.saved = self._find_saved()
        self.reload_models()
        if output is not None and saved.state_of(output).is_file():
            self._show_stopped(output)
        self._propose_name()
        self._say(message, error)

    # ---- what was learnt

    def add_validation_layers(self) -> None:
        """Put the validation frame into the viewer; its layers follow the training."""
        if self.state.validation is not None:
            self._layers.add(self.state.validation)

    def use_model(self) -> None:
        """Choose the newest saved model in the Enhance dock, opening it where it is not."""
        path = self.state.saved
        if path is None or not hasattr(self.viewer, "window"):
            return
        open_enhance(self.viewer).control.choose_model(str(path))
        self._say(f"The Enhance dock uses “{path.stem}”.")

    # ---- the state

    def _on_theme(self, event: Any = None) -> None:
        self.state.theme = self.viewer.theme

    def _propose_name(self) -> None:
        """Take a name nothing has yet, unless the user gave one, and say where the model goes."""
        state = self.state
        bundled = {file.label for file in self._models.values() if file.path.parent != self.folder}
        if not self._named:
            stem = "simulated" if state.data == SIMULATOR else Path(state.data).stem
            state.name = saved.propose_name(stem, self.folder, bundled)
        reason = saved.why_no_name(state.name, bundled)
        state.name_ok = not reason
        replaces = " An earlier training has this name." if not reason and self.would_overwrite() else ""
        state.output_text = reason or f"Saved as {self.output}.{replaces}"

    def _show_models(self) -> None:
        self.state.models = tuple((key, model_label(file)) for key, file in self._models.items())

    def _show_start(self) -> None:
        state = self.state
        if not state.start:
            state.start_text = "Needs many hours and much data; usually a start from a model is better."
            return
        file = self._models[state.start]
        state.start_text = describe_model(file)
        own = dict(TRAIN_RECIPES[state.recipe].architecture)
        if any(file.info.architecture.get(key) != own.get(key) for key in ("name", "channels")):
            state.start_text += " The model’s network is kept, not the recipe’s."

    def _show_stopped(self, chosen: Path | None = None) -> None:
        state = self.state
        found = [entry for entry in saved.list_stopped(self.folder) if Path(entry[0]) not in self._complete]
        if chosen is not None and str(chosen) not in dict(found) and chosen not in self._complete:
            found.insert(0, (str(chosen), chosen.stem))
        state.stopped = tuple(found)
        keep = str(chosen) if chosen is not None else state.chosen_stopped
        state.chosen_stopped = keep if keep in dict(found) else (found[0][0] if found else "")

    def _say(self, message: str, error: bool = False) -> None:
        self.state.is_error = error
        self.state.message = message
