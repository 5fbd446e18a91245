"""Jobs of the Compare dock: frames averaged, numbers taken, high dose registered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.compare.state import Found, Moved, Score
from napari_lowdose_tem.widgets.shared.frames import same_pixels

_BINS = 128
_LEVEL = 3  # means over 8 × 8 pixels tell the background of noisy frames
_BRIGHT_PERCENT = 75.0

Grid = tuple[tuple[int, int], tuple[float, float] | None]
"""Shape [px] and pixel size [nm/px] of the grid that numbers are taken on."""


@dataclass(frozen=True, eq=False)
class MeanRequest:
    """Frames to average; `key` tells them apart."""

    image: Image
    frame: int
    n: int
    key: Any


def iter_mean(request: MeanRequest) -> Iterator[tuple[MeanRequest, npt.NDArray[np.float32]]]:
    """Average them."""
    from napari_lowdose_tem.pairs.grid import average_frames

    yield request, average_frames(request.image, request.frame, request.n)


@dataclass(frozen=True, eq=False)
class Item:
    """A frame to compare."""

    role: str
    title: str
    pixels: npt.NDArray[Any]
    pixel_size_nm: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class NumbersRequest:
    """Frames to compare, on which grid and where; the role "mean" is the low-dose frame averaged."""

    items: tuple[Item, ...]
    grid: Grid
    moved: Moved | None = None
    region: tuple[slice, slice] | None = None

    def item(self, role: str) -> Item | None:
        """Frame of a role."""
        return next((item for item in self.items if item.role == role), None)


class Comparer:
    """Compares frames; for one job at a time."""

    def __init__(self) -> None:
        self._brought: tuple[Item, Grid, Any, npt.NDArray[np.float32]] | None = None

    def iter_found(self, request: NumbersRequest) -> Iterator[tuple[NumbersRequest, Found]]:
        """Compare with the high dose; then the residual; then the histograms."""
        frames, refused = self._bring_all(request)
        found = Found(
            scores=tuple(_iter_scores(request, frames, refused)),
            is_region=request.region is not None,
            levels=_find_levels(frames),
        )
        yield request, found
        found = replace(found, **_find_residual(frames))
        yield request, found
        for scaled in (False, True):
            histograms, text = _make_histograms(request, frames, scaled)
            found = replace(
                found,
                histograms={**found.histograms, scaled: histograms},
                histogram_text={**found.histogram_text, scaled: text},
            )
        yield request, found

    def _bring_all(self, request: NumbersRequest) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
        frames, refused = {}, {}
        for item in request.items:
            try:
                if item.role == "HDE":
                    frames[item.role] = self._bring_high(item, request)
                else:
                    frames[item.role] = bring(item, request.grid)
            except ValueError as error:
                refused[item.role] = str(error)
        return frames, refused

    def _bring_high(self, item: Item, request: NumbersRequest) -> npt.NDArray[np.float32]:
        """Return the high dose on the grid, which takes long for large frames and seldom changes."""
        old = self._brought
        is_known = (
            old is not None
            and same_pixels(item.pixels, old[0].pixels)
            and (item.pixel_size_nm, request.grid) == (old[0].pixel_size_nm, old[1])
            and old[2] is request.moved
        )
        if old is None or not is_known:
            old = item, request.grid, request.moved, bring(item, request.grid, request.moved)
            self._brought = old
        return old[3]


def bring(item: Item, grid: Grid, moved: Moved | None = None) -> npt.NDArray[np.float32]:
    """Bring a frame to the grid, moved to where it was found to lie; NaN beside it.

    Raises
    ------
    ValueError
        When it cannot be of the same field.
    """
    from napari_lowdose_tem.pairs.grid import bring_to_grid

    shape, size = grid
    own = item.pixel_size_nm if size is not None else None
    if moved is None:
        return bring_to_grid(item.pixels, own, shape, size)
    found = moved.similarity
    if not found.rotation_deg and found.scale == 1:
        return bring_to_grid(item.pixels, own, shape, size, found.shift_px)
    return np.asarray(found.apply(bring_to_grid(item.pixels, own, shape, size)))


def _iter_scores(
    request: NumbersRequest, frames: dict[str, npt.NDArray[Any]], refused: dict[str, str]
) -> Iterator[Score]:
    from napari_lowdose_tem.judge.comparison import compare_frames

    if request.item("HDE") is None:
        return
    for role in ("LDE", "mean", "output"):
        item = request.item(role)
        if item is None:
            continue
        reason = refused.get("HDE") or refused.get(role)
        if reason:
            yield Score(item.title, refused=reason)
            continue
        try:
            yield Score(item.title, compare_frames(frames[role], frames["HDE"], request.region))
        except ValueError as error:
            yield Score(item.title, refused=str(error))


def _find_residual(frames: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    from napari_lowdose_tem.judge.residual import measure_residual

    if not {"LDE", "output"} <= frames.keys():
        return {"residual_text": "The residual needs a low-dose image and its output."}
    low, output = frames["LDE"], frames["output"]
    with np.errstate(invalid="ignore"):
        levels = [float(np.nanmean(frame)) for frame in (low, output)]
    if not levels[1] > 0 or not 0.5 < levels[0] / levels[1] < 2:
        return {
            "residual_text": "The residual needs both in the same counts; their means are "
            f"{levels[0]:.3g} and {levels[1]:.3g}."
        }
    try:
        residual = measure_residual(low, output)
    except ValueError as error:
        return {"residual_text": str(error)}
    text = f"r.m.s. {residual.rms:.3g} counts, mean {residual.mean:+.2g}".replace("-", "−")
    if residual.expected_rms is not None:
        text += f"; the noise of the low-dose frame is {residual.expected_rms:.3g}"
    return {"residual": residual, "residual_text": f"{text}.\n{residual.verdict}"}


def _make_histograms(
    request: NumbersRequest, frames: dict[str, npt.NDArray[Any]], scaled: bool
) -> tuple[tuple[Any, ...], str]:
    from napari_lowdose_tem.judge.histogram import compare_histograms, make_histogram

    made: dict[str, Any] = {}
    level = next((mean_of(frames[role]) for role in ("LDE", "output") if role in frames), None)
    for item in request.items:
        if item.role not in frames:
            continue
        pixels, name = frames[item.role], item.title
        if request.region is not None:
            pixels = pixels[request.region]
        mean = mean_of(frames[item.role])
        if item.role == "HDE" and not scaled and level and mean > 0 and not 0.8 < level / mean < 1.25:
            pixels, name = pixels * (level / mean), f"{name} × {level / mean:.3g}"
        try:
            made[item.role] = make_histogram(pixels, _BINS, scaled, name=name)
        except ValueError:
            continue  # nothing of it is in the region
    return tuple(made.values()), _describe(made, compare_histograms)


def _describe(made: dict[str, Any], compare: Any) -> str:
    parts = []
    if "HDE" in made:
        overlaps = [
            f"{made[role].name} {compare(made[role], made['HDE']):.2f}"
            for role in ("LDE", "mean", "output")
            if role in made
        ]
        if overlaps:
            parts.append(f"Overlap with the high dose (1 is all): {', '.join(overlaps)}.")
    elif {"LDE", "output"} <= made.keys():
        parts.append(f"Overlap of low dose and output: {compare(made['LDE'], made['output']):.2f}.")
    apart = [
        f"{histogram.name} {separation:.1f}" if separation is not None else f"{histogram.name} one peak only"
        for histogram in made.values()
        for separation in (histogram.peak_separation,)
    ]
    if apart:
        parts.append(f"Background and particles lie apart by this many of their widths: {', '.join(apart)}.")
    return "\n".join(parts)


def _find_levels(frames: dict[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Find what stands for a transmission of 1: the bright peak of the clearest frame, others by means."""
    from napari_lowdose_tem.judge.histogram import make_histogram

    clear = next((role for role in ("HDE", "output") if role in frames), None)
    try:
        if clear is not None:
            level = max(peak.position for peak in make_histogram(frames[clear]).peaks)
        else:
            clear, frame = next(iter(frames.items()))
            size = 2**_LEVEL
            rows, cols = (max(1, n // size) * min(size, n) for n in frame.shape)
            sides = min(size, frame.shape[0]), min(size, frame.shape[1])
            blocks = frame[:rows, :cols].reshape(rows // sides[0], sides[0], cols // sides[1], sides[1])
            level = float(np.nanpercentile(blocks.mean((1, 3)), _BRIGHT_PERCENT))
    except (ValueError, StopIteration):
        return {}
    mean = mean_of(frames[clear])
    if not (mean > 0 and level > 0):
        return {}
    return {role: level / mean * mean_of(frame) for role, frame in frames.items()}


def mean_of(frame: npt.NDArray[Any]) -> float:
    """Mean of what is finite, 0 where nothing is."""
    known = frame[np.isfinite(frame)]
    return float(known.mean(dtype=np.float64)) if known.size else 0.0
