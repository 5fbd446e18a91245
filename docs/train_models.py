"""Train a model as those that come with the package: python docs/train_models.py default OUT.safetensors.

Needs no data: the simulator makes it. On a CPU shared with other programs, set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_lowdose_tem.train import TrainConfig, iter_train

ARCHITECTURES = {"default": {"name": "light-unet"}, "paper": {"name": "smp-unet", "encoder": "resnet18"}}


def main() -> None:
    """Train one model, printing the losses every five minutes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=ARCHITECTURES)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--start", type=Path, help="model file to go on from")
    options = vars(parser.parse_args())
    architecture = ARCHITECTURES[options.pop("model")]
    for step in iter_train(TrainConfig(architecture=architecture, **options)):
        print(step, flush=True)


if __name__ == "__main__":
    main()
