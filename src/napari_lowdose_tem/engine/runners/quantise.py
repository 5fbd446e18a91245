"""Eight-bit networks: the range of every layer's input measured on simulated frames, simulated in torch.

The result computes in float32 what an eight-bit processor would, rounding included; OpenVINO recognises the
rounding and computes it in integers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_lowdose_tem.network.scaling import measure_scaling
from napari_lowdose_tem.simulate import MATERIALS, MEASURED, draw_specimen, expose, render

_THIN = 16  # layers of fewer channels, the first and the last, gain little from eight bits and lose the most
_SMALLEST_RANGE = 1e-6
_FRAME_SHAPE = (256, 384)
_FIELD_NM = (768.0, 1152.0)
_DOSES_E_PER_PX = (1.0, 10.0)


class EightBitConv(nn.Module):
    """A float32 convolution, its input (low … high, 0 within) and weights rounded to 256 and 255 levels."""

    def __init__(self, conv: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.conv = conv
        self.step = (high - low) / 255
        self.zero = min(255, max(0, round(-low / self.step)))
        weight = conv.weight.detach()
        steps = weight.abs().amax((1, 2, 3)).clamp(min=1e-8) / 127
        self.weight_steps: torch.Tensor
        self.weight_zeros: torch.Tensor
        self.register_buffer("weight_steps", steps)
        self.register_buffer("weight_zeros", torch.zeros(len(steps), dtype=torch.int32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (n, channels, rows, columns)."""
        conv = self.conv
        x = torch.fake_quantize_per_tensor_affine(x, self.step, self.zero, 0, 255)
        weight = torch.fake_quantize_per_channel_affine(
            conv.weight, self.weight_steps, self.weight_zeros, 0, -127, 127
        )
        return nn.functional.conv2d(
            x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )


def quantise(network: nn.Module, frames: Iterable[torch.Tensor]) -> nn.Module:
    """Return a copy of a network whose convolutions work on eight bits.

    Those of few channels do not, nor those whose input is sampled as finely as the frame: no later layer
    smooths what they are off by.

    Parameters
    ----------
    network
        In float32 on the CPU, its batch norms folded.
    frames
        Inputs (n, 1, rows, columns) like those it will see, to measure the range of every layer's input on.

    Raises
    ------
    ValueError
        For no frames.
    """
    quantised = copy.deepcopy(network).eval()
    convs = {
        name: module
        for name, module in quantised.named_modules()
        if isinstance(module, nn.Conv2d) and min(module.in_channels, module.out_channels) >= _THIN
    }
    ranges: dict[str, tuple[float, float]] = {}
    finest: tuple[int, ...] = ()

    def widen(name: str, x: torch.Tensor) -> None:
        if x.shape[-2:] != finest:
            low, high = ranges.get(name, (0.0, _SMALLEST_RANGE))
            ranges[name] = min(low, float(x.min())), max(high, float(x.max()))

    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: widen(name, args[0]))
        for name, module in convs.items()
    ]
    n_frames = 0
    with torch.inference_mode():
        for frame in frames:
            finest = frame.shape[-2:]
            quantised(frame)
            n_frames += 1
    for hook in hooks:
        hook.remove()
    if n_frames == 0:
        raise ValueError("no frames to measure the ranges of an eight-bit network on")
    for name, (low, high) in ranges.items():
        parent, _, child = name.rpartition(".")
        setattr(quantised.get_submodule(parent), child, EightBitConv(convs[name], low, high))
    return quantised


def iter_typical_inputs(recipe: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    """Yield simulated frames (1, 1, rows, columns), scaled by a recipe, that span what a network may see.

    Every material at low and high dose, and a field of nothing but extremes: an opaque disc, a hole three
    times as bright as the film.
    """
    rows, cols = _FRAME_SHAPE
    row, col = np.mgrid[:rows, :cols]
    extremes = np.where(np.hypot(row - rows / 2, col - cols / 4) < rows / 4, 0.0, 1.0)
    extremes[:, -cols // 4 :] = 3.0
    for seed, material in enumerate((*MATERIALS, None)):
        transmission = extremes
        if material is not None:
            transmission = render(draw_specimen(material, _FIELD_NM, seed), _FRAME_SHAPE).transmission
        for dose_e_per_px in _DOSES_E_PER_PX:
            counts = expose(dose_e_per_px * transmission, MEASURED, seed)
            yield torch.from_numpy(measure_scaling(recipe, counts).normalise(counts)[None, None])
