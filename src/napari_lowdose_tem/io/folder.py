"""Read a folder of numbered frames as a stack."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.formats import READABLE_SUFFIXES, read_file
from napari_lowdose_tem.io.frames import LazyFrames, as_pixels
from napari_lowdose_tem.io.names import natural_key

_SAME_KIND = {".tiff": ".tif", ".dm4": ".dm3"}


def frame_files(path: Path) -> list[Path]:
    """List the frames of a folder in natural order.

    Raises
    ------
    ValueError
        For a folder without readable files, and for one with several kinds.
    """
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    # an EMI file only describes its SER file, and a Zarr store is not a single frame
    files = [
        Path(path, name)
        for name in names
        if Path(name).suffix.lower() in READABLE_SUFFIXES and not name.lower().endswith((".emi", ".zarr"))
    ]
    if not files:
        raise ValueError(
            f"{path}: holds no readable image among {len(names)} files; "
            f"can read {' '.join(READABLE_SUFFIXES)}"
        )
    kinds = Counter(_SAME_KIND.get(file.suffix.lower(), file.suffix.lower()) for file in files)
    if len(kinds) > 1:
        listing = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise ValueError(f"{path}: holds {listing}; keep one kind in the folder, or open a single file")
    return sorted(files, key=natural_key)


def read_folder(path: Path) -> Image:
    """Read a folder of frames of one shape, type and sampling, lazily, with the calibration of the first.

    Other files are left out, and counted in the provenance.

    Raises
    ------
    ValueError
        Naming the file that differs.
    """
    files = frame_files(path)
    first = read_file(files[0])
    if first.is_stack:
        raise ValueError(f"{files[0]}: a stack of {first.n_frames} frames in a folder; open the file itself")
    # Uncompressed files of equal size have frames of equal shape, so one of each size is opened here; the
    # others are checked when their frame is read.
    sizes: set[int] = {files[0].stat().st_size}
    for file in files[1:]:
        if (size := file.stat().st_size) not in sizes:
            sizes.add(size)
            _check_like(_kind_of(first), read_file(file), file)
    with os.scandir(path) as entries:
        ignored = sum(1 for _ in entries) - len(files)
    provenance = {
        **first.provenance,
        "format": f"{len(files)} frames, {first.provenance['format']}",
        "first_frame": files[0].name,
        "last_frame": files[-1].name,
        "ignored_files": ignored,
    }
    data = as_pixels(_FolderFrames(path, files, first))
    return first.with_data(data, provenance=provenance)


def _kind_of(image: Image) -> dict[str, Any]:
    """Return what all frames of a movie have in common."""
    return {"shape": image.data.shape, "type": image.data.dtype, "pixel size (nm)": image.pixel_size_nm}


def _check_like(kind: dict[str, Any], image: Image, file: Path) -> None:
    for what, found in _kind_of(image).items():
        if found != kind[what]:
            raise ValueError(
                f"{file}: {what} {found}, but the first frame of the folder has {kind[what]}; "
                "move it out of the folder"
            )


class _FolderFrames(LazyFrames):
    def __init__(self, path: Path, files: list[Path], first: Image) -> None:
        super().__init__(path, (len(files), *first.frame_shape), first.data.dtype)
        self._files = files
        self._kind = _kind_of(first)

    def _open(self) -> Any:
        return self._files

    def _read_frame(self, handle: Any, index: int) -> npt.NDArray[Any]:
        image = read_file(handle[index])
        _check_like(self._kind, image, handle[index])
        frame: npt.NDArray[Any] = image.frames(0, 1)[0]
        return frame
