"""The training loop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed

from napari_lowdose_tem.network.model_file import ModelInfo, save_model
from napari_lowdose_tem.network.scaling import RECIPES
from napari_lowdose_tem.train.config import SIMULATOR, Recipe, TrainConfig
from napari_lowdose_tem.train.data import Batches, Pairs, draw_validation
from napari_lowdose_tem.train.losses import LOSSES, mean_absolute
from napari_lowdose_tem.train.prepare import (
    Processes,
    computes_in_bfloat16,
    fit_budget,
    is_first_process,
    iter_load_pairs,
    join_processes,
    make_network,
    make_optimiser,
    to_cpu,
    update_average,
)
from napari_lowdose_tem.train.record import EpochLosses, Files, load_state, save_losses, save_state
from napari_lowdose_tem.train.scenes import DOSE_E_PER_PX, PIXEL_SIZE_NM

_SAVE_EVERY_S = 60.0


@dataclass(frozen=True, eq=False)
class ValidationFrame:
    """A frame validated on, float32 (rows, columns) in the network's units; `hde` is NaN where unknown."""

    lde: npt.NDArray[np.float32]
    output: npt.NDArray[np.float32]
    hde: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TrainProgress:
    """State after a step, or after a field has been read.

    `step` of `steps` counts over the whole training, while preparing it counts fields; `loss` is the step's
    mean absolute error; `notes` are remarks for the user; `example` changes with every epoch.
    """

    stage: str
    step: int
    steps: int
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    history: tuple[EpochLosses, ...] = ()
    example: ValidationFrame | None = None
    seconds_left: float | None = None
    device: str = ""
    notes: tuple[str, ...] = ()


def iter_train(config: TrainConfig) -> Generator[TrainProgress, None, None]:
    """Train a network, reporting every step.

    The models best on validation and last, the state and the losses are saved about every minute at an
    epoch's end, and when the generator is closed; with `resume` a training goes on from there exactly. A
    finished training leaves no state. Under torchrun all processes train together and the first one saves.

    Raises
    ------
    ValueError
        For data, settings or a state that cannot be used, and when the loss is no longer finite.
    """
    files = Files(config.output)
    files.check(config)
    with files.reserve() if is_first_process() else nullcontext():
        yield from _iter_steps(config, files)


def _iter_steps(config: TrainConfig, files: Files) -> Generator[TrainProgress, None, None]:
    processes = join_processes(config.device)
    loading = iter_load_pairs(config)
    while True:
        try:
            done, total = next(loading)
        except StopIteration as end:
            pairs, held_out = end.value
            break
        yield TrainProgress("preparing", done, total, device=str(processes.device))
    training = _Training(config, files, processes, pairs, held_out)
    try:
        while training.step < training.steps:
            start_s = time.monotonic()  # a pause between two steps does not count
            learning_rate = training.take_step()
            ends_epoch = training.step % training.steps_per_epoch == 0
            validated = training.validate() if ends_epoch else math.nan
            training.spent_s += time.monotonic() - start_s
            if ends_epoch:
                training.end_epoch(validated, learning_rate)
            yield training.report()
    except GeneratorExit:
        if training.step < training.steps:
            training.save()
        raise
    finally:
        training.batches.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()


