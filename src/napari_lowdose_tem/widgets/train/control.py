"""What the Train dock does: checks data, starts and resumes trainings, hands on the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_lowdose_tem.network.model_file import SUFFIX, find_model, user_model_folder
from napari_lowdose_tem.train.config import SIMULATOR, TRAIN_RECIPES, TrainConfig
from napari_lowdose_tem.widgets.contributions import open_enhance
from napari_lowdose_tem.widgets.shared.devices import TRAINING_DEVICES, preferred_device
from napari_lowdose_tem.widgets.shared.models import ModelList, describe_model, recipe_label
from napari_lowdose_tem.widgets.shared.settings import read_settings
from napari_lowdose_tem.widgets.shared.viewer import viewer_itself
from napari_lowdose_tem.widgets.shared.worker import error_line
from napari_lowdose_tem.widgets.train import run, saved
from napari_lowdose_tem.widgets.train.check import DataCheck
from napari_lowdose_tem.widgets.train.state import NEW_WEIGHTS, TrainState, describe_budget, describe_data
from napari_lowdose_tem.widgets.train.training import Training
from napari_lowdose_tem.widgets.train.validation_layers import ValidationLayers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.utils.events import Event

    from napari_lowdose_tem.train.loop import TrainProgress


class TrainControl:
    """Between viewer, state and jobs; lives on the GUI thread and knows no widget.

    Parameters
    ----------
    viewer
        The viewer or its model.
    iter_train
        Trains as a `TrainConfig` says; the real training by default.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        iter_train: Callable[[TrainConfig], Iterator[TrainProgress]] | None = None,
    ) -> None:
        self.viewer = viewer = viewer_itself(viewer)
        self.state = TrainState(theme=viewer.theme, device=preferred_device(TRAINING_DEVICES))
        self._models = ModelList()
        self._named = False  # whether the name is the user's own
        self.data_check = DataCheck(self.state)
        self._layers = ValidationLayers(viewer)
        self.training = Training(self.state, self._layers, iter_train or run.iter_steps, self._on_ended)
        viewer.events.theme.connect(self._on_theme)
        self.reload_models()
        self.choose_start(self._models.default)
        self.choose_data(SIMULATOR)

    def close(self) -> None:
        """End jobs, which saves a training, and leave the viewer alone; for when the dock goes."""
        self.viewer.events.theme.disconnect(self._on_theme)
        self.data_check.cancel()
        self.training.close()

    @property
    def folder(self) -> Path:
        """Where models are saved."""
        return read_settings().model_folder or user_model_folder()

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
        state.report("")

    def choose_start(self, path: str) -> None:
        """Start from a model of the list or any model file, or from scratch."""
        if path:
            try:
                self._models.add(path)
            except (ValueError, OSError) as error:
                self.state.report(error_line(error), is_error=True)
                return
        self.state.start = path
        self.state.models = self._models.choices
        self._show_start()
        self.state.report("")
        if path and saved.state_of(Path(path)).is_file():
            self._show_stopped(Path(path))

    def choose_recipe(self, name: str) -> None:
        """Take another recipe."""
        self.state.recipe = name
        self._show_start()

    def set_minutes(self, minutes: int) -> None:
        """Train for this time."""
        self.state.minutes = minutes

    def set_epochs(self, epochs: int) -> None:
        """Train this number of epochs, 0 for as many as the time allows."""
        self.state.epochs = epochs

    def set_batch(self, frames: int) -> None:
        """Take this number of frames per step, 0 for the recipe's."""
        self.state.batch = frames

    def set_seed(self, seed: int) -> None:
        """Draw data and weights from another seed."""
        self.state.seed = seed

    def set_hde_factor(self, factor: int) -> None:
        """Take this HDE/LDE pixel ratio for folders of high-dose frames alone."""
        if factor != self.state.hde_factor:
            self.data_check.forget()
        self.state.hde_factor = factor

    def choose_device(self, device: str) -> None:
        """Take another processor."""
        self.state.device = device

    def choose_name(self, name: str) -> None:
        """Name the model; an empty name proposes one again."""
        self._named = bool(name.strip())
        self.state.name = name.strip()
        self._propose_name()

    def choose_stopped(self, path: str) -> None:
        """Take another stopped training to resume."""
        self.state.chosen_stopped = path

    def reload_models(self) -> None:
        """List models and stopped trainings again."""
        self._models.reload(keep=self.state.start, with_last=False)
        self.state.models = self._models.choices
        self._show_stopped()

    # ---- the training

    def why_not(self) -> str:
        """Say why training cannot begin, or nothing when it can."""
        if self.state.has_errors:
            return "The data have errors. Fix the errors, then check again."
        return "" if self.state.name_ok else self.state.output_text

    def would_overwrite(self) -> bool:
        """Whether an earlier training has the name chosen."""
        return saved.exists(self.output)

    def train(self, overwrite: bool = False) -> None:
        """Train as chosen."""
        state = self.state
        if reason := self.why_not():
            state.report(reason, is_error=True)
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
        start = f"from {dict(state.models)[state.start]}" if state.start else "from scratch"
        budget = describe_budget(recipe, config.minutes)
        self._begin(
            config, f"{describe_data(state.data)} · {start} · recipe {recipe_label(state.recipe)} · {budget}"
        )

    def resume(self) -> None:
        """Continue the stopped training chosen, exactly where it was."""
        if path := self.state.chosen_stopped:
            config = TrainConfig(SIMULATOR, Path(path), device=self.state.device, resume=True)
            self._begin(config, "resumed where it stopped")

    def _begin(self, config: TrainConfig, summary: str) -> None:
        if not self.state.running:
            self.data_check.cancel()
            self.training.begin(config, summary)

    def _start(self) -> str | None:
        """Name of the model to start from where the name is enough to find it, else its path."""
        path = self.state.start
        if not path:
            return None
        label = self._models[path].label
        try:
            return label if str(find_model(label).path) == path else path
        except ValueError:
            return path

    def _on_ended(self, output: Path) -> None:
        self.reload_models()
        if saved.state_of(output).is_file():
            self._show_stopped(output)
        self._propose_name()

    # ---- what was learnt

    def add_validation_layers(self) -> None:
        """Put the validation frame into the viewer; its layers follow the training."""
        if self.state.validation is not None:
            self._layers.add(self.state.validation)

    def use_model(self) -> None:
        """Choose the latest saved model in the Enhance dock, which is opened if need be."""
        path = self.state.saved
        if path is not None and hasattr(self.viewer, "window"):
            open_enhance(self.viewer).control.choose_model(str(path))
            self.state.report(f"The Enhance dock uses “{path.stem}”.")

    # ---- the state

    def _on_theme(self, event: Event | None = None) -> None:
        self.state.theme = self.viewer.theme

    def _propose_name(self) -> None:
        """Take a name that is free, unless the user gave one, and say where the model is saved."""
        state = self.state
        bundled = self._models.labels_outside(self.folder)
        if not self._named:
            stem = "simulated" if state.data == SIMULATOR else Path(state.data).stem
            state.name = saved.propose_name(stem, self.folder, bundled)
        reason = saved.why_no_name(state.name, bundled)
        state.name_ok = not reason
        replaces = " An earlier training has this name." if not reason and self.would_overwrite() else ""
        state.output_text = reason or f"Will be saved as {self.output}.{replaces}"

    def _show_start(self) -> None:
        state = self.state
        if state.start == NEW_WEIGHTS:
            state.start_text = "Needs many hours and much data. Starting from a model is usually better."
            return
        file = self._models[state.start]
        state.start_text = describe_model(file)
        own = dict(TRAIN_RECIPES[state.recipe].architecture)
        if any(file.info.architecture.get(key) != own.get(key) for key in ("name", "channels")):
            state.start_text += " The network of this model is kept, not that of the recipe."

    def _show_stopped(self, chosen: Path | None = None) -> None:
        state, complete = self.state, self.training.complete
        found = [entry for entry in saved.list_stopped(self.folder) if Path(entry[0]) not in complete]
        if chosen is not None and str(chosen) not in dict(found) and chosen not in complete:
            found.insert(0, (str(chosen), chosen.stem))
        state.stopped = tuple(found)
        keep = str(chosen) if chosen is not None else state.chosen_stopped
        state.chosen_stopped = keep if keep in dict(found) else (found[0][0] if found else "")
