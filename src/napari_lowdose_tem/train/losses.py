"""What training makes small: distances between output and reference, per pixel the reference knows."""

from __future__ import annotations

from collections.abc import Callable

import torch

_SMALLEST = 1e-6  # mean square of a background no dose resolves, so that empty film does not rule the sum


def mean_absolute(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of |output - target| (Katsuno et al. 2021, Eq. 1), both (n, 1, rows, columns)."""
    return torch.nanmean((output - target).abs())


def log_mean_square(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over frames of ½·ln(mean square error): all frames count alike, faint specimens too.

    Up to sign and offset the mean PSNR with a fixed peak; scaled to gradients like those of `mean_absolute`.
    """
    square = torch.nanmean((output - target).square(), dim=(1, 2, 3))
    return 0.01 * torch.log(square + _SMALLEST).mean()


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l1": mean_absolute,
    "log-mse": log_mean_square,
}
