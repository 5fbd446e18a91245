"""The job behind the numbers of the Compare dock: errors, residual, histograms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_lowdose_tem.image import F32
from napari_lowdose_tem.widgets.compare.grid_frame import Grid, GridFrame, mean_of, resample_to_grid
from napari_lowdose_tem.widgets.compare.state import NO_RESIDUAL, Alignment, Results, ScoreRow
from napari_lowdose_tem.widgets.shared.frames import same_pixels

if TYPE_CHECKING:
    from napari_lowdose_tem.judge.histogram import Histogram

_BINS = 128
_BLOCK_PX = 8  # means over 8 × 8 pixels show the background of noisy frames
_BRIGHT_PERCENT = 75.0
_SAME_DOSE = 1.25  # ratio of means up to which the histogram of the HDE is not scaled

Frames = Mapping[str, F32]
"""On the grid, by role."""


@dataclass(frozen=True, eq=False)
class ResultsRequest:
    """Frames to compare, on which grid and where."""

    frames: tuple[GridFrame, ...]
    grid: Grid
    alignment: Alignment | None = None
    region: tuple[slice, slice] | None = None

    def frame(self, role: str) -> GridFrame | None:
        """Frame of a role."""
        return next((frame for frame in self.frames if frame.role == role), None)


class Comparer:
    """Compares frames; for one job at a time."""

    def __init__(self) -> None:
        self._high: tuple[GridFrame, Grid, Alignment | None, F32] | None = None

    def iter_results(self, request: ResultsRequest) -> Iterator[tuple[ResultsRequest, Results]]:
        """Compare with the high dose; then the residual; then the histograms."""
        frames, refused = self._resample_all(request)
        results = Results(
            scores=tuple(_iter_rows(request, frames, refused)),
            is_region=request.region is not None,
            levels=_find_levels(frames),
        )
        yield request, results
        results = _add_residual(results, frames)
        yield request, results
        for scaled in (False, True):
            histograms, text = _make_histograms(request, frames, scaled)
            results = replace(
                results,
                histograms={**results.histograms, scaled: histograms},
                histogram_text={**results.histogram_text, scaled: text},
            )
        yield request, results

    def _resample_all(self, request: ResultsRequest) -> tuple[dict[str, F32], dict[str, str]]:
        frames, refused = {}, {}
        for frame in request.frames:
            try:
                if frame.role == "HDE":
                    frames[frame.role] = self._resample_high(frame, request)
                else:
                    frames[frame.role] = resample_to_grid(frame, request.grid)
            except ValueError as error:
                refused[frame.role] = str(error)
        return frames, refused

    def _resample_high(self, frame: GridFrame, request: ResultsRequest) -> F32:
        """Return the high dose on the grid, which takes long for large frames and seldom changes."""
        grid, alignment = request.grid, request.alignment
        if self._high is not None:
            old, *where, pixels = self._high
            is_same = same_pixels(frame.pixels, old.pixels) and frame.pixel_size_nm == old.pixel_size_nm
            if is_same and where == [grid, alignment]:
                return pixels
        pixels = resample_to_grid(frame, grid, alignment)
        self._high = frame, grid, alignment, pixels
        return pixels


def _iter_rows(request: ResultsRequest, frames: Frames, refused: Mapping[str, str]) -> Iterator[ScoreRow]:
    from napari_lowdose_tem.judge.comparison import compare_frames

    if request.frame("HDE") is None:
        return
    for role in ("LDE", "mean", "output"):
        frame = request.frame(role)
        if frame is None:
            continue
        reason = refused.get("HDE") or refused.get(role)
        if reason:
            yield ScoreRow(frame.title, refused=reason)
            continue
        try:
            yield ScoreRow(frame.title, compare_frames(frames[role], frames["HDE"], request.region))
        except ValueError as error:
            yield ScoreRow(frame.title, refused=str(error))


def _add_residual(results: Results, frames: Frames) -> Results:
    from napari_lowdose_tem.judge.residual import measure_residual

    if not {"LDE", "output"} <= frames.keys():
        return replace(results, residual_text=NO_RESIDUAL)
    low, output = frames["LDE"], frames["output"]
    with np.errstate(invalid="ignore"):
        levels = [float(np.nanmean(frame)) for frame in (low, output)]
    if not levels[1] > 0 or not 0.5 < levels[0] / levels[1] < 2:
        text = f"The residual needs LDE and output in the same counts; their means are {levels[0]:.3g} "
        return replace(results, residual_text=f"{text}and {levels[1]:.3g}.")
    try:
        residual = measure_residual(low, output)
    except ValueError as error:
        return replace(results, residual_text=str(error))
    text = f"r.m.s. {residual.rms:.3g} counts, mean {residual.mean:+.2g}".replace("-", "−")
    if residual.expected_rms is not None:
        text += f"; the noise of the LDE is {residual.expected_rms:.3g} counts"
    return replace(results, residual=residual, residual_text=f"{text}.\n{residual.verdict}")


def _make_histograms(
    request: ResultsRequest, frames: Frames, scaled: bool
) -> tuple[tuple[Histogram, ...], str]:
    from napari_lowdose_tem.judge.histogram import make_histogram

    made: dict[str, Histogram] = {}
    level = next((mean_of(frames[role]) for role in ("LDE", "output") if role in frames), None)
    for frame in request.frames:
        if frame.role not in frames:
            continue
        pixels, name = frames[frame.role], frame.title
        if request.region is not None:
            pixels = pixels[request.region]
        mean = mean_of(frames[frame.role])
        is_high = frame.role == "HDE" and not scaled and level and mean > 0
        if level and is_high and not 1 / _SAME_DOSE < level / mean < _SAME_DOSE:
            pixels, name = pixels * (level / mean), f"{name} × {level / mean:.3g}"
        try:
            made[frame.role] = make_histogram(pixels, _BINS, scaled, name=name)
        except ValueError:
            continue  # nothing of it is in the region
    return tuple(made.values()), _describe(made)


def _describe(made: Mapping[str, Histogram]) -> str:
    from napari_lowdose_tem.judge.histogram import compare_histograms

    lines = []
    if "HDE" in made:
        overlaps = [
            f"{made[role].name} {compare_histograms(made[role], made['HDE']):.2f}"
            for role in ("LDE", "mean", "output")
            if role in made
        ]
        if overlaps:
            lines.append(f"Histogram overlap with HDE (0–1): {', '.join(overlaps)}.")
    elif {"LDE", "output"} <= made.keys():
        overlap = compare_histograms(made["LDE"], made["output"])
        lines.append(f"Histogram overlap of LDE and output (0–1): {overlap:.2f}.")
    separations = [
        f"{histogram.name} {separation:.1f}" if separation is not None else f"{histogram.name} one peak only"
        for histogram in made.values()
        for separation in (histogram.peak_separation,)
    ]
    if separations:
        lines.append(f"Background–particle separation (σ): {', '.join(separations)}.")
    return "\n".join(lines)


def _find_levels(frames: Frames) -> dict[str, float]:
    """Find the counts of transmission 1: the bright peak of the clearest frame, for others by their means."""
    from napari_lowdose_tem.judge.histogram import make_histogram

    if not frames:
        return {}
    clearest = next((role for role in ("HDE", "output") if role in frames), "")
    try:
        if clearest:
            level = max(peak.position for peak in make_histogram(frames[clearest]).peaks)
        else:
            clearest, frame = next(iter(frames.items()))
            rows, cols = (max(1, n // _BLOCK_PX) * min(_BLOCK_PX, n) for n in frame.shape)
            sides = min(_BLOCK_PX, frame.shape[0]), min(_BLOCK_PX, frame.shape[1])
            blocks = frame[:rows, :cols].reshape(rows // sides[0], sides[0], cols // sides[1], sides[1])
            level = float(np.nanpercentile(blocks.mean((1, 3)), _BRIGHT_PERCENT))
    except ValueError:
        return {}
    mean = mean_of(frames[clearest])
    if not (mean > 0 and level > 0):
        return {}
    return {role: level / mean * mean_of(frame) for role, frame in frames.items()}
