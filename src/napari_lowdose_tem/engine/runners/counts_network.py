"""A network fed counts, which it scales where it runs, giving counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from napari_lowdose_tem.network.scaling import Scaling

N_NUMBERS = 6
"""Numbers of a scaling."""


def list_numbers(scalings: Sequence[Scaling]) -> npt.NDArray[np.float32]:
    """Return scalings as rows of six numbers, shape (n, 6)."""
    rows = [(s.offset, s.scale, s.low, s.high, s.output_scale, s.output_offset) for s in scalings]
    return np.array(rows, np.float32).reshape(-1, N_NUMBERS)


class CountsNetwork(nn.Module):
    """A network between `Scaling.normalise` and `Scaling.to_counts`, the same arithmetic in torch.

    The network is on its device, channels last; `dtype` is the number format of its input.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype

    def forward(self, counts: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Enhance counts (n, rows, columns) with the numbers (n, 6) of their scalings; float32 counts."""
        offset, scale, low, high, output_scale, output_offset = numbers[:, :, None, None].unbind(1)
        # divided by a tensor: by a number torch would multiply with its inverse, which is not the same
        scaled = (counts.to(torch.float32) - offset) / scale
        if counts.is_floating_point():
            scaled = scaled.nan_to_num(nan=1.0)  # dead pixels; infinite ones are clipped like all others
        scaled = scaled.clamp(low, high).to(self.dtype)
        output: torch.Tensor = self.network(scaled[..., None].permute(0, 3, 1, 2))
        return output[:, 0].to(torch.float32) * output_scale + output_offset


class FastDoubling(TorchFunctionMode):
    """Within it nearest-neighbour interpolation to twice the size copies eight bytes at a time.

    With channels last, torch's own kernel computes four indices for every two bytes it copies, which costs
    several times what the copying does. The result is the same bit for bit.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, or `double` instead."""
        kwargs = kwargs or {}
        if func is functional.interpolate and _is_doubling(*args, **kwargs):
            return double(args[0])
        return func(*args, **kwargs)


def _is_doubling(
    x: torch.Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *_: Any, **__: Any
) -> bool:
    if mode != "nearest" or x.ndim != 4:
        return False
    if scale_factor is not None:
        return bool(scale_factor == 2)
    return size is not None and tuple(size) == (2 * x.shape[2], 2 * x.shape[3])


def double(x: torch.Tensor) -> torch.Tensor:
    """Repeat every pixel of (n, channels, rows, columns) twice along both sides; channels last."""
    n, channels, rows, cols = x.shape
    pixels = x.permute(0, 2, 3, 1).contiguous()
    if channels * x.element_size() % 8 == 0:
        pixels = pixels.view(torch.int64)
    wide = pixels[:, :, None, :, None].expand(-1, -1, 2, -1, 2, -1)
    doubled = wide.reshape(n, 2 * rows, 2 * cols, pixels.shape[-1]).view(x.dtype)
    return doubled.permute(0, 3, 1, 2)
