"""The same line on every frame of a stack: kymograph, diameters and separation over time."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_lowdose_tem.camera.raw_noise import measure_raw_noise, read_raw_noise
from napari_lowdose_tem.image import F64, Image
from napari_lowdose_tem.io.output import write_text
from napari_lowdose_tem.measure.fit import fit_profile, suggest_particles
from napari_lowdose_tem.measure.measurement import FitOptions, Measurement
from napari_lowdose_tem.measure.profile import Line, Profile, sample_line
from napari_lowdose_tem.measure.thresholds import DRIFT_RENEWAL, DRIFT_SIDE, DRIFT_SIDE_PX, PARTICLE_POLLS

_FRAMES_READ = 16  # frames read at once


@dataclass(frozen=True, eq=False)
class OverTime:
    """Measurements of a line on frames, n of them with k particles; NaN where a frame gave no number.

    Parameters
    ----------
    unit
        "nm", or "px" for a stack without calibration.
    frames, time_s
        Numbers of the frames (n,); their times [s], or None.
    position, kymograph
        Along the line (m,) [unit]; intensities (n, m).
    center, center_se, diameter, diameter_se
        (n, k) [unit].
    separation, separation_se, margin
        (n,) [unit]; NaN unless there are two particles.
    shift_px
        How far the line was moved to follow the drift (n, 2) rows and columns [px].
    refused
        Why a frame gave no number, else "".
    """

    unit: str
    frames: npt.NDArray[np.int64]
    time_s: F64 | None
    position: F64
    kymograph: npt.NDArray[np.float32]
    center: F64
    center_se: F64
    diameter: F64
    diameter_se: F64
    separation: F64
    separation_se: F64
    margin: F64
    shift_px: F64
    refused: tuple[str, ...]

    def rows(self) -> tuple[list[str], list[list[Any]]]:
        """Return names of columns and their values, a row a frame; None where there is no number."""
        u, count = self.unit, self.diameter.shape[1]
        columns: dict[str, Sequence[Any]] = {"frame": self.frames.tolist()}
        if self.time_s is not None:
            columns["time_s"] = self.time_s.tolist()
        for i in range(count):
            number = f"{i + 1}" if count > 1 else ""
            for name in ("center", "center_se", "diameter", "diameter_se"):
                stem, _, se = name.partition("_")
                columns[f"{stem}{number}{'_' + se if se else ''}_{u}"] = getattr(self, name)[:, i].tolist()
        if count == 2:
            for name in ("separation", "separation_se", "margin"):
                columns[f"{name}_{u}"] = getattr(self, name).tolist()
        columns["shift_row_px"], columns["shift_col_px"] = self.shift_px.T.tolist()
        columns["refused"] = self.refused
        rows = [[_known(value) for value in row] for row in zip(*columns.values(), strict=True)]
        return list(columns), rows

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: a list a column."""
        names, rows = self.rows()
        return {"unit": self.unit, **dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))}

    def write_csv(self, path: str | Path) -> Path:
        """Write the table, whole or not at all."""
        text = io.StringIO(newline="")
        table = csv.writer(text)
        names, rows = self.rows()
        table.writerow(names)
        table.writerows([["" if v is None else _short(v) for v in row] for row in rows])
        return write_text(path, text.getvalue())


@dataclass(frozen=True)
class OverTimeProgress:
    """State after a frame; `gather` returns all that was measured until it is called."""

    done: int
    total: int
    measurement: Measurement
    gather: Callable[[], OverTime]


def iter_over_time(
    image: Image,
    line: Line,
    options: FitOptions | None = None,
    *,
    follow: bool = False,
    raw: Image | None = None,
    raw_noise: float | None = None,
    first: int = 0,
    last: int | None = None,
) -> Iterator[OverTimeProgress]:
    """Measure a line on every frame of a stack, reporting after each.

    Parameters
    ----------
    image
        Stack; Dask stacks are read as they are needed.
    line
        On the first frame measured.
    options
        As `fit_profile`; particles=None: as many as most of nine frames suggest.
    follow
        Move the line with the drift of what is around it, up to 8 px from frame to frame. A frame whose
        drift cannot be told keeps the last one.
    raw
        For enhanced stacks: the raw one, for errors that the electrons allow.
    raw_noise
        The same as a number, as `measure_raw_noise` gives it; that of the provenance where None.
    first, last
        Half-open range of frames.

    Raises
    ------
    ValueError
        As `sample_line`; for a range outside the stack, and a raw stack of another shape.
    """
    options = options or FitOptions()
    last = image.n_frames if last is None else last
    if not 0 <= first < last <= image.n_frames:
        raise ValueError(f"frames {first}:{last} are not within the stack's 0:{image.n_frames}")
    if raw is not None and raw.data.shape != image.data.shape:
        raise ValueError(f"raw stack of {raw.data.shape} px for one of {image.data.shape} px")
    total = last - first
    if options.particles is None:
        options = replace(options, particles=_vote(image, line, options, first, last))
    raw_noise = read_raw_noise(image) if raw_noise is None else raw_noise
    drift = _Drift(line, image.frame_shape) if follow else None
    profiles: list[Profile] = []
    found: list[Measurement] = []
    shifts: list[tuple[float, float]] = []
    gather = partial(_gather, image, first, profiles, found, shifts, options.particles or 1)
    for start in range(first, last, _FRAMES_READ):
        block = image.frames(start, min(start + _FRAMES_READ, last))
        noisy = None if raw is None else raw.frames(start, min(start + _FRAMES_READ, last))
        for i, frame in enumerate(block):
            shift = drift.follow(frame) if drift else (0.0, 0.0)
            noise = raw_noise if noisy is None else _find_noise(noisy[i])
            profile, measurement = _measure(frame, line, shift, image.pixel_size_nm, options, noise)
            profiles.append(profile)
            found.append(measurement)
            shifts.append(shift)
            yield OverTimeProgress(len(found), total, measurement, gather)


