"""Score an enhancement on repeats of one field, without a reference: the paired repeat error.

The output of one frame is compared with another frame B of the same field. B's noise is independent of the
output, so that it cancels in (fit_out − B)² − (fit_ref − B)², and what is left is how much closer to the
truth the output is than a plain Gaussian blur. Lower is better; negative is better than the blur.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_lowdose_tem.image import F64, Image
from napari_lowdose_tem.io import read
from napari_lowdose_tem.judge.metrics import match_affine
from napari_lowdose_tem.pairs import find_shift
from napari_lowdose_tem.pairs.register import fill_gaps
from napari_lowdose_tem.particles.find import divide_by_background

if TYPE_CHECKING:
    from napari_lowdose_tem.network.model_file import Model


REFERENCE_SIGMA_PX = 7.0
_ROW_SIGMA_PX = 3.0  # structure as fine as this is not taken for an offset of a row
_OUTLIER = 5.0  # standard deviations
_BLOCK_PX = 64  # streaks reach 16 px along a row
_LEAST_BLOCKS = 8
_DETAIL_SIGMA_PX = 16.0  # streaks are finer than this, the film's thickness is coarser
_FILM = 0.95  # transmission of the blurred output from which on a pixel is background
_BESIDE_PX = 8  # what particles' edges reach
_LEAST_SHARE = 0.2  # of a row that must be background
MOST_FRAMES = 64
"""Frames of a stack that are scored unless told otherwise."""


@dataclass(frozen=True)
class RepeatScore:
    """Paired repeat error of some outputs.

    Parameters
    ----------
    error
        Mean over pixels of (fit_out − B)² − (fit_ref − B)² [counts²].
    error_se
        Its standard error, from blocks of the field [counts²].
    directions
        The error of earlier frames' outputs against the frames that follow, and the reverse [counts²].
    block_errors
        The error of each block of 64 × 64 px; their differences compare two methods, see `compare_scores`.
    streak_ratio
        Scatter of row means over that of column means in the background of the difference of neighbouring
        outputs; above 1.2 the camera's streaks are left. None without enough background.
    background_ratio
        The same of the outputs themselves, so that a field longer along the rows counts too.
    level
        Mean of the frames [counts].
    """

    error: float
    error_se: float
    directions: tuple[float, float]
    block_errors: tuple[float, ...]
    streak_ratio: float | None
    background_ratio: float | None
    level: float


def score_repeats(
    frames: npt.ArrayLike, outputs: npt.ArrayLike | Callable[[npt.NDArray[Any]], npt.ArrayLike]
) -> RepeatScore:
    """Score enhanced repeats of one field by the paired repeat error, each frame against its neighbours.

    Every output, and every frame blurred by a Gaussian of σ 7 px (the reference), is fitted to the neighbour
    by a least-squares line. Before that the offsets of the neighbour's rows are removed: row means of its
    difference from itself blurred by σ 3 px, pixels beyond 5 standard deviations held down.

    Parameters
    ----------
    frames
        Repeats (n, rows, columns) of one field at rest, at least two [counts].
    outputs
        Enhanced frames of the same shape in any linear unit, or the function that makes one from a frame.

    Raises
    ------
    ValueError
        For less than two frames, other shapes, and frames too small for eight blocks.
    """
    counts = np.asarray(frames, np.float64)
    if counts.ndim != 3 or len(counts) < 2:
        raise ValueError(
            f"repeats of shape {counts.shape}; needs two or more frames (rows, columns) of one field"
        )
    enhanced = [np.asarray(outputs(frame)) for frame in counts] if callable(outputs) else outputs
    enhanced = np.asarray(enhanced, np.float64)
    if enhanced.shape != counts.shape:
        raise ValueError(f"outputs of shape {enhanced.shape} do not go with frames of shape {counts.shape}")
    maps = [
        [_map_error(counts, enhanced, i, i + 1), _map_error(counts, enhanced, i + 1, i)]
        for i in range(len(counts) - 1)
    ]
    directions = np.mean([[np.nanmean(one) for one in pair] for pair in maps], axis=0)
    blocks = _block_means(_average([one for pair in maps for one in pair]))
    streak_ratio, background_ratio = _average_streaks(enhanced)
    return RepeatScore(
        error=float(directions.mean()),
        error_se=float(blocks.std(ddof=1) / np.sqrt(len(blocks))),
        directions=(float(directions[0]), float(directions[1])),
        block_errors=tuple(blocks.tolist()),
        streak_ratio=streak_ratio,
        background_ratio=background_ratio,
        level=float(np.nanmean(counts)),
    )


def compare_scores(score: RepeatScore, other: RepeatScore) -> tuple[float, float]:
    """Return by how much `score` lies below `other`, and the standard error [counts²].

    Both must come from the same frames: what they share, noise and structure, cancels block by block.
    """
    if len(score.block_errors) != len(other.block_errors):
        raise ValueError("the scores come from different frames; compare scores of the same repeats")
    gain = np.array(other.block_errors) - np.array(score.block_errors)
    return float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(len(gain)))


def find_film(output: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Tell background from particles in an enhanced frame (rows, columns).

    Background is where the frame, blurred by σ 3 px, is at least 95 % of what surrounds it, 8 px away from
    what is not.
    """
    pixels = np.asarray(output)
    blurred = ndimage.gaussian_filter(divide_by_background(pixels), _ROW_SIGMA_PX)
    film = ndimage.binary_erosion(blurred >= _FILM, iterations=_BESIDE_PX, border_value=1)
    return np.asarray(film & np.isfinite(pixels))


