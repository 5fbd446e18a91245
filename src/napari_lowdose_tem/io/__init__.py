"""The only door to files.

`read` any format, `write` TIFF, OME-TIFF and OME-Zarr, stream to them with `open_writer`, follow a growing
file with `open_growing`. Units become nm, s and counts/e- here, once.
"""

from napari_lowdose_tem.io.formats import READABLE_SUFFIXES, check_growing, is_zarr, open_growing
from napari_lowdose_tem.io.growing import GrowingFile
from napari_lowdose_tem.io.names import image_name, natural_key
from napari_lowdose_tem.io.output import OutputLock, disk_full_explained, replacing, write_text
from napari_lowdose_tem.io.reading import can_read, read, read_shape
from napari_lowdose_tem.io.stack_writer import WRITABLE_SUFFIXES, StackWriter
from napari_lowdose_tem.io.writing import open_writer, write
from napari_lowdose_tem.io.zarr_store import ZarrAppender, ZarrStore, open_partial_zarr

__all__ = [
    "READABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "GrowingFile",
    "OutputLock",
    "StackWriter",
    "ZarrAppender",
    "ZarrStore",
    "can_read",
    "check_growing",
    "disk_full_explained",
    "image_name",
    "is_zarr",
    "natural_key",
    "open_growing",
    "open_partial_zarr",
    "open_writer",
    "read",
    "read_shape",
    "replacing",
    "write",
    "write_text",
]
