"""Find particles by one fixed rule.

The rule: the frame is divided by its background (the third quartile of what lies around, as a smooth field),
and dark blobs are the maxima over place and size of the scale-normalised Laplacian of Gaussian (Lindeberg
1998). A blob counts as a particle when it is at least 5 % of the background deep, 4 times deeper than the
frame's own robust scatter at its size, no ridge such as the rim of a hole, and centred within the frame. In
an enhanced frame it must also stand out of the noise of the counts it was made from, by 4 times their own
robust scatter at its size: among thousands of places and sizes, fluctuations of 3 are met in every frame,
and an enhancement draws some of them like particles. Nothing is tuned per frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from napari_lowdose_tem.image import F32

# What `studies/reliability.py` measures with these numbers is in docs/reliability.md.
LEAST_DEPTH = 0.05
"""Depth 1 − T from which a blob is a particle; SiC and alumina, the faintest materials, reach about 0.1."""

LEAST_SIGNIFICANCE = 4.0
"""Standard deviations of the noise from which the counts support a particle.

Chosen on bare films, other ones than those of docs/reliability.md: 0.02 particles are then invented a frame.
"""

_DIAMETER_NM = (20.0, 250.0)  # sought; the simulated materials have 30 to 220 nm
_DIAMETER_PX = (4.0, 80.0)  # the same without calibration; the lower bound holds for all
_LEAST_SCATTERS = 4.0  # robust standard deviations of the response at one size
_MOST_ELONGATED = 4.0  # ratio of the curvatures of the response along its axes: 1 for a disc, more for a rim
_SCALE_STEP = 2 ** (1 / 3)  # from one size to the next
# A sphere of T_min 0.6 answers most at σ = 0.31 of its diameter, with 0.65 of its depth.
_SIGMA_PER_DIAMETER = 0.31
_RESPONSE_PER_DEPTH = 0.65
_CLOSEST = 0.4  # of the sum of two radii; what lies nearer is one particle seen at two sizes
_BLOCK_PX = 8  # side of the blocks whose means make the background


@dataclass(frozen=True)
class Detection:
    """A particle found: its centre, diameter [px] and depth 1 − T at its centre.

    `significance` is how far it stands out of the noise of the counts [standard deviations], if given.
    """

    row_px: float
    col_px: float
    diameter_px: float
    depth: float
    significance: float | None = None


def find_particles(
    image: npt.ArrayLike,
    pixel_size_nm: float | None = None,
    least_depth: float = LEAST_DEPTH,
    counts: npt.ArrayLike | None = None,
) -> list[Detection]:
    """Find dark particles in an enhanced or a high-dose frame.

    Parameters
    ----------
    image
        Frame (rows, columns) in counts or transmission, without offset. Pixels that are not finite are
        background; nothing is found where the background is not positive.
    pixel_size_nm
        Sampling [nm/px]: particles of 20–250 nm are sought, of 4–80 px without it.
    least_depth
        Depth 1 − T below which a blob is left out.
    counts
        The low-dose frame that an enhanced frame was made from: what it does not support is left out.

    Returns
    -------
    Detections, the deepest first.

    Raises
    ------
    ValueError
        For anything but a frame, and for counts of another shape.
    """
    pixels = np.asarray(image, np.float32)
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise ValueError(f"particles are found in one frame (rows, columns), got shape {pixels.shape}")
    if counts is not None and np.shape(counts) != pixels.shape:
        raise ValueError(f"counts of {np.shape(counts)} px for an enhanced frame of {pixels.shape} px")
    depth = 1 - divide_by_background(pixels)
    sigmas = _list_sigmas(pixels.shape, pixel_size_nm)
    response = np.empty((len(sigmas), *depth.shape), np.float32)
    for index, filtered in enumerate(_iter_responses(depth, sigmas)):
        response[index] = filtered
    floor = _LEAST_SCATTERS * np.median(np.abs(response), axis=(1, 2)) / 0.6745
    floor = np.maximum(floor, least_depth * _RESPONSE_PER_DEPTH)
    top = response == ndimage.maximum_filter(response, size=3, mode="nearest")
    # the outermost sizes belong to what is smaller or larger than sought
    top[[0, -1]] = False
    # a maximum on the frame's rim is centred beyond it, or the rim of a hole that leaves the frame
    top[:, [0, -1]] = False
    top[..., [0, -1]] = False
    places = [
        (int(k), int(row), int(col))
        for k, row, col in np.argwhere(top & (response > floor[:, None, None]))
        if _is_blob(response[k], sigmas[k], int(row), int(col))
    ]
    found = [_describe(response, sigmas, place) for place in places]
    if counts is not None:
        known = zip(found, _measure_significance(np.asarray(counts, np.float32), sigmas, places), strict=True)
        found = [replace(d, significance=s) for d, s in known if s >= LEAST_SIGNIFICANCE]
    return _drop_doubles(sorted(found, key=lambda d: -d.depth))


def divide_by_background(image: npt.ArrayLike) -> F32:
    """Return the transmission of a frame (rows, columns): itself over its slowly varying background.

    The background is the third quartile of blocks of 8 px over a window of a quarter of the frame, smoothed.
    """
    pixels = np.asarray(image, np.float32)
    finite = np.isfinite(pixels)
    pixels = np.where(finite, pixels, np.nan)
    level = float(np.nanpercentile(pixels, 75)) if finite.any() else 0.0
    pixels = np.where(finite, pixels, level)
    blocks = _block_mean(pixels, _BLOCK_PX)
    window = [max(3, n // 4) | 1 for n in blocks.shape]
    slow = ndimage.percentile_filter(blocks, 75, size=window, mode="reflect")
    slow = ndimage.gaussian_filter(slow, [w / 4 for w in window], mode="reflect")
    zoom = [n / m for n, m in zip(pixels.shape, slow.shape, strict=True)]
    background = ndimage.zoom(slow, zoom, order=1, mode="nearest", grid_mode=True)
    transmission = np.ones_like(pixels)
    np.divide(pixels, background, out=transmission, where=finite & (background > 0))
    return transmission


def _block_mean(pixels: F32, side: int) -> F32:
    pad = [(0, -n % side) for n in pixels.shape]
    padded = np.pad(pixels, pad, mode="symmetric" if min(pixels.shape) >= side else "edge")
    rows, cols = (n // side for n in padded.shape)
    return np.asarray(padded.reshape(rows, side, cols, side).mean((1, 3)))


def _list_sigmas(shape: tuple[int, ...], pixel_size_nm: float | None) -> list[float]:
    low, high = _DIAMETER_PX
    if pixel_size_nm is not None:
        low, high = max(low, _DIAMETER_NM[0] / pixel_size_nm), _DIAMETER_NM[1] / pixel_size_nm
    high = max(low, min(high, min(shape) / 2))
    count = math.ceil(math.log(high / low) / math.log(_SCALE_STEP)) + 1
    # one more at both ends, so that the ends can be maxima
    return [low * _SIGMA_PER_DIAMETER * _SCALE_STEP**i for i in range(-1, count + 1)]


def _iter_responses(depth: F32, sigmas: Sequence[float]) -> Iterable[F32]:
    """Scale-normalised Laplacian of Gaussian, positive at dark blobs, for each σ [px]."""
    reach = math.ceil(3 * max(sigmas))
    pad = [(reach, fft.next_fast_len(n + 2 * reach, real=True) - n - reach) for n in depth.shape]
    padded = np.pad(depth, pad, mode="symmetric")
    spectrum = fft.rfft2(padded)
    rows = (2 * np.pi * fft.fftfreq(padded.shape[0])[:, None]) ** 2
    cols = (2 * np.pi * fft.rfftfreq(padded.shape[1])[None, :]) ** 2
    k2 = (rows + cols).astype(np.float32)
    for sigma in sigmas:
        filtered = fft.irfft2(spectrum * (k2 * sigma**2 * np.exp(-k2 * sigma**2 / 2)), s=padded.shape)
        yield filtered[reach : reach + depth.shape[0], reach : reach + depth.shape[1]]


def _measure_significance(
    counts: F32, sigmas: Sequence[float], places: Sequence[tuple[int, int, int]]
) -> list[float]:
    """Response of the counts at (size, row, column) over their robust scatter at that size."""
    known: dict[tuple[int, int, int], float] = {}
    for k, filtered in enumerate(_iter_responses(1 - divide_by_background(counts), sigmas)):
        scatter = float(np.median(np.abs(filtered))) / 0.6745
        for place in places:
            if place[0] == k:
                known[place] = float(filtered[place[1:]]) / scatter if scatter > 0 else math.inf
    return [known[place] for place in places]


def _is_blob(response: F32, sigma: float, row: int, col: int) -> bool:
    """Whether the response falls off to all sides alike, over a distance of σ."""
    step = max(1, round(sigma))
    rows, cols = response.shape
    around = np.ix_(
        np.clip((row - step, row, row + step), 0, rows - 1),
        np.clip((col - step, col, col + step), 0, cols - 1),
    )
    (a, b, c), (d, e, f), (g, h, i) = response[around]
    hessian = np.array([[b - 2 * e + h, (a - c - g + i) / 4], [0, d - 2 * e + f]])
    flat, steep = np.linalg.eigvalsh(hessian, UPLO="U")[::-1]
    return bool(steep < 0 and flat < steep / _MOST_ELONGATED)


def _describe(response: F32, sigmas: Sequence[float], at: tuple[int, int, int]) -> Detection:
    """Refine place, size and height of a maximum by parabolas through its neighbours."""
    offsets, height = [], float(response[at])
    for axis, i in enumerate(at):
        before, after = (
            float(response[*at[:axis], min(max(j, 0), response.shape[axis] - 1), *at[axis + 1 :]])
            for j in (i - 1, i + 1)
        )
        bend = before - 2 * float(response[at]) + after
        offset = 0.5 * (before - after) / bend if bend < 0 else 0.0
        offsets.append(max(-0.5, min(0.5, offset)))
        height -= 0.25 * (before - after) * offsets[-1]
    sigma = sigmas[at[0]] * _SCALE_STEP ** offsets[0]
    return Detection(
        row_px=at[1] + offsets[1],
        col_px=at[2] + offsets[2],
        diameter_px=sigma / _SIGMA_PER_DIAMETER,
        depth=height / _RESPONSE_PER_DEPTH,
    )


def _drop_doubles(found: Sequence[Detection]) -> list[Detection]:
    kept: list[Detection] = []
    for new in found:
        if not any(_is_part(new, old) for old in kept):
            kept.append(new)
    return kept


def _is_part(new: Detection, old: Detection) -> bool:
    """Whether `new` is the deeper `old` at another size, or a bump within its disc."""
    distance = math.hypot(new.row_px - old.row_px, new.col_px - old.col_px)
    reach = _CLOSEST * (new.diameter_px + old.diameter_px) / 2
    return distance <= (max(reach, old.diameter_px / 2) if new.diameter_px < old.diameter_px else reach)
