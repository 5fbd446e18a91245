"""The frames of a field read, brought to one grid and registered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F32, Image
from napari_lowdose_tem.io import read
from napari_lowdose_tem.pairs.field import Field, Region, Shape
from napari_lowdose_tem.pairs.reduce import reduce_frame
from napari_lowdose_tem.pairs.register import Registration, register_frame

Pixels = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class RegisteredPair:
    """A low-dose frame and what it shows, from the high-dose frame.

    Parameters
    ----------
    path
        File of the low-dose frame.
    counts
        Low-dose frame as stored (rows, columns) [counts].
    reference
        High-dose frame on its grid, shifted onto it (rows, columns) [counts of the high-dose frame]; NaN
        where that does not cover it.
    shift_px
        How far the low-dose frame lies off (rows, columns) [px]; zeros where that cannot be told.
    confidence
        How far the match stands above chance, 0…1, as in `Registration`.
    refused
        Why the pair must not be used: what the low-dose frame "lies" or "shows"; empty where it may.
    """

    path: Path
    counts: Pixels
    reference: F32
    shift_px: tuple[float, float]
    confidence: float
    refused: str


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadedField:
    """Frames of a field.

    Parameters
    ----------
    field
        What was loaded.
    pairs
        Its low-dose frames, each with its reference.
    reference
        High-dose frame at rest, on the grid of the low-dose frames (rows, columns) [counts].
    pixel_size_nm
        Sampling of that grid (row, column) [nm/px], where the files tell.
    counts_per_electron
        Gain of the low-dose frames [counts/e-], where the files tell.
    """

    field: Field
    pairs: tuple[RegisteredPair, ...]
    reference: F32
    pixel_size_nm: tuple[float, float] | None
    counts_per_electron: float | None


def load_field(field: Field, reduction: str = "area", register: bool = True) -> LoadedField:
    """Read the frames of a field and register them.

    Parameters
    ----------
    field
        As `find_fields` gives it.
    reduction
        How the high-dose frame is brought to the low-dose grid, as in `reduce_frame`.
    register
        Shift the high-dose frame onto each low-dose frame, by whole pixels of its own, so that nothing is
        interpolated, and refuse frames of other fields. Without, all pairs share the reference at rest.

    Raises
    ------
    ValueError
        For frames that cannot be read or whose shape is not what it was when they were found.
    """
    image = read(field.hde)
    hde = _crop(_single_frame(field.hde, image), field.hde, field.hde_region, field.hde_shape)
    at_rest = reduce_frame(hde, field.factor, reduction).astype(np.float32)
    pixel_size_nm = None
    if image.pixel_size_nm is not None:
        row_nm, col_nm = image.pixel_size_nm
        pixel_size_nm = (row_nm * field.factor, col_nm * field.factor)
    counts_per_electron = None
    pairs = []
    for path in field.ldes:
        image = read(path)
        counts = _crop(_single_frame(path, image), path, field.lde_region, field.lde_shape)
        pixel_size_nm = image.pixel_size_nm or pixel_size_nm
        counts_per_electron = image.counts_per_electron or counts_per_electron
        found = register_frame(at_rest, counts) if register else Registration()
        steps = [round(shift * field.factor) for shift in found.shift_px]
        reference = at_rest
        if any(steps):
            reference = reduce_frame(_moved(hde, *steps), field.factor, reduction).astype(np.float32)
        pairs.append(
            RegisteredPair(
                path=path,
                counts=counts,
                reference=reference,
                shift_px=found.shift_px,
                confidence=found.confidence,
                refused=found.refused,
            )
        )
    return LoadedField(
        field=field,
        pairs=tuple(pairs),
        reference=at_rest,
        pixel_size_nm=pixel_size_nm,
        counts_per_electron=counts_per_electron,
    )


def _single_frame(path: Path, image: Image) -> Pixels:
    if image.n_frames > 1:
        raise ValueError(f"{path}: a stack of {image.n_frames} frames; needs a single frame")
    frame: Pixels = image.frames(0, 1)[0]
    return frame


def _crop(frame: Pixels, path: Path, region: Region | None, shape: Shape) -> Pixels:
    if region is not None:
        row, col, rows, cols = region
        frame = frame[row : row + rows, col : col + cols]
    if frame.shape != shape:
        raise ValueError(f"{path}: {frame.shape} px, but {shape} px when it was found; find the fields again")
    return frame


def _moved(frame: Pixels, rows: int, cols: int) -> F32:
    """Move a frame by whole pixels; NaN where it then says nothing."""
    moved = np.full(frame.shape, np.nan, np.float32)
    rows_into, rows_from = _overlap(rows, frame.shape[0])
    cols_into, cols_from = _overlap(cols, frame.shape[1])
    moved[rows_into, cols_into] = frame[rows_from, cols_from]
    return moved


def _overlap(step: int, n: int) -> tuple[slice, slice]:
    return slice(max(step, 0), n + min(step, 0)), slice(max(-step, 0), n - max(step, 0))
