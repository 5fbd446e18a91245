"""What training makes small: distances between output and reference, per pixel the reference knows."""

from __future__ import annotations

from collections.abc import Callable

import torch

_BARE = 0.9  # of its mean that a frame without particles is at least
_FAINT_DIP = 0.03  # deeper ones than this are drawn for particles
_DIPS_COUNT = 2.0
_SMALLEST = 1e-6  # mean square of a background no dose resolves, so that empty film does not rule the sum


def mean_absolute(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of |output - target| (Katsuno et al. 2021, Eq. 1), both (n, 1, rows, columns)."""
    off, known = _compare(output, target)
    return off.abs().sum() / known.sum()


def log_mean_square(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over frames of ½·ln(mean square error): all frames count alike, faint specimens too.

    Up to sign and offset the mean PSNR with a fixed peak; scaled to gradients like those of `mean_absolute`.
    """
    off, known = _compare(output, target)
    square = off.square().sum((1, 2, 3)) / known.sum((1, 2, 3))
    return 0.01 * torch.log(square + _SMALLEST).mean()


def root_mean_square(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over frames of the root of the mean square error.

    Between `log_mean_square`, which gives up what it finds hard, and the mean square, which sees little else.
    """
    off, known = _compare(output, target)
    square = off.square().sum((1, 2, 3)) / known.sum((1, 2, 3))
    return (square + _SMALLEST).sqrt().mean()


def root_mean_square_and_spots(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """`root_mean_square`, and the same of dark spots drawn on frames that show bare film.

    What may be a particle of one in ten such frames is worth a faint smudge in each of them to a mean square.
    A user would rather have the film bare.
    """
    off, known = _compare(output, target)
    level = torch.nan_to_num(target).sum((1, 2, 3)) / known.sum((1, 2, 3))
    bare = torch.nan_to_num(target, nan=torch.inf).amin((1, 2, 3)) >= _BARE * level
    dips = (-off - _FAINT_DIP).clamp(min=0).square().sum((1, 2, 3)) / known.sum((1, 2, 3))
    depth = (dips + _SMALLEST).sqrt() - _SMALLEST**0.5
    spots: torch.Tensor = (bare * depth).mean()
    return root_mean_square(output, target) + _DIPS_COUNT * spots


def _compare(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the difference, 0 where the target is NaN, and where it is not."""
    known = target.isfinite()
    # not nanmean: its gradients are NaN where the target is
    return torch.where(known, output - torch.nan_to_num(target), 0.0), known


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l1": mean_absolute,
    "log-mse": log_mean_square,
    "rms": root_mean_square,
    "rms-spots": root_mean_square_and_spots,
}
