"""Fields of view found in folders, tables and lists, from file names and headers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_lowdose_tem.io.folder import natural
from napari_lowdose_tem.io.tiff import tiff_shape
from napari_lowdose_tem.pairs.field import TIFF_SUFFIXES as _TIFF
from napari_lowdose_tem.pairs.field import Field, Shape


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
