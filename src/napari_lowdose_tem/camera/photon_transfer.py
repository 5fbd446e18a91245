"""Photon transfer: gain, read noise and dose from repeated frames of one field (Janesick 2007)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.camera.level import measure_level
from napari_lowdose_tem.image import F64, Image

_BLOCK_PX = 4  # shared light reaches about a pixel far
_WINDOW_PX = 16
_MOST_PAIRS = 16
_OUTLIER = 6.0  # standard deviations
_LARGEST_SE = 0.25  # of the gain; beyond, the line says nothing about it
_NO_EXCESS = (
    "every electron gives the same signal: excess noise is not separated from the gain, "
    "so the gain is an upper and the dose (in effective quanta) a lower bound"
)


@dataclass(frozen=True)
class TransferFit:
    """Line variance = gain · mean + (gain · read noise)², through windows of the image.

    Parameters
    ----------
    block_px
        Side of the blocks averaged before the variance was taken [px], 1 for none; the variance is scaled to
        one pixel, so that without correlated noise every size gives the same line.
    gain, gain_se
        Slope and its standard error [counts/e-].
    offset
        Variance at no signal [counts²].
    ratio
        Variance over mean [counts/e-]: the slope if there were no read noise.
    """

    block_px: int
    gain: float
    gain_se: float
    offset: float
    ratio: float


@dataclass(frozen=True)
class PhotonTransfer:
    """Result of `photon_transfer`.

    Parameters
    ----------
    gain_counts_per_e, gain_se
        The gain used [counts/e-], and its standard error where it was fitted.
    read_noise_e
        Noise of a pixel without signal [e- r.m.s.]; None where contrast is too low or clipping hides it.
    dose_e_per_px
        Mean of the frames over the gain [e-/px].
    excess
        Variance over mean, in units of a known gain: 1 for an ideal camera, the inverse of the DQE at zero
        frequency for a real one. None without a known gain.
    method
        Where the gain comes from: "given", "pixels", "blocks" or "ratio".
    assumption
        What has to hold for the dose to be right, in words.
    zero_share
        Share of pixels that are exactly 0.
    pixels, blocks
        Fits to pixels and to block averages; the difference shows correlated noise.
    """

    gain_counts_per_e: float
    gain_se: float | None
    read_noise_e: float | None
    dose_e_per_px: float
    excess: float | None
    method: str
    assumption: str
    zero_share: float
    pixels: TransferFit
    blocks: TransferFit


def photon_transfer(
    frames: Image | npt.NDArray[Any],
    second: Image | npt.NDArray[Any] | None = None,
    *,
    counts_per_electron: float | None = None,
) -> PhotonTransfer:
    """Measure gain, read noise and dose from the difference of repeated frames.

    var(A - B)/2 is compared with the mean over local windows. Where pixels share their light, or streaks run
    through them, single pixels mislead; then the fit to 4 × 4 block averages is used.

    Parameters
    ----------
    frames
        A stack (frames, rows, columns) of one still field, dark-subtracted [counts], or its first frame.
    second
        The second frame where `frames` is a single one.
    counts_per_electron
        Gain, when known [counts/e-]; by default the one the image carries. The dose then is mean over gain.

    Raises
    ------
    ValueError
        For one frame, frames of different shape or identical ones, less than 64 × 64 px, or no signal.
    """
    if counts_per_electron is None and isinstance(frames, Image):
        counts_per_electron = frames.counts_per_electron
    if counts_per_electron is not None and not counts_per_electron > 0:
        raise ValueError(f"gain {counts_per_electron} counts/e- is not positive; leave it out if unknown")
    pairs = _pairs(frames, second)
    mean = float(np.mean([measure_level(pair[np.isfinite(pair)]) for pair in pairs]))
    if not mean > 0:
        raise ValueError(f"mean of {mean:.4g} counts: no signal; subtract the dark level, not more")
    pixels, blocks = _fit_windows(pairs, 1), _fit_windows(pairs, _BLOCK_PX)
    # the ratios tell correlated noise far more sharply than the slopes
    n_blocks = sum(pair[0].size for pair in pairs) / _BLOCK_PX**2
    correlated = abs(blocks.ratio / pixels.ratio - 1) > 4 * math.sqrt(2 / n_blocks)
    method, fit = ("blocks", blocks) if correlated else ("pixels", pixels)
    separated = fit.gain > 0 and fit.gain_se < _LARGEST_SE * fit.gain
    gain, gain_se = (fit.gain, fit.gain_se) if separated else (blocks.ratio, None)
    if not separated:
        method = "ratio"
    if counts_per_electron is not None:
        gain, gain_se, method = float(counts_per_electron), None, "given"
    zeros, clipped = _clipping(pairs, mean)
    return PhotonTransfer(
        gain_counts_per_e=gain,
        gain_se=gain_se,
        read_noise_e=float(np.sqrt(max(pixels.offset, 0.0))) / gain if separated and not clipped else None,
        dose_e_per_px=mean / gain,
        excess=blocks.ratio / gain if method == "given" else None,
        method=method,
        assumption=_assumption(method, zeros if clipped else 0.0),
        zero_share=zeros,
        pixels=pixels,
        blocks=blocks,
    )


def _pairs(frames: Image | npt.NDArray[Any], second: Image | npt.NDArray[Any] | None) -> list[F64]:
    """Read pairs of successive frames, each (2, rows, columns), spread over the stack."""
    first = frames if isinstance(frames, Image) else Image(np.asarray(frames))
    if second is not None:
        other = second if isinstance(second, Image) else Image(np.asarray(second))
        if first.n_frames != 1 or first.frame_shape != other.frame_shape or other.n_frames != 1:
            raise ValueError(
                f"frames of {first.data.shape} and {other.data.shape} px; needs two of one shape, or a stack"
            )
        pairs = [np.concatenate([first.frames(0, 1), other.frames(0, 1)])]
    elif first.n_frames < 2:
        raise ValueError("one frame; photon transfer needs two frames of the same field, or a stack")
    else:
        starts = np.unique(
            np.linspace(0, first.n_frames - 2, min(first.n_frames // 2, _MOST_PAIRS)).astype(int)
        )
        pairs = [first.frames(start, start + 2) for start in starts.tolist()]
    rows, cols = first.frame_shape
    if min(rows, cols) < 4 * _WINDOW_PX:
        raise ValueError(f"frames of {rows} × {cols} px; photon transfer needs {4 * _WINDOW_PX} px a side")
    # whole windows only, and an X-ray or a dead pixel spoils its own
    pairs = [
        np.asarray(p[:, : rows - rows % _WINDOW_PX, : cols - cols % _WINDOW_PX], np.float64) for p in pairs
    ]
    if any(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
        raise ValueError("frames are identical: copies of one exposure; photon transfer needs two exposures")
    return pairs


def _fit_windows(pairs: list[F64], block_px: int) -> TransferFit:
    """Fit the line with each half of a window's rows as the instrument of the other.

    Mean and variance of the same pixels err together (skewed noise), and an error in the mean flattens an
    ordinary line; those of different rows err apart.
    """
    windows = [_windows(pair, block_px) for pair in pairs]
    mean, variance = (np.concatenate(part) for part in zip(*windows, strict=True))
    keep = finite = np.isfinite(mean + variance).all(axis=1)
    for _ in range(3):  # again without windows where something moved or an X-ray hit
        m, v = mean[keep], variance[keep]
        m0, v0 = m.mean(), v.mean()
        products = (m[:, 0] - m0) * (v[:, 1] - v0) + (m[:, 1] - m0) * (v[:, 0] - v0)
        contrast = 2 * (m[:, 0] - m0) * (m[:, 1] - m0)
        if not contrast.sum() > 0:
            return TransferFit(block_px, math.nan, math.inf, math.nan, float(v0 / m0))
        gain = products.sum() / contrast.sum()
        gain_se = np.sqrt(np.sum((products - gain * contrast) ** 2)) / contrast.sum()
        residual = variance.mean(axis=1) - (v0 + gain * (mean.mean(axis=1) - m0))
        residual -= np.median(residual[keep])
        keep = finite & (np.abs(residual) <= _OUTLIER * 1.4826 * np.median(np.abs(residual[keep])))
    return TransferFit(block_px, float(gain), float(gain_se), float(v0 - gain * m0), float(v0 / m0))


def _windows(pair: F64, block_px: int) -> tuple[F64, F64]:
    """Mean and half the variance of A - B in windows, each (windows, even and odd rows of blocks)."""
    _, rows, cols = pair.shape
    a, b = pair.reshape(2, rows // block_px, block_px, cols // block_px, block_px).mean(axis=(2, 4))
    half = (a - b - np.nanmean(a - b)) ** 2 / 2 * block_px**2
    side = _WINDOW_PX // block_px

    def halves(values: F64) -> F64:
        shape = values.shape[0] // side, side // 2, 2, values.shape[1] // side, side
        return np.asarray(values.reshape(shape).mean(axis=(1, 4)).transpose(0, 2, 1).reshape(-1, 2))

    return halves((a + b) / 2), halves(half)


def _clipping(pairs: list[F64], mean: float) -> tuple[float, bool]:
    """Share of zeros, and whether noise was cut off there: more zeros than values just above, but some."""
    values = np.concatenate([pair.ravel() for pair in pairs])
    zeros = float(np.mean(values == 0))
    above = float(np.mean((values > 0) & (values <= 0.1 * mean)))
    return zeros, bool(np.nanmin(values) >= 0 and zeros > above > 0)


def _assumption(method: str, clipped_share: float) -> str:
    said = {
        "given": "dose is mean counts over the gain given",
        "pixels": _NO_EXCESS,
        "blocks": f"{_NO_EXCESS}; neighbouring pixels share noise, so block averages were used",
        "ratio": f"{_NO_EXCESS}; too little contrast to separate read noise, which counts as signal here",
    }[method]
    if clipped_share:
        said += (
            f"; {clipped_share:.1%} of the pixels are clipped at 0, which raises the mean, "
            "lowers the variance and hides the read noise"
        )
    return said
