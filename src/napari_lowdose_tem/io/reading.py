"""Any readable file or folder to an image."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.errors import as_value_error

_READERS = {
    ".tif": "tiff.read_tiff",
    ".tiff": "tiff.read_tiff",
    ".btf": "tiff.read_tiff",
    ".dm3": "dm.read_dm",
    ".dm4": "dm.read_dm",
    ".mrc": "mrc.read_mrc",
    ".mrcs": "mrc.read_mrc",
    ".ser": "ser.read_ser",
    ".emi": "ser.read_emi",
    ".emd": "emd.read_emd",
    ".zarr": "zarr.read_zarr",
}
READABLE_SUFFIXES = tuple(_READERS)
"""Endings of what `read` reads, in lower case; folders of numbered frames come on top."""

_ZARR_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


def read(path: str | Path) -> Image:
    """Read a file, an OME-Zarr folder or a folder of numbered frames.

    Parameters
    ----------
    path
        File or folder; the ending tells the format (`READABLE_SUFFIXES`).

    Returns
    -------
    Image
        Counts as stored, with the type of the file; calibration in nm, s and counts/e-. Stacks stay in their
        file until asked for. The provenance names source, format and reader; for a file written by this
        package it holds what was stored there too, with the first source under ``origin``.

    Raises
    ------
    ValueError
        With one line that names file, fault and remedy.
    FileNotFoundError, PermissionError
        As usual.
    """
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    reader = _reader(path)
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty; copy it again from where it was recorded")
    with as_value_error(path):
        image = reader(path)
        made = {"source": str(path), **{key: image.provenance[key] for key in ("format", "reader")}}
        name = path.stem.removesuffix(".ome")
        return image.with_data(image.data, name=name, provenance={**image.provenance, **made})


def can_read(path: str | Path) -> bool:
    """Tell from ending or folder content whether `read` would try; opens no file."""
    try:
        _reader(Path(path))
    except (ValueError, OSError):
        return False
    return True


def _reader(path: Path) -> Callable[[Path], Image]:
    suffix = path.suffix.lower()
    if path.is_dir() and suffix != ".zarr" and not any((path / name).exists() for name in _ZARR_FILES):
        from napari_lowdose_tem.io.folder import frame_files, read_folder

        frame_files(path)
        return read_folder
    if path.is_file() and suffix == ".zarr":
        raise ValueError(f"{path}: a file, but a Zarr is a folder; open the folder, or unpack it")
    if path.is_dir():
        suffix = ".zarr"
    if suffix not in _READERS:
        raise ValueError(
            f"{path}: cannot read {suffix or 'a file without ending'}; can read {' '.join(_READERS)}"
        )
    module, function = _READERS[suffix].split(".")
    reader: Callable[[Path], Image] = getattr(importlib.import_module(f".{module}", __package__), function)
    return reader
