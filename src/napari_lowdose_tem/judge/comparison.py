"""How far a frame lies off its reference, in the numbers of Table 2 of Katsuno et al. 2021."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.judge.metrics import fit_affine, mae, psnr, scale_to_level, ssim

_LEAST_PX = 7  # SSIM's windows


@dataclass(frozen=True)
class Comparison:
    """Errors of a frame in units of the reference's range; PSNR [dB].

    Parameters
    ----------
    n_px
        Pixels compared: those that are finite in both.
    mae, psnr
        With the frame's mean brought to the reference's.
    ssim
        After the affine fit; None where it was not asked for, and for regions less than 7 px wide.
    affine_mae, affine_psnr
        After fitting the frame to the reference by a least-squares line.
    slope, offset
        That line: reference ≈ slope · frame + offset, in the units of both.
    """

    n_px: int
    mae: float
    psnr: float
    ssim: float | None
    affine_mae: float
    affine_psnr: float
    slope: float
    offset: float


def compare_frames(
    image: npt.ArrayLike,
    reference: npt.ArrayLike,
    region: tuple[slice, slice] | None = None,
    *,
    with_ssim: bool = True,
) -> Comparison:
    """Compare a frame with its reference, both (rows, columns) on one grid.

    The numbers are those of `evaluate`: the reference scaled to 0…1 by its extremes, the frame with it. Scale
    and line are always those of the whole frame, so that regions of one frame can be compared.

    Parameters
    ----------
    image, reference
        Each in its own unit with the same zero, as counts of different doses are; NaN is left out.
    region
        Rows and columns the errors are taken over; None for all.
    with_ssim
        SSIM takes longer than all the rest.

    Raises
    ------
    ValueError
        For different shapes, a region or frames without a pixel that is finite in both, and a reference
        without contrast.
    """
    raw = np.asarray(image, np.float64)
    level, target = scale_to_level(raw, reference)
    span = _span(reference, target)
    slope, offset = fit_affine(raw, target)
    matched = slope * raw + offset
    if region is not None:
        level, target, matched = level[region], target[region], matched[region]
    n_px = int(np.count_nonzero(np.isfinite(level) & np.isfinite(target)))
    if n_px == 0:
        raise ValueError(f"region {_describe(region)} holds no pixel that is finite in both; move it")
    return Comparison(
        n_px=n_px,
        mae=mae(level, target),
        psnr=psnr(level, target, 1.0),
        ssim=_measure_ssim(matched, target) if with_ssim else None,
        affine_mae=mae(matched, target),
        affine_psnr=psnr(matched, target, 1.0),
        slope=slope * span[1],
        offset=offset * span[1] + span[0],
    )


def _span(reference: npt.ArrayLike, target: npt.NDArray[Any]) -> tuple[float, float]:
    """Lowest value and range of the reference, where it was compared."""
    known = np.asarray(reference, np.float64)[np.isfinite(target)]
    low, high = float(known.min()), float(known.max())
    if not high > low:
        raise ValueError("all pixels of the reference are equal; a reference needs contrast")
    return low, high - low


def _measure_ssim(image: npt.NDArray[Any], target: npt.NDArray[Any]) -> float | None:
    if min(target.shape) < _LEAST_PX:
        return None
    try:
        return ssim(image, target, 1.0)
    except ValueError:
        return None  # no window of finite pixels


def _describe(region: tuple[slice, slice] | None) -> str:
    if region is None:
        return "of all pixels"
    return " × ".join(f"{part.start or 0}:{'' if part.stop is None else part.stop}" for part in region)
