"""High- and low-dose frames of the same fields: found in a folder, brought to one grid, registered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_lowdose_tem.io.folder import natural
from napari_lowdose_tem.io.tiff import tiff_shape

Floats = npt.NDArray[np.float64]
Shape = tuple[int, int]

_LARGEST_SHIFT_PX = 8
_LARGEST_ERROR_PX = 0.5
_TIFF = (".tif", ".tiff")


@dataclass(frozen=True)
class Field:
    """A field of view: its high-dose frame, the low-dose frames that follow it, and their shapes [px]."""

    set_name: str
    hde: Path
    ldes: tuple[Path, ...]
    hde_shape: Shape
    lde_shape: Shape

    @property
    def factor(self) -> int:
        """High-dose pixels along a low-dose pixel."""
        return self.hde_shape[0] // self.lde_shape[0]


def find_fields(folder: str | Path) -> list[Field]:
    """Find the fields of view below a folder, from file names and headers.

    Parameters
    ----------
    folder
        A set, or a folder of sets. A set is a folder of TIFF frames in natural order: a high-dose frame,
        then one or more low-dose frames of the same field, then the next field. High-dose frames are the
        larger ones. Stacks are left out, and so is what lies beside sets.

    Raises
    ------
    ValueError
        Naming the folder or file that does not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    places = sorted((p for p in folder.iterdir() if p.is_dir()), key=natural)
    sets = {place: shapes for place in places if (shapes := _frame_shapes(place))}
    # frames beside sets are movies of one frame, overviews and the like
    if not any(len(set(shapes.values())) > 1 for shapes in sets.values()) and (own := _frame_shapes(folder)):
        sets = {folder: own}
    if not sets:
        raise ValueError(
            f"{folder}: no TIFF frames in it or in its folders; needs a high-dose frame followed by "
            "low-dose frames of the same field, and so on"
        )
    return [field for place, shapes in sets.items() for field in _pair(place, shapes)]


def _frame_shapes(place: Path) -> dict[Path, Shape]:
    shapes = {}
    files = [p for p in place.iterdir() if p.suffix.lower() in _TIFF and not p.name.startswith(".")]
    for path in sorted(files, key=natural):
        shape = tiff_shape(path)
        if len(shape) == 2:
            shapes[path] = (shape[0], shape[1])
    return shapes


def _pair(place: Path, shapes: dict[Path, Shape]) -> list[Field]:
    low = min(shapes.values(), key=math.prod)
    if len(set(shapes.values())) == 1:
        raise ValueError(
            f"{place}: no pairs, all {len(shapes)} frames have {low[0]} × {low[1]} px; high-dose frames "
            "must have more pixels than low-dose frames"
        )
    fields: list[Field] = []
    for path, shape in shapes.items():
        if shape == low:
            if not fields:
                raise ValueError(
                    f"{path}: a low-dose frame ({low[0]} × {low[1]} px) before any high-dose frame; "
                    "name the files so that each high-dose frame comes first"
                )
            last = fields.pop()
            fields.append(replace(last, ldes=(*last.ldes, path)))
            continue
        if shape[0] % low[0] or shape[1] % low[1] or shape[0] // low[0] != shape[1] // low[1]:
            raise ValueError(
                f"{path}: {shape[0]} × {shape[1]} px is not a whole multiple of the low-dose frames' "
                f"{low[0]} × {low[1]} px; crop or export it again"
            )
        _check_followed(fields)
        fields.append(Field(place.name, path, (), shape, low))
    _check_followed(fields)
    return fields


def _check_followed(fields: Sequence[Field]) -> None:
    if fields and not fields[-1].ldes:
        raise ValueError(
            f"{fields[-1].hde}: no low-dose frame follows this high-dose frame; add it or remove this"
        )


def reduce_frame(frame: npt.NDArray[Any], factor: int, how: str = "area") -> Floats:
    """Reduce a frame (rows, columns) `factor` times.

    Parameters
    ----------
    frame
        Counts; rows and columns multiples of `factor`.
    factor
        Pixels along a pixel of the result.
    how
        "area" averages all pixels; "paper" interpolates bilinearly at the new pixels' centres, as the authors
        do, and so uses 2 × 2 pixels at most.
    """
    rows, cols = (n // factor for n in frame.shape)
    if how == "area":
        return np.asarray(frame.reshape(rows, factor, cols, factor).mean((1, 3), dtype=np.float64))
    if how != "paper":
        raise ValueError(f"unknown reduction {how!r}; choose area or paper")
    scale, start = [float(factor)] * 2, (factor - 1) / 2
    return np.asarray(
        ndimage.affine_transform(
            frame, scale, start, (rows, cols), np.float64, order=1, mode="nearest", prefilter=False
        )
    )


def find_shift(reference: npt.NDArray[Any], image: npt.NDArray[Any]) -> tuple[float, float]:
    """Find how far `image` lies off `reference`: the shift of least squares between their fine structure.

    Parameters
    ----------
    reference
        Nearly noise-free frame (rows, columns).
    image
        Noisy frame of the same shape.

    Returns
    -------
    rows, columns
        Shift [px]; zeros where none within 8 px is found to 0.5 px (predicted standard error).
    """
    reach, shape = _LARGEST_SHIFT_PX, reference.shape
    if min(shape) < 8 * reach:
        return 0.0, 0.0
    known, noisy = _fill(reference), _fill(image)
    a, b = _structure(known), _structure(noisy)
    b -= b.mean(1, keepdims=True)  # read-out rows carry offsets of their own
    inner = np.zeros(shape)
    inner[reach:-reach, reach:-reach] = 1

    def correlate(x: Floats, y: Floats) -> Floats:
        product = np.fft.irfft2(np.fft.rfft2(x) * np.fft.rfft2(y).conj(), s=shape)
        return np.asarray(np.roll(product, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1])

    overlap, energy = correlate(inner * b, a), correlate(inner, a * a)
    match = overlap / np.sqrt(np.maximum(energy, np.finfo(float).tiny))
    row, col = (int(i) for i in np.unravel_index(np.argmax(match), match.shape))
    if not (match[row, col] > 0 and 0 < row < 2 * reach and 0 < col < 2 * reach):
        return 0.0, 0.0
    contrast = overlap[row, col] / energy[row, col]
    noise = float(np.std(noisy - ndimage.gaussian_filter(noisy, 2.0)))
    for slope in (np.gradient(a, axis=0), np.gradient(a, axis=1)):
        if noise * np.linalg.norm(_structure(slope)) > _LARGEST_ERROR_PX * contrast * np.sum(slope**2):
            return 0.0, 0.0
    return (
        row - reach + _vertex(match[row - 1 : row + 2, col]),
        col - reach + _vertex(match[row, col - 1 : col + 2]),
    )


def _structure(frame: Floats) -> Floats:
    """Keep what is between 1 and 20 px wide."""
    return np.asarray(ndimage.gaussian_filter(frame, 1.0) - ndimage.gaussian_filter(frame, 20.0))


def _fill(frame: npt.NDArray[Any]) -> Floats:
    pixels = np.asarray(frame, np.float64)
    finite = np.isfinite(pixels)
    return np.where(finite, pixels, pixels[finite].mean() if finite.any() else 0.0)


def _vertex(values: npt.NDArray[Any]) -> float:
    """Offset of the top of the parabola through three values about a maximum."""
    before, top, after = (float(v) for v in values)
    bend = before - 2 * top + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
