"""The training loop, on one plain page."""

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
from napari_lowdose_tem.train.data import Batches, draw_validation
from napari_lowdose_tem.train.losses import LOSSES, mean_absolute
from napari_lowdose_tem.train.prepare import (
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
    rank, ranks, device = join_processes(config.device)
    where = device.torch_device
    loading = iter_load_pairs(config)
    while True:
        try:
            yield TrainProgress("preparing", *next(loading), device=str(device))
        except StopIteration as done:
            pairs, held_out = done.value
            break
    network, recipe, notes = make_network(config)
    notes += (pairs.notes if pairs else ()) + (held_out.notes if held_out else ())
    network = network.to(where).to(memory_format=torch.channels_last).train()
    optimiser = make_optimiser(recipe, network)
    workers = config.workers if config.workers is not None else 8 * (where.type != "cpu")
    batches = Batches(recipe, pairs, config.seed, where, rank, ranks, workers)
    validation = draw_validation(recipe, held_out, where)
    average = copy.deepcopy(network) if recipe.averaging else network
    step, history, losses, best, spent_s = 0, [], [], math.inf, 0.0
    if config.resume:
        state = load_state(files.state, config)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, losses, best, spent_s = state["step"], state["losses"], state["best"], state["spent_s"]
        history = [EpochLosses(**entry) for entry in state["history"]]
        epochs, steps_per_epoch = state["epochs"], state["steps_per_epoch"]
    else:
        epochs, steps_per_epoch = fit_budget(config, recipe, network, batches)
    recipe = replace(recipe, epochs=epochs, steps_per_epoch=steps_per_epoch)
    steps, best_weights, example = epochs * steps_per_epoch, None, None
    parallel = torch.nn.parallel.DistributedDataParallel(network) if ranks > 1 else network
    bfloat16 = recipe.mixed_precision and computes_in_bfloat16(device)
    begun, begun_s, saved_s = step, spent_s, spent_s

    def save() -> None:
        if rank:
            return
        info = _describe(config, recipe, history, step, spent_s, str(device))
        if best_weights is not None:
            save_model(files.best, best_weights, info)
        save_model(files.last, average.state_dict(), info)
        save_losses(files, history)
        if step == steps:
            files.state.unlink(missing_ok=True)
            return
        save_state(
            files.state, config, network=network.state_dict(), average=average.state_dict(),
            optimiser=optimiser.state_dict(), step=step, epochs=epochs, steps_per_epoch=steps_per_epoch,
            losses=losses, best=best, history=[asdict(entry) for entry in history],
            spent_s=spent_s,
        )  # fmt: skip

    try:
        while step < steps:
            step_began = time.monotonic()  # a pause between two steps does not count
            inputs, targets = batches.draw(step)
            learning_rate = _learning_rate(recipe, step, steps)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate
            with torch.autocast(where.type, torch.bfloat16, enabled=bfloat16):
                output = parallel(inputs.contiguous(memory_format=torch.channels_last))
            loss = LOSSES[recipe.loss](output.float(), targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            optimiser.step()
            if recipe.averaging:
                update_average(average, network, min(recipe.averaging, (step + 1) / (step + 11)))
            losses.append(_average_over_ranks(mean_absolute(output.detach().float(), targets), ranks))
            if not math.isfinite(losses[-1]):
                raise ValueError(f"the loss is not finite at step {step}; train with a smaller learning rate")
            step += 1
            ends_epoch = step % steps_per_epoch == 0
            if ends_epoch:
                validated, example = _validate(average, validation) if rank == 0 else (math.nan, None)
            spent_s += time.monotonic() - step_began
            if ends_epoch:
                entry = EpochLosses(
                    step // steps_per_epoch, float(np.mean(losses)), validated, learning_rate, spent_s / 60
                )
                history, losses = [*history, entry], []
                if validated < best:
                    best, best_weights = validated, to_cpu(average.state_dict())
                if step == steps or spent_s - saved_s > _SAVE_EVERY_S:
                    save()
                    best_weights, saved_s = None, spent_s
            seconds_left = (spent_s - begun_s) / (step - begun) * (steps - step)
            yield TrainProgress(
                "training", step, steps, -(-step // steps_per_epoch), epochs, losses[-1] if losses else None,
                tuple(history), example, seconds_left, str(device), notes,
            )  # fmt: skip
    except GeneratorExit:
        if step < steps:
            save()
        raise
    finally:
        batches.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    rise = min(1.0, (step + 1) / recipe.warm_up_steps) if recipe.warm_up_steps else 1.0
    if recipe.schedule == "constant":
        return recipe.learning_rate * rise
    return recipe.learning_rate * rise * max(0.005, 0.5 * (1 + math.cos(math.pi * step / steps)))


def _average_over_ranks(loss: torch.Tensor, ranks: int) -> float:
    if ranks > 1:
        distributed.all_reduce(loss)
    return float(loss) / ranks


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
