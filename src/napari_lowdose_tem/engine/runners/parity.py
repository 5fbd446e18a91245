"""Whether a runner computes what torch computes in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from napari_lowdose_tem.engine.runners.runner import Runner
from napari_lowdose_tem.network.scaling import measure_scaling

_SHAPE = (128, 160)
_LARGEST_RMS = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.03, "int8": 0.03}


@dataclass(frozen=True)
class Parity:
    """Difference of a runner from float32 torch on the CPU, as shares of the output's range."""

    precision: str
    rms: float
    largest: float

    @property
    def is_close(self) -> bool:
        """Whether it is within what the precision allows; wrong sums are far beyond."""
        return self.rms <= _LARGEST_RMS[self.precision]

    def __str__(self) -> str:
        """Return `differs from float32 by 0.4 % of the range (at most 3.1 %)`."""
        return f"differs from float32 by {self.rms:.1%} of the range (at most {self.largest:.1%})"


def compare_runner(
    runner: Runner, network: torch.nn.Module, recipe: Mapping[str, Any], precision: str
) -> Parity:
    """Enhance one small simulated frame with both.

    Parameters
    ----------
    runner
        To be judged.
    network
        In float32 on the CPU, as it was loaded.
    recipe
        Its preprocessing.
    precision
        Of the runner.
    """
    row, col = np.mgrid[: _SHAPE[0], : _SHAPE[1]]
    transmission = np.ones(_SHAPE)
    for center, radius, depth in (((50, 40), 28, 0.5), ((70, 110), 40, 0.25)):
        distance = np.hypot(row - center[0], col - center[1])
        transmission -= depth * np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, None))
    counts = (44 * np.random.default_rng(0).poisson(5 * transmission)).astype(np.uint16)
    scaling = measure_scaling(recipe, counts)
    result = runner.submit(counts[None], [scaling])()[0]
    with torch.inference_mode():
        expected = network(torch.from_numpy(scaling.normalise(counts)[None, None]))[0, 0].numpy()
    expected = scaling.to_counts(expected)
    extent = float(np.ptp(expected)) or 1.0
    error = np.abs(result - expected) / extent
    # not a number is as far off as can be
    error = np.nan_to_num(error, nan=np.inf, posinf=np.inf)
    return Parity(precision, float(np.sqrt(np.mean(error**2))), float(error.max()))
