"""Files in and out: `read` any, `write` TIFF, OME-TIFF and OME-Zarr, or stream to them with `open_writer`.

Units become nm, s and counts/e- here, once.
"""

from napari_lowdose_tem.io.reading import READABLE_SUFFIXES, can_read, read
from napari_lowdose_tem.io.writing import WRITABLE_SUFFIXES, StackWriter, open_writer, write

__all__ = [
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "StackWriter",
    "can_read",
    "open_writer",
    "read",
    "write",
]
