"""The networks a model file can name, built from the plain arguments stored in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from napari_lowdose_tem.network.import_without import importing_without


class _Residual(nn.Module):
    """Two 3×3 convolutions added to their input; no normalisation, so dose and contrast pass unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.second(functional.relu(self.first(functional.relu(x))))
        return result


class LightUNet(nn.Module):
    """Residual U-Net on 2×2 blocks of pixels: a quarter of the arithmetic of the ResNet-18 U-Net.

    Parameters
    ----------
    channels
        Width from the finest level (half the input's sampling) to the coarsest.
    blocks
        Residual blocks at each level, on the way down and on the way up.
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 64, 96, 128), blocks: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(_stage(c, blocks) for c in channels[:-1])
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in itertools.pairwise(channels)
        )
        self.bottom = _stage(channels[-1], 2 * blocks)
        self.up = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in itertools.pairwise(channels))
        self.decoder = nn.ModuleList(_stage(c, blocks) for c in channels[:-1])
        self.head = nn.Conv2d(channels[0], 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, 1, rows, columns), multiples of 32, to the same shape."""
        x = self.stem(functional.pixel_unshuffle(x, 2))
        skips = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            x = stage(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for stage, up, skip in zip(reversed(self.decoder), reversed(self.up), reversed(skips), strict=True):
            x = stage(skip + functional.interpolate(up(x), scale_factor=2.0, mode="nearest"))
        return functional.pixel_shuffle(_in_float32(self.head, functional.relu(x)), 2)


def _stage(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(channels) for _ in range(blocks)))


def _in_float32(head: nn.Module, x: torch.Tensor) -> torch.Tensor:
    # bfloat16 has steps of 0.8 % near the background level, too coarse for a background that should be smooth
    with torch.autocast(x.device.type, enabled=False):
        result: torch.Tensor = head(x.to(next(head.parameters()).dtype))
    return result


def _smp_unet(encoder: str = "resnet18") -> nn.Module:
    """Return the paper's network: a U-Net with a ResNet encoder, one channel in and out."""
    # its import would bring Triton, whose LLVM crashes beside the one of Mesa, with which napari may draw
    try:
        with importing_without("triton"):
            import segmentation_models_pytorch as smp
    except RuntimeError as err:
        if "torchvision::nms" not in str(err):
            raise
        raise ImportError(
            "torch and torchvision are of different builds, so segmentation-models-pytorch "
            "cannot be imported; install both anew: pip install --force-reinstall torch torchvision"
        ) from err

    class PaperUNet(smp.Unet):  # type: ignore[misc]
        @property
        def head(self) -> nn.Module:
            return self.segmentation_head  # type: ignore[no-any-return]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return _in_float32(self.segmentation_head, self.decoder(self.encoder(x)))

    return PaperUNet(encoder, encoder_weights=None, in_channels=1, classes=1)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"smp-unet": _smp_unet, "light-unet": LightUNet}
STRIDE = 32
"""Both networks halve the image five times."""


def build_network(architecture: dict[str, Any]) -> nn.Module:
    """Build the network `{"name": …, **arguments}` with random weights.

    Raises
    ------
    ValueError
        For a name or arguments this version does not know.
    """
    arguments = dict(architecture)
    name = str(arguments.pop("name", None))
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {name!r}; this version knows {', '.join(ARCHITECTURES)}")
    try:
        return ARCHITECTURES[name](**arguments)
    except (TypeError, KeyError, ValueError, RuntimeError) as err:
        raise ValueError(f"architecture {name!r} does not take {arguments}: {err}") from err
