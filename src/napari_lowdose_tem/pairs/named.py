"""Sets whose file or folder names tell high-dose from low-dose frames."""

from __future__ import annotations

import re
from pathlib import Path

from napari_lowdose_tem.io import READABLE_SUFFIXES, natural_key
from napari_lowdose_tem.pairs.field import Field, Shape, find_factor, frame_shape

_HIGH = ("hde", "high", "high_dose", "high-dose", "highdose")
_LOW = ("lde", "low", "low_dose", "low-dose", "lowdose")
_ROLE = re.compile(
    rf"(?:^|[_\-. ])(?:(?P<high>{'|'.join(_HIGH)})|(?P<low>{'|'.join(_LOW)}))(?=$|[_\-. ])", re.IGNORECASE
)
_REPEAT = re.compile(r"[_\-. ][0-9]+$")


def find_named(place: Path) -> list[Field]:
    """Find the fields of one set whose names tell high-dose from low-dose frames; none if they do not.

    A low-dose frame belongs to the high-dose frame of the same name without ``hde`` or ``lde``, or of that
    name less a number at its end: ``x_hde.tif`` has ``x_lde.tif``, ``x_lde_1.tif`` and ``x_lde_2.tif``;
    ``hde/x.dm4`` has ``lde/x.dm4``.

    Raises
    ------
    ValueError
        Naming a frame without partner, and frames whose sizes do not go together.
    """
    folders = {p.name.casefold(): p for p in place.iterdir() if p.is_dir()}
    high, low = (next((folders[n] for n in names if n in folders), None) for names in (_HIGH, _LOW))
    if high is not None and low is not None:
        highs = {_rest(path)[1]: path for path in _images(high)}
        lows = [(_rest(path)[1], path) for path in _images(low)]
    else:
        roles = [(*_rest(path), path) for path in _images(place)]
        highs = {rest: path for role, rest, path in roles if role == "high"}
        lows = [(rest, path) for role, rest, path in roles if role == "low"]
        if not highs or not lows:
            return []
    return _match(place, highs, lows)


def is_image(path: Path) -> bool:
    """Whether a file looks like one `read` reads (an EMI file only describes its SER)."""
    return path.is_file() and path.suffix.lower() in READABLE_SUFFIXES and path.suffix.lower() != ".emi"


def _images(folder: Path) -> list[Path]:
    files = (p for p in folder.iterdir() if not p.name.startswith(".") and is_image(p))
    return sorted(files, key=lambda p: natural_key(p.with_suffix("")))  # x before x_2


def _rest(path: Path) -> tuple[str, str]:
    """Give the role that a name tells ("high", "low" or none) and the name without it."""
    name = path.name.removesuffix(path.suffix).removesuffix(".ome")
    roles = list(_ROLE.finditer(name))
    if not roles:
        return "", name.casefold()
    last = roles[-1]
    return last.lastgroup or "", (name[: last.start()] + name[last.end() :]).casefold()


def _match(place: Path, highs: dict[str, Path], lows: list[tuple[str, Path]]) -> list[Field]:
    ldes: dict[str, list[Path]] = {name: [] for name in highs}
    for name, path in lows:
        owner = name if name in highs else _REPEAT.sub("", name)
        if owner not in highs:
            raise ValueError(
                f"{path}: no high-dose frame of the same name; rename it, or list the pairs in a CSV file"
            )
        ldes[owner].append(path)
    return [make_field(place.name, path, ldes[name]) for name, path in highs.items()]


def make_field(set_name: str, hde: Path, ldes: list[Path]) -> Field:
    """Make a field of frames that belong together, whose sizes must go together."""
    if not ldes:
        raise ValueError(f"{hde}: no low-dose frame belongs to this high-dose frame; add it or remove this")
    hde_shape, shapes = frame_shape(hde), [frame_shape(path) for path in ldes]
    lde_shape: Shape = shapes[0]
    for path, shape in zip(ldes, shapes, strict=True):
        if shape != lde_shape:
            raise ValueError(
                f"{path}: {shape[0]} × {shape[1]} px, but {ldes[0].name} of the same field has "
                f"{lde_shape[0]} × {lde_shape[1]} px; export them alike"
            )
    find_factor(hde, hde_shape, ldes[0].name, lde_shape)
    return Field(set_name, hde, tuple(ldes), hde_shape, lde_shape)
