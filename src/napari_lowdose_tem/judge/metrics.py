"""Image quality against a reference.

MAE and PSNR follow Katsuno et al. 2021, Eq. 1 and Table 2, where both images are first scaled to 0…1
(`scale_to_unit`). That scaling hangs on each image's two extreme pixels; `fit_affine` removes the dependence
and leaves what is wrong with the image itself. Pixels that are not finite in either image are left out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64

_SSIM_WINDOW_PX = 7


def mae(image: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Mean absolute error Σ|A − B| / N (Katsuno et al. 2021, Eq. 1).

    Parameters
    ----------
    image, reference
        Arrays of one shape and one unit.

    Returns
    -------
    float
        In that unit.

    Raises
    ------
    ValueError
        For different shapes, and without a pixel that is finite in both.
    """
    a, b = _paired(image, reference)
    return float(np.abs(a - b).mean())


def psnr(image: npt.ArrayLike, reference: npt.ArrayLike, data_range: float | None = None) -> float:
    """Peak signal-to-noise ratio 10 log₁₀(data_range² / mean (A − B)²) [dB].

    Parameters
    ----------
    image, reference
        Arrays of one shape and one unit.
    data_range
        Peak in that unit: 1 for images scaled to 0…1 (Katsuno et al. 2021, Table 2); None for the
        reference's maximum − minimum.

    Returns
    -------
    float
        Infinite for equal images.

    Raises
    ------
    ValueError
        For different shapes, no finite pixels, or a peak that is not positive (a constant reference).
    """
    a, b = _paired(image, reference)
    peak = _peak(b, data_range)
    error = float(np.mean((a - b) ** 2))
    return 10 * math.log10(peak**2 / error) if error > 0 else math.inf


def ssim(image: npt.ArrayLike, reference: npt.ArrayLike, data_range: float | None = None) -> float:
    """Mean structural similarity (Wang et al. 2004) over 7 × 7 windows.

    Parameters
    ----------
    image, reference
        Frames (rows, columns) of one shape and one unit, at least 7 × 7 px.
    data_range
        As in `psnr`.

    Returns
    -------
    float
        1 for equal images. Windows holding a pixel that is not finite are left out.

    Raises
    ------
    ValueError
        As `psnr`, and for frames that are too small or without a window of finite pixels.
    """
    from scipy.ndimage import binary_erosion
    from skimage.metrics import structural_similarity

    a, b = np.asarray(image, np.float64), np.asarray(reference, np.float64)
    peak = _peak(_paired(a, b)[1], data_range)
    if a.ndim != 2 or min(a.shape) < _SSIM_WINDOW_PX:
        raise ValueError(
            f"SSIM needs frames of at least {_SSIM_WINDOW_PX} × {_SSIM_WINDOW_PX} px, got {a.shape}"
        )
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = np.where(finite, a, 0), np.where(finite, b, 0)
    _, similarity = structural_similarity(a, b, win_size=_SSIM_WINDOW_PX, data_range=peak, full=True)
    # windows that leave the frame are left out too, as skimage does
    whole = binary_erosion(finite, np.ones((_SSIM_WINDOW_PX, _SSIM_WINDOW_PX), bool))
    if not whole.any():
        raise ValueError(f"no {_SSIM_WINDOW_PX} × {_SSIM_WINDOW_PX} px window of finite pixels for SSIM")
    return float(similarity[whole].mean())


def scale_to_unit(image: npt.ArrayLike) -> F64:
    """Scale (x − min) / (max − min) to 0…1, as all images of Katsuno et al. 2021; 0 for a constant image."""
    pixels = np.asarray(image, np.float64)
    finite = pixels[np.isfinite(pixels)]
    if finite.size == 0:
        raise ValueError(f"no finite pixels in an image of shape {pixels.shape}")
    low, high = float(finite.min()), float(finite.max())
    return (pixels - low) / (high - low if high > low else 1.0)


def scale_to_level(image: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[F64, F64]:
    """Bring a reference to 0…1 by its extremes, and an image, its mean brought to the reference's, with it.

    Each is in its own unit with the same zero, as counts of different doses are. Without a mean above zero
    the image is stretched by its own extremes.

    Returns
    -------
    image, reference
        NaN where either is not finite.

    Raises
    ------
    ValueError
        As `mae`.
    """
    raw, target = np.asarray(image, np.float64), np.asarray(reference, np.float64)
    a, b = _paired(raw, target)
    if a.size < raw.size:
        covered = np.isfinite(raw) & np.isfinite(target)
        raw, target = (np.where(covered, pixels, np.nan) for pixels in (raw, target))
    low, high = float(b.min()), float(b.max())
    means = float(a.mean()), float(b.mean())
    if min(means) > 0 and high > low:
        return (raw * (means[1] / means[0]) - low) / (high - low), (target - low) / (high - low)
    return scale_to_unit(raw), scale_to_unit(target)


def fit_affine(image: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[float, float]:
    """Fit slope a and offset b that minimise Σ(a·image + b − reference)².

    Parameters
    ----------
    image, reference
        Arrays of one shape, each in its own unit.

    Returns
    -------
    slope, offset
        In reference units per image unit, and in reference units; slope 0 for a constant image.

    Raises
    ------
    ValueError
        For different shapes, and without a pixel that is finite in both.
    """
    a, b = _paired(image, reference)
    centred = a - a.mean()
    spread = float(centred @ centred)
    slope = float(centred @ (b - b.mean())) / spread if spread > 0 else 0.0
    return slope, float(b.mean() - slope * a.mean())


def match_affine(image: npt.ArrayLike, reference: npt.ArrayLike) -> F64:
    """Return `image` brought to the reference's scale by `fit_affine`."""
    slope, offset = fit_affine(image, reference)
    return slope * np.asarray(image, np.float64) + offset


def _paired(image: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the pixels finite in both, flat."""
    a, b = np.asarray(image, np.float64), np.asarray(reference, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"image has shape {a.shape}, its reference {b.shape}; bring both to one grid first")
    finite = np.isfinite(a) & np.isfinite(b)
    if finite.all():
        return a.ravel(), b.ravel()
    if not finite.any():
        raise ValueError(f"no pixel is finite in both images of shape {a.shape}")
    return a[finite], b[finite]


def _peak(reference: npt.NDArray[Any], data_range: float | None) -> float:
    peak = float(np.ptp(reference)) if data_range is None else data_range
    if not peak > 0:
        raise ValueError(f"data range {peak} is not positive; a constant reference needs one to be given")
    return peak