def measure_streak_ratio(image: npt.ArrayLike, film: npt.NDArray[np.bool_]) -> float | None:
    """Measure the streaks along rows in the background of a frame (rows, columns).

    Parameters
    ----------
    image
        An output, or the difference of two outputs: there the field's own structure cancels.
    film
        The pixels that are background.

    Returns
    -------
    Scatter of the row means over that of the column means, without what is coarser than σ 16 px and weighted
    by the number of pixels, so that it is about 1 for structure without direction. None where less than a
    fifth of most rows or columns is background.
    """
    pixels = np.where(film, np.asarray(image, np.float64), 0)
    weight = ndimage.gaussian_filter(film.astype(np.float64), _DETAIL_SIGMA_PX)
    coarse = ndimage.gaussian_filter(pixels, _DETAIL_SIGMA_PX)
    detail = np.where(film, pixels - np.divide(coarse, weight, out=np.zeros_like(coarse), where=film), 0)
    scatter = []
    for axis in (1, 0):
        count = film.sum(axis)
        used = count >= _LEAST_SHARE * film.shape[axis]
        if used.mean() < 0.5:
            return None
        means = detail.sum(axis)[used] / count[used]
        scatter.append(float(np.sqrt(np.mean(count[used] * means**2))))
    return scatter[0] / scatter[1] if scatter[1] > 0 else None


def _average_streaks(outputs: F64) -> tuple[float | None, float | None]:
    """Mean ratio of the differences of neighbours and of the outputs themselves."""
    films = [find_film(output) for output in outputs]
    pairs = list(zip(itertools.pairwise(outputs), itertools.pairwise(films), strict=True))
    between = [measure_streak_ratio(b - a, film_a & film_b) for (a, b), (film_a, film_b) in pairs]
    single = [measure_streak_ratio(output, film) for output, film in zip(outputs, films, strict=True)]
    return _mean(between), _mean(single)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _map_error(counts: F64, outputs: F64, first: int, second: int) -> F64:
    """Paired squared error of the first frame's output against the second frame, pixel by pixel."""
    target = _remove_row_offsets(counts[second])
    valid = np.isfinite(target) & np.isfinite(counts[first]) & np.isfinite(outputs[first])
    target = np.where(valid, target, np.nan)
    reference = ndimage.gaussian_filter(fill_gaps(counts[first]), REFERENCE_SIGMA_PX)
    error: F64 = (match_affine(outputs[first], target) - target) ** 2
    return error - (match_affine(reference, target) - target) ** 2


