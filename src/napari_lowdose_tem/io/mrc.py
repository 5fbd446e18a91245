"""Read and follow MRC files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import rosetta
from napari_lowdose_tem.io.fields import ImageFields
from napari_lowdose_tem.io.frames import RawFrames, as_pixels, even_offsets
from napari_lowdose_tem.io.growing import GrowingFile

_HEADER_BYTES = 1024
_STAMP_AT = 212
_BIG_ENDIAN = 0x11


def read_mrc(path: Path) -> Image:
    """Read a frame or a stack of counts as stored; stacks lazily.

    A sampling of exactly 1 Å, which programs write for "unset", is taken as unknown.
    """
    header = _read_header(path)
    offsets = even_offsets(header.offset, header.shape, header.dtype)
    return Image(as_pixels(RawFrames(path, header.shape, header.dtype, offsets)), **header.fields)


class GrowingMrc(GrowingFile):
    """Frames are counted by the size of the file, since many programs write their number last."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._header = _read_header(path, navigation_shape=(1,))
        self._frame_bytes = math.prod(self._header.shape) * self._header.dtype.itemsize
        if not self._frame_bytes:
            raise ValueError(f"{path}: the MRC header is not filled in yet")

    def count(self) -> int:
        """Count whole frames."""
        self._has_settled()
        return max(0, self._size - self._header.offset) // self._frame_bytes

    def _read_frame(self, index: int) -> Image:
        header = self._header
        with open(self.path, "rb") as file:
            file.seek(header.offset + index * self._frame_bytes)
            stored = np.frombuffer(file.read(self._frame_bytes), header.dtype)
        if stored.size < math.prod(header.shape):
            raise ValueError("it is cut short")
        frame = stored.reshape(header.shape[1:]).astype(header.dtype.newbyteorder("="))
        return Image(frame, **header.fields)


class _Header(NamedTuple):
    """Shape (frames, rows, columns), type in file order, offset of frame 0 [bytes], arguments of Image."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    fields: ImageFields


def _read_header(path: Path, **options: Any) -> _Header:
    """Read the header; mode 0 is read as uint8, as RosettaSciIO does."""
    with open(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        raise ValueError(f"{path}: shorter than an MRC header; copy it again from where it was recorded")
    order = ">" if header[_STAMP_AT] == _BIG_ENDIAN else "<"
    # without metadata_file=None, RosettaSciIO looks for other files of Direct Electron movies
    found = rosetta.signals(path, "mrc", endianness=order, metadata_file=None, **options)
    index, shape, provenance = rosetta.first_image(path, found)
    signal = found[index]
    fields = rosetta.calibration(signal["axes"])
    fields["frame_time_s"] = None  # the third axis is a depth or a bare number
    if all(math.isclose(axis["scale"], 0.1, rel_tol=1e-6) for axis in signal["axes"][-2:]):
        fields |= {"pixel_size_nm": None}
        fields["provenance"] = {"pixel_size_note": "1 Å/px is what MRC writers put for unset; left unknown"}
    fields["provenance"] |= provenance | {"format": "MRC"}
    offset = _HEADER_BYTES + int(signal["original_metadata"]["std_header"]["NEXT"])
    return _Header(shape, signal["data"].dtype.newbyteorder(order), offset, fields)
