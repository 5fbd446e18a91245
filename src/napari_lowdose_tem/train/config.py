"""What is to be learnt, from what, and how: plain values, stored with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

SIMULATOR = "simulator"
"""Data that need no files: fresh specimens, cameras, doses and noise at every draw."""


@dataclass(frozen=True)
class Recipe:
    """How a network learns.

    Parameters
    ----------
    name
        Under which it is chosen.
    architecture
        As `network.build_network` takes it.
    preprocessing
        Key of `preprocess.RECIPES`.
    loss
        Key of `train.losses.LOSSES`.
    optimiser
        "adam" or "adamw".
    learning_rate
        Largest step size.
    schedule
        "constant", or "cosine": falls to nothing towards the end.
    warm_up_steps
        Steps over which the step size rises to `learning_rate`.
    batch
        Frames a step and process.
    crop_px
        Side of the random crops [px]; None for whole frames. Crops are also turned by quarters.
    epochs
        Passes; each ends with a validation and saved files.
    steps_per_epoch
        Steps a pass; None for once through all pairs.
    fresh_noise
        Share of the frames drawn anew through the camera model, from high-dose references and simulated
        specimens; the rest are recorded low-dose frames.
    averaging
        Decay of the moving average of the weights that is saved; 0 for the weights themselves.
    clip_norm
        Largest norm of the gradients; None for any.
    mixed_precision
        Compute in bfloat16 where that is precise enough.
    pretrained_encoder
        Start the ResNet encoder from ImageNet weights where they can be had.
    large_crops
        Share of the steps with a quarter of the frames, from crops of twice the side, so that the inside of a
        frame is seen as far from its rims as it is in use.
    rims
        Share of the crops that end off the network's stride and are filled up by reflection as frames are.
    particles
        What simulated specimens are of, key of `train.scenes.PARTICLES`: what the user knows and a network
        cannot see in so few electrons.
    """

    name: str
    architecture: Mapping[str, Any]
    preprocessing: str
    loss: str
    optimiser: str
    learning_rate: float
    schedule: str
    warm_up_steps: int
    batch: int
    crop_px: int | None
    epochs: int
    steps_per_epoch: int | None
    fresh_noise: float
    averaging: float
    clip_norm: float | None
    mixed_precision: bool
    pretrained_encoder: bool
    large_crops: float = 0.0
    rims: float = 0.0
    particles: str = "any"


TRAIN_RECIPES = {
    # Katsuno et al. 2021: fixed pairs, whole frames flipped alike; Adam, L1; the parameters after 900 epochs
    "paper": Recipe(
        name="paper",
        architecture={"name": "smp-unet", "encoder": "resnet18"},
        preprocessing="paper",
        loss="l1",
        optimiser="adam",
        learning_rate=1e-4,
        schedule="constant",
        warm_up_steps=0,
        batch=4,
        crop_px=None,
        epochs=900,
        steps_per_epoch=None,
        fresh_noise=0.0,
        averaging=0.0,
        clip_norm=None,
        mixed_precision=False,
        pretrained_encoder=True,
    ),
    "default": Recipe(
        name="default",
        architecture={"name": "light-unet"},
        preprocessing="level",
        loss="rms-spots",
        optimiser="adamw",
        learning_rate=8e-4,
        schedule="cosine",
        warm_up_steps=200,
        batch=4,
        crop_px=256,
        epochs=160,
        steps_per_epoch=250,
        fresh_noise=0.7,
        averaging=0.999,
        clip_norm=1.0,
        mixed_precision=True,
        pretrained_encoder=False,
        large_crops=0.25,
        rims=0.15,
    ),
}
TRAIN_RECIPES["fast"] = replace(
    TRAIN_RECIPES["default"],
    name="fast",
    architecture={"name": "light-unet", "channels": [16, 32, 48, 64, 96]},
    learning_rate=2e-3,
    epochs=64,
)


@dataclass(frozen=True)
class TrainConfig:
    """What to train on, where to save, for how long.

    Parameters
    ----------
    data
        As `pairs.find_fields` takes it, or `SIMULATOR`.
    output
        NAME.safetensors, the weights best on validation. Beside it come NAME.last.safetensors,
        NAME.state to go on from, NAME.losses.csv and NAME.losses.png.
    recipe
        How to learn.
    validation
        Data to validate on; None for a tenth of the fields of `data`, or for simulated frames.
    start
        Model to go on from, by name or file; None for new weights.
    hde_factor
        High-dose pixels along a low-dose pixel, for folders of high-dose frames alone; None to refuse them.
    encoder_weights
        File of ImageNet weights of the encoder; None to look in the caches of torchvision and SMP.
    minutes
        Time to train for: the number of epochs is fitted to it, once, at the start.
    workers
        Processes that draw specimens ahead; None for 8 beside a GPU. They start as new programs, so that a
        script must guard its main part by ``if __name__ == "__main__"``.
    seed
        Of weights, order, crops, cameras and noise.
    device
        As `device.choose_device` takes it.
    resume
        Go on from NAME.state exactly where it was saved.
    overwrite
        Replace an earlier training of that name.
    """

    data: str
    output: Path
    recipe: Recipe = field(default_factory=lambda: TRAIN_RECIPES["default"])
    validation: str | None = None
    start: str | None = None
    hde_factor: int | None = None
    encoder_weights: Path | None = None
    minutes: float | None = None
    workers: int | None = 0
    seed: int = 1
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
