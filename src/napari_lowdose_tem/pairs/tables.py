"""Fields of view listed in a text file: a CSV of pairs, or a list of crops."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from napari_lowdose_tem.pairs.field import Field, find_factor, frame_shape
from napari_lowdose_tem.pairs.named import is_image, make_field

_COLUMNS = {"hde", "lde"}
_DIVIDERS = ",;\t"
_BETWEEN = r"(?:\s*[,;]\s*|\s+)"
_CROP = re.compile(
    _BETWEEN.join([r"(?P<hde>\S.*?)", *[r"(-?\d+)"] * 4, r"(?P<lde>\S.*?)", *[r"(-?\d+)"] * 2])
)
_FORM = "filename x1 y1 x2 y2 filename x1 y1"


def read_table(path: Path) -> list[Field]:
    """Read a CSV of pairs or a list of crops. Paths are relative to it; lines that start with # are left out.

    CSV
        The first line is ``hde,lde`` or ``hde,lde,set``; every further line names a high-dose frame, one of
        its low-dose frames and, if wished, the set to count it with. Several lines may name the same
        high-dose frame. Semicolons or tabs do as well as commas.
    List
        One pair a line, ``filename x1 y1 x2 y2 filename x1 y1``, divided by blanks or commas: the high-dose
        frame, the upper left corner of its crop and the lower right one, which is the first pixel outside;
        then the low-dose frame and the upper left corner of its crop. x counts columns, y counts rows, from
        0, each in pixels of its own frame. The crop of the low-dose frame covers the same field, so its size
        is that of the high-dose crop divided by the ratio of the frames' sizes (1 where both have 4096², as
        in the data of Katsuno et al. 2023; 8 for 4096² and 512²); rows and columns that do not fill a
        low-dose pixel are left out. Names may lack their ending and may lie in a folder ``images``, in the
        list's folder or beside it.

    Raises
    ------
    ValueError
        Naming the line that does not fit.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(
            f"{path}: no text file; give a folder, a CSV with the columns hde and lde, or a list of crops"
        ) from None
    rows = [(i, text) for i, line in enumerate(lines, 1) if (text := line.strip()) and text[0] != "#"]
    if not rows:
        raise ValueError(f"{path}: empty; it should list pairs of files")
    header = rows[0][1].casefold()
    divider = next((d for d in _DIVIDERS if d in header), ",")
    columns = [name.strip() for name in header.split(divider)]
    if set(columns) >= _COLUMNS:
        return _read_pairs(path, columns, divider, rows[1:])
    return [_read_crop(path, number, text) for number, text in rows]


def _read_pairs(path: Path, columns: list[str], divider: str, rows: list[tuple[int, str]]) -> list[Field]:
    ldes: dict[tuple[str, Path], list[Path]] = {}
    for number, text in rows:
        cells = next(csv.reader([text], delimiter=divider))
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
        missing = [name for name in ("hde", "lde") if not row.get(name)]
        if missing:
            raise ValueError(f"{path}, line {number}: no {missing[0]}; name a file in each column")
        hde, lde = (_find(path, number, row[name]) for name in ("hde", "lde"))
        ldes.setdefault((row.get("set") or path.stem, hde), []).append(lde)
    if not ldes:
        raise ValueError(f"{path}: no pairs below the header")
    return [make_field(set_name, hde, files) for (set_name, hde), files in ldes.items()]


def _read_crop(path: Path, number: int, text: str) -> Field:
    line = f"{path}, line {number}"
    found = _CROP.fullmatch(text)
    if found is None:
        raise ValueError(f"{line}: {text!r} is not {_FORM!r}; a CSV needs the header hde,lde")
    x1, y1, x2, y2, left, top = (int(found[i]) for i in (2, 3, 4, 5, 7, 8))
    hde, lde = (_find(path, number, found[name]) for name in ("hde", "lde"))
    hde_frame, lde_frame = frame_shape(hde), frame_shape(lde)
    factor = find_factor(hde, hde_frame, lde.name, lde_frame)
    rows, cols = (y2 - y1) // factor, (x2 - x1) // factor
    for name, (row, col), (n_rows, n_cols), shape in (
        (hde.name, (y1, x1), (rows * factor, cols * factor), hde_frame),
        (lde.name, (top, left), (rows, cols), lde_frame),
    ):
        inside = min(row, col) >= 0 and row + n_rows <= shape[0] and col + n_cols <= shape[1]
        if min(n_rows, n_cols) < 1 or not inside:
            raise ValueError(
                f"{line}: rows {row} to {row + n_rows} and columns {col} to {col + n_cols} of {name}, which "
                f"has {shape[0]} × {shape[1]} px; correct the corners"
            )
    high, low = (rows * factor, cols * factor), (rows, cols)
    return Field(path.stem, hde, (lde,), high, low, (y1, x1, *high), (top, left, *low))


def _find(table: Path, number: int, name: str) -> Path:
    """Find a file by its name, which may lack its ending."""
    folder = table.parent
    for place in (folder, folder / "images", folder.parent / "images"):
        path = place / name
        if path.exists():
            return path
        if matches := sorted(_with_ending(path)):
            return matches[0]
    raise ValueError(f"{table}, line {number}: {folder / name}: no such file")


def _with_ending(path: Path) -> Iterator[Path]:
    if path.parent.is_dir() and path.name:
        yield from (p for p in path.parent.iterdir() if p.stem == path.name and is_image(p))
