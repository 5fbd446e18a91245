"""Read FEI SER series, alone or through their EMI file.

By hand, because RosettaSciIO reads whole series into memory: a header, the offset of each frame, and before
each frame its calibration.
"""

from __future__ import annotations

import glob
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from napari_lowdose_tem import __version__
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.frames import RawFrames, as_pixels
from napari_lowdose_tem.io.names import natural_key
from napari_lowdose_tem.io.units import pixel_size_nm

_IMAGES = 0x4122
_WIDE_OFFSETS = 0x220
_TYPES = dict(enumerate(("u1", "<u2", "<u4", "i1", "<i2", "<i4", "<f4", "<f8", "<c8", "<c16"), start=1))
_FRAME_HEADER = "<ddiddiHii"


def read_ser(path: Path) -> Image:
    """Read a frame or a series of frames, counts as stored, first row on top; series lazily.

    An EMI file beside the SER file tells whether it is a diffraction pattern.
    """
    with open(path, "rb") as file:
        offsets = _frame_offsets(path, file)
        file.seek(offsets[0])
        _, x_m, _, _, y_m, _, code, cols, rows = _unpack(file, _FRAME_HEADER)
    dtype = np.dtype(_TYPES.get(code, "V"))
    if dtype.kind not in "buif":
        raise ValueError(f"{path}: pixels of type {code} ({dtype}) are no counts; export a real image")
    starts = [offset + struct.calcsize(_FRAME_HEADER) for offset in offsets]
    frames = RawFrames(path, (len(starts), rows, cols), dtype, starts, flip_rows=True)
    provenance: dict[str, Any] = {"format": "SER", "reader": f"napari-lowdose-tem {__version__}"}
    unit = "1/m" if "diffraction" in _mode(path) else "m"
    size, note = pixel_size_nm(y_m, x_m, unit, unit)
    if note:
        provenance["pixel_size_note"] = note
    return Image(as_pixels(frames), pixel_size_nm=size, provenance=provenance)


def read_emi(path: Path) -> Image:
    """Read the first SER series of an EMI file, which itself holds only the settings of the microscope.

    Its series are ``NAME_1.ser``, ``NAME_2.ser`` … beside it.
    """
    series = sorted(path.parent.glob(f"{glob.escape(path.stem)}_*.[sS][eE][rR]"), key=natural_key)
    if not series:
        raise ValueError(f"{path}: has no {path.stem}_1.ser beside it; copy both")
    image = read_ser(series[0])
    others = {"other_images": [other.name for other in series[1:]]} if series[1:] else {}
    return image.with_provenance(series=series[0].name, **others)


def _frame_offsets(path: Path, file: BinaryIO) -> list[int]:
    order, series_id, version, kind, _, _, n_valid = _unpack(file, "<HHHiiii")
    if (order, series_id) != (0x4949, 0x0197):
        raise ValueError(f"{path}: does not start like a SER file; copy it again from where it was recorded")
    if kind != _IMAGES:
        raise ValueError(f"{path}: holds spectra, no images; export an image")
    offset_type = "Q" if version >= _WIDE_OFFSETS else "I"
    start, n_axes = _unpack(file, f"<{offset_type}i")
    if n_valid < 1:
        raise ValueError(f"{path}: holds no finished frame; the acquisition was stopped before the first")
    sizes = []
    for _ in range(n_axes):
        size, _, _, _, length = _unpack(file, "<iddii")
        file.seek(length, 1)
        file.seek(*(_unpack(file, "<i")[0], 1))
        sizes.append(size)
    if sum(size > 1 for size in sizes) > 1:
        raise ValueError(
            f"{path}: a map of {' by '.join(map(str, sizes))} frames; needs one frame or one series of frames"
        )
    file.seek(start)
    return list(_unpack(file, f"<{n_valid}{offset_type}"))


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _mode(path: Path) -> str:
    """Return the microscope's mode from the EMI file beside, in lower case; empty if unknown."""
    emi = path.with_name(f"{re.sub(r'_[0-9]+$', '', path.stem)}.emi")
    if not emi.exists():
        return ""
    found = re.search(rb"<Label>Mode</Label>\s*<Value>([^<]*)", emi.read_bytes())
    return found[1].decode("latin-1").casefold() if found else ""