def _remove_row_offsets(frame: F64) -> F64:
    # from this frame alone: what came from the other would favour an output with the other's noise
    filled = fill_gaps(frame)
    rest = filled - ndimage.gaussian_filter(filled, _ROW_SIGMA_PX)
    reach = _OUTLIER * float(rest.std())
    return np.asarray(frame - np.clip(rest, -reach, reach).mean(axis=1, keepdims=True))


def _average(maps: Sequence[F64]) -> F64:
    """Mean of maps pixel by pixel, NaN where none is finite."""
    stack = np.array(maps)
    count = np.isfinite(stack).sum(0)
    total = np.nansum(stack, axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _block_means(image: F64) -> F64:
    """Mean over each of the blocks that the frame is cut into; blocks without a finite pixel are left out."""
    cuts = [np.linspace(0, n, max(1, round(n / _BLOCK_PX)) + 1).astype(int) for n in image.shape]
    blocks = [
        image[top:bottom, left:right]
        for top, bottom in itertools.pairwise(cuts[0])
        for left, right in itertools.pairwise(cuts[1])
    ]
    means = [float(np.nanmean(block)) for block in blocks if np.isfinite(block).any()]
    if len(means) < _LEAST_BLOCKS:
        rows, cols = image.shape
        raise ValueError(
            f"frames of {rows} × {cols} px hold {len(means)} blocks of {_BLOCK_PX} × {_BLOCK_PX} px; "
            f"a standard error needs {_LEAST_BLOCKS}, so use larger frames"
        )
    return np.array(means)


@dataclass(frozen=True)
class RepeatEvaluation:
    """The score of a model on `n` repeats, and how far the farthest lies off the first [px]."""

    model: str
    n: int
    score: RepeatScore
    drift_px: float

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: model, n, drift_px and the score without its blocks."""
        score = asdict(self.score)
        del score["block_errors"]
        return {"model": self.model, "n": self.n, "drift_px": self.drift_px, **score}


@dataclass(frozen=True)
class RepeatProgress:
    """State after a frame; `result` comes with the last one."""

    done: int
    total: int
    result: RepeatEvaluation | None = None


def iter_score_repeats(
    sources: Sequence[str | Path],
    model: Model | str | Path = "default",
    device: str = "auto",
    most: int = MOST_FRAMES,
) -> Iterator[RepeatProgress]:
    """Score a model on repeats of one field, reporting after every frame.

    Parameters
    ----------
    sources
        A stack, a folder of frames, or the files of single frames; all of one field at rest.
    model, device
        As `Engine` takes them.
    most
        Frames used; of more the first ones.

    Raises
    ------
    ValueError
        As `score_repeats`, naming the source.
    """
    from napari_lowdose_tem.engine.engine import Engine

    image = load_repeats(sources, most)
    counts = image.frames(0, image.n_frames).astype(np.float64)
    outputs = np.empty(counts.shape, np.float32)
    drift_px = 0.0
    with Engine(model, device) as engine:
        scaling = engine.measure(image)
        for index, frame in enumerate(counts):
            outputs[index] = engine.enhance(frame, scaling)
            if index:
                drift_px = max(drift_px, float(np.hypot(*find_shift(outputs[0], frame))))
            result = None
            if index == len(counts) - 1:
                score = score_repeats(counts, outputs)
                result = RepeatEvaluation(engine.model.file.label, len(counts), score, drift_px)
            yield RepeatProgress(index + 1, len(counts), result)


def load_repeats(sources: Sequence[str | Path], most: int = MOST_FRAMES) -> Image:
    """Read repeats of one field as one stack in memory.

    Parameters
    ----------
    sources
        As `iter_score_repeats` takes them.

    Raises
    ------
    ValueError
        For less than two frames and for frames of different shapes.
    """
    images = [read(source) for source in sources]
    shapes = {image.frame_shape for image in images}
    if len(shapes) > 1:
        listing = ", ".join(f"{rows} × {cols} px" for rows, cols in sorted(shapes))
        raise ValueError(f"{sources[0]} and others have {listing}; repeats of a field have one shape")
    frames = np.concatenate([image.frames(0, min(image.n_frames, most)) for image in images])[:most]
    if len(frames) < 2:
        raise ValueError(f"{sources[0]}: one frame; needs two or more frames of the same field")
    return images[0].with_data(frames)
