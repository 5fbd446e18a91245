"""Fields of view found in folders, tables and lists, from file names and headers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_lowdose_tem.io import READABLE_SUFFIXES, natural_key, read_shape
from napari_lowdose_tem.pairs import named, tables
from napari_lowdose_tem.pairs.field import TIFF_SUFFIXES, Field, Shape, frame_shape

_SMALLEST_PX = 16


def find_fields(source: str | Path, hde_only_factor: int | None = None) -> list[Field]:
    """Find fields of view, from file names and headers; no pixel is read.

    Parameters
    ----------
    source
        One of these:

        - A set, or a folder of sets. A set is a folder of frames in natural order: a high-dose frame, then
          one or more low-dose frames of the same field, then the next field. High-dose frames are the larger
          ones. Stacks are left out, and so is what lies beside sets.
        - A set may instead tell the two apart by name: folders ``hde`` and ``lde`` (or ``high`` and ``low``)
          with files of equal or corresponding names, or one folder with names such as ``x_hde.tif``,
          ``x_lde.tif``, ``x_lde_2.tif``, as `named.find_named` takes them.
        - A table or list of files, as `tables.read_table` takes them.
        - High-dose frames alone, all of one size, where `hde_only_factor` is given.
    hde_only_factor
        High-dose pixels along a pixel of the low-dose frames to be drawn from them, 8 for 4096 → 512; such
        fields have no low-dose frames. None to refuse them.

    Raises
    ------
    ValueError
        Naming the folder or file that does not fit.
    """
    source = Path(source)
    if source.is_file():
        if source.suffix.lower() in READABLE_SUFFIXES:
            raise ValueError(f"{source}: one image; give the folder that holds the high- and low-dose frames")
        return tables.read_table(source)
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder")
    if hde_only_factor is not None and hde_only_factor < 1:
        raise ValueError(f"factor {hde_only_factor} is not positive; 8 reduces 4096 px to 512 px")
    if fields := named.find_named(source):
        return fields
    places = sorted(
        (p for p in source.iterdir() if p.is_dir() and not p.name.startswith(".")), key=natural_key
    )
    by_name = {place: fields for place in places if (fields := named.find_named(place))}
    sets = {place: shapes for place in places if place not in by_name and (shapes := _frame_shapes(place))}
    # frames beside sets are movies of one frame, overviews and the like
    paired = by_name or any(len(set(shapes.values())) > 1 for shapes in sets.values())
    if not paired and (own := _frame_shapes(source)):
        sets = {source: own}
    if not sets and not by_name:
        raise ValueError(
            f"{source}: no TIFF frames in it or in its folders, nor other readable ones; needs a high-dose "
            "frame followed by low-dose frames of the same field, and so on"
        )
    return [
        field
        for place in sorted({*sets, *by_name}, key=natural_key)
        for field in by_name.get(place) or _pair(place, sets[place], hde_only_factor)
    ]


def _frame_shapes(place: Path) -> dict[Path, Shape]:
    files = [p for p in place.iterdir() if p.is_file() and not p.name.startswith(".")]
    shapes = {}
    for path in sorted((p for p in files if p.suffix.lower() in TIFF_SUFFIXES), key=natural_key):
        shape = read_shape(path)
        if len(shape) == 2:
            shapes[path] = (shape[0], shape[1])
    return shapes or {
        path: frame_shape(path) for path in sorted(filter(named.is_image, files), key=natural_key)
    }


def _pair(place: Path, shapes: dict[Path, Shape], hde_only_factor: int | None) -> list[Field]:
    low = min(shapes.values(), key=math.prod)
    if len(set(shapes.values())) == 1:
        if hde_only_factor is not None:
            return [_hde_only(place.name, path, low, hde_only_factor) for path in shapes]
        raise ValueError(
            f"{place}: no pairs, all {len(shapes)} frames have {low[0]} × {low[1]} px; high-dose frames "
            "must have more pixels than low-dose frames (or name the two hde and lde); to train on high-dose "
            "frames alone, say by how much they are to be reduced (HDE factor, 8 for 4096 to 512 px)"
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


def _hde_only(set_name: str, path: Path, shape: Shape, factor: int) -> Field:
    rows, cols = shape[0] // factor, shape[1] // factor
    if min(rows, cols) < _SMALLEST_PX:
        raise ValueError(
            f"{path}: {shape[0]} × {shape[1]} px reduced {factor} times leaves {rows} × {cols} px; "
            f"needs {_SMALLEST_PX} px a side: choose a smaller factor"
        )
    used = (rows * factor, cols * factor)
    return Field(set_name, path, (), used, (rows, cols), None if used == shape else (0, 0, *used))
