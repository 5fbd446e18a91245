"""Before the first step: data in memory, the network with its first weights, the processes, the budget."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import distributed

from napari_lowdose_tem.engine.device import Device, choose_device
from napari_lowdose_tem.network.model_file import load_model
from napari_lowdose_tem.network.networks import build_network
from napari_lowdose_tem.network.scaling import RECIPES
from napari_lowdose_tem.train.config import SIMULATOR, Recipe, TrainConfig
from napari_lowdose_tem.train.data import Batches, Pairs, gather, iter_load, split
from napari_lowdose_tem.train.losses import LOSSES

_TIMED_STEPS = 5


def iter_load_pairs(
    config: TrainConfig,
) -> Generator[tuple[int, int], None, tuple[Pairs | None, Pairs | None]]:
    """Load what is trained on and what is validated on, None for simulated frames; yields (done, total)."""
    kept = []
    for source in (config.data, config.validation):
        fields = []
        if source not in (None, SIMULATOR):
            for done, total, field in iter_load(str(source), config.hde_factor):
                fields.append(field)
                yield done, total
        kept.append(fields)
    trained, validated = kept
    if trained and config.validation is None:
        trained, validated = split(trained, config.seed)
    return (gather(trained) if trained else None, gather(validated) if validated else None)


def make_network(config: TrainConfig) -> tuple[torch.nn.Module, Recipe, tuple[str, ...]]:
    """Build the network; return it, the recipe as it applies to it, and remarks for the user.

    A model to go on from brings its own architecture and preprocessing.
    """
    recipe = config.recipe
    if config.start is not None:
        model = load_model(config.start)
        known = [name for name, entry in RECIPES.items() if entry == dict(model.info.recipe)]
        if not known:
            raise ValueError(
                f"model {config.start} prepares frames by {dict(model.info.recipe)}; cannot train on it"
            )
        recipe = replace(recipe, architecture=dict(model.info.architecture), preprocessing=known[0])
        return model.network.requires_grad_(), recipe, (f"starts from model {model.file.label}",)
    torch.manual_seed(config.seed)
    network = build_network(dict(recipe.architecture))
    if not recipe.pretrained_encoder:
        return network, recipe, ()
    from napari_lowdose_tem.network.encoder_weights import find_encoder_weights, load_encoder

    return network, recipe, (load_encoder(network, find_encoder_weights(config.encoder_weights)),)


def make_optimiser(recipe: Recipe, network: torch.nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser of a recipe, and check the recipe's other names."""
    if recipe.loss not in LOSSES:
        raise ValueError(f"unknown loss {recipe.loss!r}; choose {' or '.join(LOSSES)}")
    if recipe.schedule not in ("constant", "cosine"):
        raise ValueError(f"unknown schedule {recipe.schedule!r}; choose constant or cosine")
    if recipe.optimiser == "adam":
        return torch.optim.Adam(network.parameters(), recipe.learning_rate)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(network.parameters(), recipe.learning_rate, (0.9, 0.99), weight_decay=1e-4)
    raise ValueError(f"unknown optimiser {recipe.optimiser!r}; choose adam or adamw")


def is_first_process() -> bool:
    """Whether this is the process that saves and talks, of those torchrun started, or the only one."""
    return int(os.environ.get("RANK", 0)) == 0


class Processes(NamedTuple):
    """The processes that train together: number of this one, how many there are, and its device."""

    rank: int
    n_processes: int
    device: Device


def join_processes(wanted: str) -> Processes:
    """Choose the device; under torchrun the processes find each other first."""
    rank, n_processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if n_processes > 1 and wanted == "auto" and torch.cuda.is_available():
        wanted = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    device = choose_device(wanted, training=True)
    if n_processes > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.kind.startswith("cuda") else "gloo")
    return Processes(rank, n_processes, device)


def computes_in_bfloat16(device: Device) -> bool:
    """Whether bfloat16 is fast on a device."""
    if device.kind.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.precision != "float32"


def fit_budget(
    config: TrainConfig, recipe: Recipe, network: torch.nn.Module, batches: Batches
) -> tuple[int, int]:
    """Return epochs and steps an epoch; for a budget in minutes, from the time of a few trial steps."""
    steps = batches.steps_per_epoch
    if config.minutes is None:
        return recipe.epochs, steps
    trial = copy.deepcopy(network).train()
    optimiser = make_optimiser(recipe, trial)
    times = []
    for step in range(_TIMED_STEPS):
        start = time.monotonic()
        inputs, targets = batches.draw(step)
        loss = LOSSES[recipe.loss](
            trial(inputs.contiguous(memory_format=torch.channels_last)).float(), targets
        )
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        float(loss.detach())  # waits for the device
        times.append(time.monotonic() - start)
    affordable = max(1, int(60 * config.minutes / sorted(times)[_TIMED_STEPS // 2]))
    if distributed.is_initialized():  # the same for all
        shared = torch.tensor(affordable, device=inputs.device)
        distributed.broadcast(shared, 0)
        affordable = int(shared)
    if affordable < steps and recipe.steps_per_epoch is not None:
        return 1, affordable
    return max(1, round(affordable / steps)), steps


def update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move the averaged weights towards the network's."""
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def to_cpu(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Copy weights to the CPU."""
    return {key: value.detach().cpu().clone() for key, value in weights.items()}
