"""What the Train dock's job runs. No Qt."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_lowdose_tem.train.config import Recipe, TrainConfig
from napari_lowdose_tem.widgets.train.saved import state_of

if TYPE_CHECKING:
    from napari_lowdose_tem.train.loop import TrainProgress


def iter_steps(config: TrainConfig) -> Iterator[TrainProgress]:
    """Train; imports torch, and matplotlib so that the GUI thread need not wait for it.

    Resuming needs only output and device: the rest is read from the saved state.
    """
    import matplotlib.figure  # noqa: F401

    # torch's optimisers import Triton, whose LLVM crashes beside the one of Mesa, with which napari may draw
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]

    from napari_lowdose_tem.train.loop import iter_train

    return iter_train(read_saved_config(config) if config.resume else config)


def read_saved_config(config: TrainConfig) -> TrainConfig:
    """Fill in the settings with which the training at `config.output` was started.

    Raises
    ------
    ValueError
        When its state is missing, damaged, or of another version.
    """
    import torch

    path = state_of(config.output)
    try:
        saved = json.loads(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["config"])
        if "recipe" in saved:
            saved["recipe"] = Recipe(**saved["recipe"])
        return replace(config, **saved)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is gone, so there is nothing to resume. Start a new training") from error
    except Exception as error:  # a foreign or damaged file may raise anything
        raise ValueError(f"{path} is damaged or of another version. Start the training again") from error