def measure_over_time(image: Image, line: Line, options: FitOptions | None = None, **more: Any) -> OverTime:
    """Measure a line on every frame of a stack; parameters as `iter_over_time`."""
    *_, last = iter_over_time(image, line, options, **more)
    return last.gather()


def _measure(
    frame: npt.NDArray[Any],
    line: Line,
    shift: tuple[float, float],
    pixel_size_nm: tuple[float, float] | None,
    options: FitOptions,
    raw_noise: float | None,
) -> tuple[Profile, Measurement]:
    try:
        profile = sample_line(frame, line.shifted(*shift), pixel_size_nm)
    except ValueError:
        if shift == (0.0, 0.0):
            raise
        at_rest = sample_line(frame, line, pixel_size_nm)
        profile = replace(at_rest, intensity=np.full_like(at_rest.intensity, np.nan))
        reason = "the line drifted out of the frame"
        return profile, Measurement(profile.unit, options.model, options.rule, refused=reason)
    return profile, fit_profile(profile, options, raw_noise)


def _vote(image: Image, line: Line, options: FitOptions, first: int, last: int) -> int:
    voters = np.unique(np.linspace(first, last - 1, min(PARTICLE_POLLS, last - first)).astype(int))
    votes = Counter(
        suggest_particles(sample_line(image.frames(i, i + 1)[0], line, image.pixel_size_nm), options)
        for i in voters.tolist()
    )
    return votes.most_common(1)[0][0]


def _find_noise(frame: npt.NDArray[Any]) -> float | None:
    try:
        return measure_raw_noise(frame)
    except ValueError:
        return None


def _gather(
    image: Image,
    first: int,
    profiles: list[Profile],
    found: list[Measurement],
    shifts: list[tuple[float, float]],
    count: int,
) -> OverTime:
    n = len(found)
    frames = np.arange(first, first + n)
    length = min(len(p.position) for p in profiles)
    numbers = np.full((4, n, count), np.nan)
    pairs = np.full((3, n), np.nan)
    for i, measurement in enumerate(found):
        for j, p in enumerate(measurement.particles):
            numbers[:, i, j] = [_number(v) for v in (p.center, p.center_se, p.diameter, p.diameter_se)]
        pairs[:, i] = [
            _number(v) for v in (measurement.separation, measurement.separation_se, measurement.margin)
        ]
    return OverTime(
        unit=profiles[0].unit,
        frames=frames,
        time_s=None if image.frame_time_s is None else np.asarray(frames * image.frame_time_s),
        position=profiles[0].position[:length],
        kymograph=np.stack([p.intensity[:length] for p in profiles]).astype(np.float32),
        center=numbers[0],
        center_se=numbers[1],
        diameter=numbers[2],
        diameter_se=numbers[3],
        separation=pairs[0],
        separation_se=pairs[1],
        margin=pairs[2],
        shift_px=np.array(shifts, float),
        refused=tuple(measurement.refused for measurement in found),
    )


class _Drift:
    """Follows what is around a line from frame to frame."""

    def __init__(self, line: Line, shape: tuple[int, int]) -> None:
        self._middle = [(a + b) / 2 for a, b in zip(line.start, line.stop, strict=True)]
        side = max(DRIFT_SIDE_PX, math.ceil(DRIFT_SIDE * line.length_px))
        self._sides = [min(side, n) for n in shape]
        self._shape = shape
        self._shift = np.zeros(2)
        self._mean: F64 | None = None

    def follow(self, frame: npt.NDArray[Any]) -> tuple[float, float]:
        """Return how far the frame lies off the first one, rows and columns [px]."""
        from napari_lowdose_tem.pairs.register import find_shift

        window = self._cut(frame)
        if self._mean is None:
            self._mean = window
            return 0.0, 0.0
        self._shift = self._shift + find_shift(self._mean, window)  # zeros where it cannot be told
        window = self._cut(frame)
        self._mean = (1 - DRIFT_RENEWAL) * self._mean + DRIFT_RENEWAL * window
        return float(self._shift[0]), float(self._shift[1])

    def _cut(self, frame: npt.NDArray[Any]) -> F64:
        """Window of fixed size around the line where it is now; beyond the rim, the rim goes on."""
        low = [m + s - side / 2 for m, s, side in zip(self._middle, self._shift, self._sides, strict=True)]
        whole = [math.floor(v) for v in low]
        rows, cols = (
            np.clip(np.arange(first, first + side + 1), 0, n - 1)
            for first, side, n in zip(whole, self._sides, self._shape, strict=True)
        )
        part = np.asarray(frame[np.ix_(rows, cols)], np.float64)
        if not np.isfinite(part).all():
            part = np.where(np.isfinite(part), part, np.nanmedian(part) if np.isfinite(part).any() else 0.0)
        moved = ndimage.shift(part, [w - v for w, v in zip(whole, low, strict=True)], order=3, mode="nearest")
        return np.asarray(moved[: self._sides[0], : self._sides[1]])


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