class _Training:
    """A network, its optimiser and its data, with everything that is saved to go on from."""

    def __init__(
        self,
        config: TrainConfig,
        files: Files,
        processes: Processes,
        pairs: Pairs | None,
        held_out: Pairs | None,
    ) -> None:
        self._config, self._files, self._processes = config, files, processes
        where = processes.device.torch_device
        network, recipe, notes = make_network(config)
        self._notes = notes + (pairs.notes if pairs else ()) + (held_out.notes if held_out else ())
        self._network = network.to(where).to(memory_format=torch.channels_last).train()
        self._optimiser = make_optimiser(recipe, self._network)
        workers = config.workers if config.workers is not None else 8 * (where.type != "cpu")
        self.batches = Batches(
            recipe, pairs, config.seed, where, processes.rank, processes.n_processes, workers
        )
        self._validation = draw_validation(recipe, held_out, where)
        self._average = copy.deepcopy(self._network) if recipe.averaging else self._network
        self.step, self.spent_s = 0, 0.0
        self._history: list[EpochLosses] = []
        self._losses: list[float] = []
        self._best = math.inf
        self._best_weights: dict[str, torch.Tensor] | None = None
        self._frame: ValidationFrame | None = None
        if config.resume:
            epochs, self.steps_per_epoch = self._resume()
        else:
            epochs, self.steps_per_epoch = fit_budget(config, recipe, self._network, self.batches)
        self._recipe = replace(recipe, epochs=epochs, steps_per_epoch=self.steps_per_epoch)
        self.steps = epochs * self.steps_per_epoch
        self._parallel = (
            torch.nn.parallel.DistributedDataParallel(self._network)
            if processes.n_processes > 1
            else self._network
        )
        self._in_bfloat16 = recipe.mixed_precision and computes_in_bfloat16(processes.device)
        self._first_step, self._first_s, self._saved_s = self.step, self.spent_s, self.spent_s

    def take_step(self) -> float:
        """Learn from one batch; returns the learning rate."""
        recipe, network = self._recipe, self._network
        inputs, targets = self.batches.draw(self.step)
        learning_rate = _learning_rate(recipe, self.step, self.steps)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._in_bfloat16):
            output = self._parallel(inputs.contiguous(memory_format=torch.channels_last))
        loss = LOSSES[recipe.loss](output.float(), targets)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        self._optimiser.step()
        if recipe.averaging:
            decay = min(recipe.averaging, (self.step + 1) / (self.step + 11))
            update_average(self._average, network, decay)
        error = mean_absolute(output.detach().float(), targets)
        self._losses.append(_average_over_processes(error, self._processes.n_processes))
        if not math.isfinite(self._losses[-1]):
            raise ValueError(
                f"the loss is not finite at step {self.step}; train with a smaller learning rate"
            )
        self.step += 1
        return learning_rate

    def validate(self) -> float:
        """Return the mean absolute error over the frames held out; only the first process measures it."""
        if self._processes.rank:
            return math.nan
        error, self._frame = _validate(self._average, self._validation)
        return error

    def end_epoch(self, validated: float, learning_rate: float) -> None:
        """Note the losses of an epoch, keep the best weights, and save now and then."""
        epoch = self.step // self.steps_per_epoch
        trained = float(np.mean(self._losses))
        self._history.append(EpochLosses(epoch, trained, validated, learning_rate, self.spent_s / 60))
        self._losses = []
        if validated < self._best:
            self._best, self._best_weights = validated, to_cpu(self._average.state_dict())
        if self.step == self.steps or self.spent_s - self._saved_s > _SAVE_EVERY_S:
            self.save()
            self._best_weights, self._saved_s = None, self.spent_s

    def report(self) -> TrainProgress:
        """Tell how far it is."""
        s_per_step = (self.spent_s - self._first_s) / (self.step - self._first_step)
        return TrainProgress(
            "training",
            self.step,
            self.steps,
            epoch=-(-self.step // self.steps_per_epoch),
            epochs=self._recipe.epochs,
            loss=self._losses[-1] if self._losses else None,
            history=tuple(self._history),
            example=self._frame,
            seconds_left=s_per_step * (self.steps - self.step),
            device=str(self._processes.device),
            notes=self._notes,
        )

    def save(self) -> None:
        """Save the models, the losses and, until the last step, the state to go on from."""
        if self._processes.rank:
            return
        device = str(self._processes.device)
        info = _describe(self._config, self._recipe, self._history, self.step, self.spent_s, device)
        if self._best_weights is not None:
            save_model(self._files.best, self._best_weights, info)
        save_model(self._files.last, self._average.state_dict(), info)
        save_losses(self._files, self._history)
        if self.step == self.steps:
            self._files.state.unlink(missing_ok=True)
            return
        save_state(
            self._files.state,
            self._config,
            network=self._network.state_dict(),
            average=self._average.state_dict(),
            optimiser=self._optimiser.state_dict(),
            step=self.step,
            epochs=self._recipe.epochs,
            steps_per_epoch=self.steps_per_epoch,
            losses=self._losses,
            best=self._best,
            history=[asdict(entry) for entry in self._history],
            spent_s=self.spent_s,
        )

    def _resume(self) -> tuple[int, int]:
        """Take over a saved state; returns epochs and steps per epoch."""
        state = load_state(self._files.state, self._config)
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self._losses = state["step"], state["losses"]
        self._best, self.spent_s = state["best"], state["spent_s"]
        self._history = [EpochLosses(**entry) for entry in state["history"]]
        return state["epochs"], state["steps_per_epoch"]


def _learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    rise = min(1.0, (step + 1) / recipe.warm_up_steps) if recipe.warm_up_steps else 1.0
    if recipe.schedule == "constant":
        return recipe.learning_rate * rise
    return recipe.learning_rate * rise * max(0.005, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _average_over_processes(loss: torch.Tensor, n_processes: int) -> float:
    if n_processes > 1:
        distributed.all_reduce(loss)
    return float(loss) / n_processes


def _validate(
    network: torch.nn.Module, frames: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> tuple[float, ValidationFrame]:
    """Return the mean absolute error over frames, and what became of the first."""
    training = network.training
    network.eval()
    errors, example = [], None
    with torch.inference_mode():
        for inputs, target in frames:
            output = network(inputs.contiguous(memory_format=torch.channels_last)).float()
            errors.append(float(mean_absolute(output, target)))
            if example is None:
                example = ValidationFrame(*(t[0, 0].cpu().numpy() for t in (inputs, output, target)))
    network.train(training)
    if example is None:
        raise ValueError("no frame to validate on; name other validation data")
    return float(np.mean(errors)), example


def _describe(
    config: TrainConfig,
    recipe: Recipe,
    history: Sequence[EpochLosses],
    step: int,
    spent_s: float,
    device: str,
) -> ModelInfo:
    """Fill in the header of the model being trained."""
    simulated = recipe.fresh_noise > 0
    data: Any = "simulated specimens" if config.data == SIMULATOR else config.data
    return ModelInfo(
        name=config.output.stem,
        version="1",
        description=f"Trained by recipe {recipe.name} on {data}",
        architecture=recipe.architecture,
        recipe=RECIPES[recipe.preprocessing],
        dose_e_per_px=DOSE_E_PER_PX if simulated else None,
        gain_counts_per_e=(1.0, 200.0) if simulated else None,
        pixel_size_nm=PIXEL_SIZE_NM if simulated else None,
        training={
            **{key: value for key, value in asdict(recipe).items() if key != "architecture"},
            "data": data,
            "start": config.start,
            "seed": config.seed,
            "steps": step,
            "minutes": round(spent_s / 60, 1),
            "device": device,
            "reached": asdict(history[-1]) if history else None,
        },
    )
