"""Training from the simulator: fresh scenes, cameras, doses and noise at every draw, on one plain page."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_lowdose_tem.model import ModelInfo, load_model, save_model
from napari_lowdose_tem.network import build_network
from napari_lowdose_tem.preprocess import RECIPES, measure_scaling
from napari_lowdose_tem.simulate.camera import MEASURED, draw_camera, expose_torch
from napari_lowdose_tem.simulate.specimen import MATERIALS, make_scene

_PIXEL_SIZE_NM = (1.2, 6.0)
_DOSE_E_PER_PX = (1.0, 50.0)


@dataclass(frozen=True)
class TrainConfig:
    """What to train, for how long, and with which step size."""

    output: Path
    architecture: dict[str, Any] = field(default_factory=lambda: {"name": "light-unet"})
    minutes: float = 120.0
    learning_rate: float = 8e-4  # 2e-3 became unstable after 3,000 steps
    batch: int = 4
    crop_px: int = 256
    pool_scenes: int = 300
    seed: int = 1
    device: str = "cpu"
    start: Path | None = None  # a model file to go on from, of the same architecture


@dataclass(frozen=True)
class TrainStep:
    """State after a step: training loss (mean since the last) and validation loss, L1 in levels."""

    step: int
    minutes: float
    loss: float
    validation: float


class ScenePool:
    """Scenes to crop from; one in `refresh` draws replaces the oldest, so that none is seen for long."""

    def __init__(self, size: int, crop_px: int, rng: np.random.Generator, refresh: float = 0.1) -> None:
        self._rng, self._crop_px, self._refresh = rng, crop_px, refresh
        self._side = crop_px * 3 // 2
        self._scenes = [self._draw() for _ in range(size)]
        self._oldest = 0

    def _draw(self) -> np.ndarray[Any, Any]:
        rng = self._rng
        pixel_size_nm = float(np.exp(rng.uniform(*np.log(_PIXEL_SIZE_NM))))
        material = str(rng.choice(list(MATERIALS)))
        return make_scene(
            material, (self._side, self._side), pixel_size_nm, rng, liquid_cell=bool(rng.random() < 0.12)
        ).transmission

    def crop(self) -> np.ndarray[Any, Any]:
        """Return a random, flipped and turned crop of transmission."""
        rng = self._rng
        if rng.random() < self._refresh:
            self._scenes[self._oldest] = self._draw()
            self._oldest = (self._oldest + 1) % len(self._scenes)
        scene = self._scenes[rng.integers(len(self._scenes))]
        row, col = rng.integers(0, self._side - self._crop_px + 1, 2)
        crop = np.rot90(scene[row : row + self._crop_px, col : col + self._crop_px], int(rng.integers(4)))
        return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def draw_dose(rng: np.random.Generator) -> float:
    """Dose [e-/px]: mostly 3–12, the rest 1–50, log-uniformly."""
    low, high = (3.0, 12.0) if rng.random() < 0.7 else _DOSE_E_PER_PX
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def draw_batch(
    pool: ScenePool, count: int, rng: np.random.Generator, generator: torch.Generator, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw input and target, both (count, 1, rows, columns) in units of the frame's mean level."""
    recipe = RECIPES["level"]
    low, high = recipe["clip"]
    inputs, targets = [], []
    for _ in range(count):
        transmission = torch.from_numpy(pool.crop()).to(device)
        camera = MEASURED if rng.random() < 0.25 else draw_camera(rng)
        counts = expose_torch(transmission * draw_dose(rng), camera, generator)
        # a stack shares one level, so single frames (and crops) lie off it by some per cent
        jitter = float(np.exp(0.1 * rng.standard_normal()))
        level = measure_scaling(recipe, counts.cpu().numpy()).scale * jitter
        inputs.append((counts / level).clamp(low, high))
        targets.append(transmission / (transmission.mean() * jitter))
    return torch.stack(inputs)[:, None], torch.stack(targets)[:, None]


def iter_train(config: TrainConfig) -> Iterator[TrainStep]:
    """Train until the time is up, saving the averaged weights about every five minutes and at the end.

    L1 loss (Katsuno et al. 2021, Eq. 1), AdamW, warm-up and cosine over the time budget, gradients clipped,
    bfloat16 autocast; the saved weights are an exponential moving average.
    """
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    generator = torch.Generator(config.device).manual_seed(config.seed)
    network = load_model(config.start).network if config.start else build_network(config.architecture)
    network = network.requires_grad_().to(config.device)
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, (0.9, 0.99), weight_decay=1e-4)
    validation = draw_batch(
        ScenePool(12, config.crop_px, np.random.default_rng(0)),
        24,
        np.random.default_rng(0),
        torch.Generator(config.device).manual_seed(0),
        config.device,
    )
    pool = ScenePool(config.pool_scenes, config.crop_px, rng)
    start = reported = time.monotonic()
    losses: list[float] = []
    step, done = 0, 0.0
    while done < 1:
        step += 1
        done = min(1.0, (time.monotonic() - start) / (60 * config.minutes))
        for group in optimiser.param_groups:
            warm_up = min(1.0, step / 200)
            group["lr"] = config.learning_rate * warm_up * max(0.005, 0.5 * (1 + math.cos(math.pi * done)))
        inputs, targets = draw_batch(pool, config.batch, rng, generator, config.device)
        network.train()
        with torch.autocast(config.device, torch.bfloat16):
            output = network(inputs.to(memory_format=torch.channels_last))
        loss = (output.float() - targets).abs().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        _update_average(average, network, decay=min(0.999, step / (step + 10)))
        losses.append(float(loss.detach()))
        now = time.monotonic()
        if now - reported > 300 or done >= 1:
            reported = now
            report = TrainStep(
                step, (now - start) / 60, float(np.mean(losses)), _validate(average, *validation)
            )
            save_model(config.output, average.state_dict(), describe(config, report))
            losses.clear()
            yield report


def _update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def _validate(network: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    with torch.inference_mode():
        return float(
            np.mean(
                [
                    float((network(x[None]) - t[None]).abs().mean())
                    for x, t in zip(inputs, targets, strict=True)
                ]
            )
        )


def describe(config: TrainConfig, report: TrainStep) -> ModelInfo:
    """Fill in the header of the model being trained."""
    return ModelInfo(
        name=config.output.stem,
        version="1",
        description="Trained on simulated particles of five materials, measured and randomised cameras",
        architecture=config.architecture,
        recipe=RECIPES["level"],
        dose_e_per_px=_DOSE_E_PER_PX,
        gain_counts_per_e=(1.0, 200.0),
        pixel_size_nm=_PIXEL_SIZE_NM,
        training={
            **{k: v for k, v in asdict(config).items() if k not in ("output", "architecture", "start")},
            "start": dict(load_model(config.start).info.training) if config.start else None,
            "data": "simulator, fresh noise at every draw",
            "loss": "L1",
            "optimiser": "AdamW, warm-up and cosine, EMA 0.999, bfloat16 autocast",
            "reached": asdict(report),
        },
    )
