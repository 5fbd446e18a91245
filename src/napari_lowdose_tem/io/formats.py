"""The table of file formats: which module reads a file, and which follows one that grows."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.errors import as_value_error
from napari_lowdose_tem.io.names import image_name

if TYPE_CHECKING:
    from napari_lowdose_tem.io.growing import GrowingFile


class Format(NamedTuple):
    """What handles files of one ending, as MODULE.NAME in this package; imported when first needed."""

    reader: str
    follower: str = ""


_TIFF = Format("tiff.read_tiff", "tiff.GrowingTiff")
_MRC = Format("mrc.read_mrc", "mrc.GrowingMrc")
_FORMATS = {
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".btf": _TIFF,
    ".dm3": Format("dm.read_dm"),
    ".dm4": Format("dm.read_dm"),
    ".mrc": _MRC,
    ".mrcs": _MRC,
    ".ser": Format("ser.read_ser"),
    ".emi": Format("ser.read_emi"),
    ".emd": Format("emd.read_emd"),
    ".zarr": Format("zarr.read_zarr", "zarr.GrowingZarr"),
}
READABLE_SUFFIXES = tuple(_FORMATS)
"""Endings `read` takes, in lower case; it also reads folders of numbered frames."""

GROWING_SUFFIXES = tuple(suffix for suffix, entry in _FORMATS.items() if entry.follower)
"""Endings `open_growing` takes."""

ZARR_METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
"""Files that make a folder a Zarr store."""


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr store, whatever its name."""
    return path.suffix.lower() == ".zarr" or any((path / name).exists() for name in ZARR_METADATA)


def find_format(path: Path) -> Format:
    """Look up a file or Zarr store by its ending; opens no file. ValueError for what cannot be read."""
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".zarr":
        raise ValueError(f"{path}: a file, but a Zarr is a folder; open the folder, or unpack it")
    if path.is_dir():
        suffix = ".zarr"
    if suffix not in _FORMATS:
        raise ValueError(
            f"{path}: cannot read {suffix or 'a file without ending'}; can read {' '.join(_FORMATS)}"
        )
    return _FORMATS[suffix]


def read_file(path: Path) -> Image:
    """Read one file or Zarr store; `reading.read` describes the result.

    Raises
    ------
    ValueError
        With one line that names file, fault and remedy.
    """
    entry = find_format(path)
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty; copy it again from where it was recorded")
    with as_value_error(path):
        return with_source(_load(entry.reader)(path), path)


def with_source(image: Image, path: Path) -> Image:
    """Name an image after the file it was read from, and record that file."""
    made = {"source": str(path), **{key: image.provenance[key] for key in ("format", "reader")}}
    return image.with_data(image.data, name=image_name(path), provenance={**image.provenance, **made})


def check_growing(path: Path) -> None:
    """Check by the ending that a file can be followed while it grows; it need not exist yet.

    Raises
    ------
    ValueError
        Naming the endings that can be followed.
    """
    suffix = path.suffix.lower()
    if suffix not in GROWING_SUFFIXES:
        raise ValueError(
            f"{path}: cannot follow {suffix or 'a file without ending'} while it grows; "
            f"can follow {' '.join(GROWING_SUFFIXES)} and folders of single frames, "
            "or replay it when it is complete"
        )


def open_growing(path: Path) -> GrowingFile:
    """Open a TIFF, MRC or Zarr file that another program appends frames to.

    Raises
    ------
    ValueError
        For another ending (`check_growing`), and while the header is not complete.
    OSError
        When it cannot be opened.
    """
    check_growing(path)
    follower: GrowingFile = _load(_FORMATS[path.suffix.lower()].follower)(path)
    return follower


def _load(name: str) -> Any:
    module, attribute = name.split(".")
    return getattr(importlib.import_module(f".{module}", __package__), attribute)
