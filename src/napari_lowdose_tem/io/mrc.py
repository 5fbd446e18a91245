"""Read MRC files."""

from __future__ import annotations

import math
from pathlib import Path

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import rosetta as _rosetta
from napari_lowdose_tem.io.frames import RawFrames, evenly, pixels

_HEADER_BYTES = 1024
_STAMP_AT = 212
_BIG_ENDIAN = 0x11


def read_mrc(path: Path) -> Image:
    """Read a frame or a stack; stacks lazily.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Image
        Stored counts. The sampling of exactly 1 Å that programs write for "unset" is taken as unknown.
    """
    with open(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        raise ValueError(f"{path}: shorter than an MRC header; copy it again from where it was recorded")
    order = ">" if header[_STAMP_AT] == _BIG_ENDIAN else "<"
    # RosettaSciIO looks for companions of Direct Electron movies unless told not to
    found = _rosetta.signals(path, "mrc", endianness=order, metadata_file=None)
    index, shape, provenance = _rosetta.first_image(path, found)
    signal = found[index]
    dtype = signal["data"].dtype.newbyteorder(order)
    offset = _HEADER_BYTES + int(signal["original_metadata"]["std_header"]["NEXT"])
    fields = _rosetta.calibration(signal["axes"])
    fields["frame_time_s"] = None  # the third axis is a depth or a bare number
    if all(math.isclose(axis["scale"], 0.1, rel_tol=1e-6) for axis in signal["axes"][-2:]):
        fields |= {"pixel_size_nm": None}
        fields["provenance"] = {"pixel_size_note": "1 Å/px is what MRC writers put for unset; left unknown"}
    fields["provenance"] |= provenance | {"format": "MRC"}
    return Image(pixels(RawFrames(path, shape, dtype, evenly(offset, shape, dtype))), **fields)
