"""Read any file or folder as an image."""

from __future__ import annotations

import os
from pathlib import Path

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.errors import as_value_error
from napari_lowdose_tem.io.folder import frame_files, read_folder
from napari_lowdose_tem.io.formats import find_format, is_zarr, read_file, with_source
from napari_lowdose_tem.io.frames import headers_only


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
        package it also holds what was stored there, with the first source under ``origin``.

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
    if not _is_folder_of_frames(path):
        return read_file(path)
    with as_value_error(path):
        return with_source(read_folder(path), path)


def can_read(path: str | Path) -> bool:
    """Tell from ending or folder content whether `read` would try; opens no file."""
    path = Path(path)
    try:
        if _is_folder_of_frames(path):
            frame_files(path)
        else:
            find_format(path)
    except (ValueError, OSError):
        return False
    return True


def read_shape(path: Path) -> tuple[int, ...]:
    """Give the shape of the image in a file from its headers, without axes of length 1 [px].

    Raises
    ------
    ValueError
        For what cannot be read.
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        from napari_lowdose_tem.io.tiff import tiff_shape

        return tiff_shape(path)
    with headers_only():
        image = read(path)
    return image.frame_shape if image.n_frames == 1 else tuple(image.data.shape)


def _is_folder_of_frames(path: Path) -> bool:
    return path.is_dir() and not is_zarr(path)
