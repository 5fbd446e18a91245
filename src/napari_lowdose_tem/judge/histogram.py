"""Histograms of frames, as Fig. 5 of Katsuno et al. 2021: how well particles are seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_lowdose_tem.image import F64

# No study chose these numbers; tests/judge/test_histogram.py shows two peaks where particles stand out, and
# one in a broad histogram.
_FINE_BINS = 200  # that peaks are sought in
_SMOOTH_BINS = 4.0  # σ of the smoothing before
_SHARE = (0.01, 99.99)  # percentiles that peaks lie between
_LEAST_DEPTH = 0.15  # of the valley between two peaks, in natural logarithms of the counts
_LEAST_ERRORS = 5.0  # the same in its standard errors
_LEAST_HEIGHT = 2e-3  # of the lower peak over the higher one
_OVERLAP_BINS = 256  # at least, that two histograms are compared in
_MOST_PX = 65_536  # pixels that peaks are sought among, for speed


@dataclass(frozen=True)
class Peak:
    """A peak of a histogram: its position and its width (standard deviation), and its share of the pixels."""

    position: float
    width: float
    share: float


@dataclass(frozen=True, eq=False)
class Histogram:
    """Numbers of pixels `counts` (n,) between `edges` (n + 1,), and the peaks, the most populated first."""

    edges: F64
    counts: npt.NDArray[np.int64]
    name: str = ""
    peaks: tuple[Peak, ...] = ()

    @property
    def centers(self) -> F64:
        """Middles of the bins (n,)."""
        return np.asarray((self.edges[:-1] + self.edges[1:]) / 2)

    @property
    def peak_separation(self) -> float | None:
        """Distance of background and particles over the root of the sum of their squared widths.

        None where there is one peak only: particles and background cannot be told apart by their grey.
        """
        if len(self.peaks) < 2:
            return None
        a, b = self.peaks[:2]
        width = math.hypot(a.width, b.width)
        return abs(a.position - b.position) / width if width > 0 else None


def make_histogram(
    pixels: npt.ArrayLike,
    bins: int = 256,
    scaled: bool = False,
    range: tuple[float, float] | None = None,
    name: str = "",
) -> Histogram:
    """Count pixels by their values.

    Parameters
    ----------
    pixels
        Frame of any shape; what is not finite is left out.
    bins
        Their number.
    scaled
        Whether values are first scaled to 0…1 by their extremes (Fig. 5 b–d), or counted as they are (a).
    range
        Lowest and highest value counted; None for the extremes.
    name
        Of the frame.

    Raises
    ------
    ValueError
        For no finite pixels, less than one bin, and an empty range.
    """
    values = np.asarray(pixels, np.float64).ravel()
    finite = np.isfinite(values)
    if not finite.all():
        values = values[finite]
    if values.size == 0:
        raise ValueError("no finite pixels to make a histogram of")
    if bins < 1:
        raise ValueError(f"{bins} bins; a histogram needs 1 or more")
    low, high = float(values.min()), float(values.max())
    if scaled:
        values = (values - low) / ((high - low) or 1.0)
        low, high = 0.0, 1.0
    peaks = _find_peaks(values)
    start, stop = range if range is not None else (low, high if high > low else low + 1.0)
    if not start < stop:
        raise ValueError(f"range {start:g} to {stop:g} is empty; give the lower value first")
    counts, edges = np.histogram(values, bins, (start, stop))
    return Histogram(edges, counts.astype(np.int64), name, peaks)


def compare_histograms(a: Histogram, b: Histogram) -> float:
    """Share of pixels that two histograms have in common: 1 for equal ones, 0 where they do not overlap.

    Bins may differ; within a bin the pixels count as evenly spread.
    """
    low, high = min(a.edges[0], b.edges[0]), max(a.edges[-1], b.edges[-1])
    grid = np.linspace(low, high, max(_OVERLAP_BINS, len(a.counts), len(b.counts)) + 1)
    if np.array_equal(a.edges, b.edges):
        grid = a.edges
    shares = []
    for histogram in (a, b):
        below = np.concatenate([[0.0], np.cumsum(histogram.counts)])
        if not below[-1] > 0:
            return 0.0
        shares.append(np.diff(np.interp(grid, histogram.edges, below / below[-1])))
    return float(np.minimum(*shares).sum())


def _find_peaks(values: F64) -> tuple[Peak, ...]:
    """One peak or two: the highest, and the one behind the deepest valley in the logarithm of the counts."""
    values = values[:: max(1, values.size // _MOST_PX)]
    lowest = values == values.min()
    if 1 < np.count_nonzero(lowest) < values.size / 2:
        values = values[~lowest]  # negative noise cut off at 0 counts is no peak
    low, high = np.percentile(values, _SHARE)
    if not high > low:
        return (Peak(float(low), 0.0, 1.0),)
    margin = 0.1 * (high - low)
    counts, edges = np.histogram(values, _FINE_BINS, (low - margin, high + margin))
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), _SMOOTH_BINS)
    # pixels behind a smoothed bin
    effective = np.maximum(smooth * 2 * math.sqrt(math.pi) * _SMOOTH_BINS, 1.0)
    log, centers = np.log(effective), (edges[:-1] + edges[1:]) / 2
    first = int(np.argmax(log))
    tops = [
        i
        for i in range(1, len(log) - 1)
        if log[i] > log[i - 1] and log[i] >= log[i + 1] and smooth[i] > _LEAST_HEIGHT * smooth[first]
    ]
    second, deepest, cut = -1, 0.0, 0
    for i in tops:
        if i == first:
            continue
        between = slice(min(i, first), max(i, first) + 1)
        valley = between.start + int(np.argmin(log[between]))
        depth = float(log[i] - log[valley])
        error = math.hypot(1 / math.sqrt(effective[i]), 1 / math.sqrt(effective[valley]))
        if depth > max(_LEAST_DEPTH, _LEAST_ERRORS * error, deepest):
            second, deepest, cut = i, depth, valley
    if second < 0:
        return (_describe(counts, centers, first, slice(0, len(counts))),)
    lower, upper = slice(0, cut), slice(cut, len(counts))
    sides = (lower, upper) if first < cut else (upper, lower)
    found = [_describe(counts, centers, top, side) for top, side in zip((first, second), sides, strict=True)]
    return tuple(sorted(found, key=lambda peak: -peak.share))


def _describe(counts: npt.NDArray[np.int64], centers: F64, top: int, side: slice) -> Peak:
    """Position of a peak and its robust width among the pixels on its side of the valley."""
    own, at = counts[side].astype(np.float64), centers[side]
    distance = np.abs(at - centers[top])
    order = np.argsort(distance)
    below = np.cumsum(own[order])
    # half of the pixels of a Gaussian lie within 0.6745 standard deviations
    width = float(np.interp(0.5 * below[-1], below, distance[order])) / 0.6745 if below[-1] > 0 else 0.0
    return Peak(float(centers[top]), width, float(own.sum() / max(counts.sum(), 1)))
