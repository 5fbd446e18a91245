"""Read and follow TIFF: DigitalMicrograph's, ImageJ's, OME's and plain files."""

from __future__ import annotations

import os
import struct
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.errors import as_value_error, quiet
from napari_lowdose_tem.io.fields import ImageFields
from napari_lowdose_tem.io.frames import NEEDS, LazyFrames, RawFrames, as_pixels, even_offsets, stack_shape
from napari_lowdose_tem.io.growing import GrowingFile
from napari_lowdose_tem.io.tiff_calibration import calibration

if TYPE_CHECKING:
    import dask.array as da

# what tifffile logs, and ignores, when the chain of pages leaves the file
_CUT_SHORT = ("invalid page offset", "corrupted tag list", "invalid offset to", "corrupted file")


def read_tiff(path: Path) -> Image:
    """Read the first image of a TIFF file, at full resolution, counts as stored; stacks lazily.

    Raises
    ------
    ValueError
        For colour, complex or more than three axes, and for a file that is cut short.
    """
    import tifffile

    with quiet("tifffile") as log, tifffile.TiffFile(path) as tif:
        series = next(iter(tif.series), None)
        if series is None:
            raise ValueError(f"{path}: holds no image; export it again")
        shape = _frame_stack_shape(path, series)
        data = _pixels(path, series, shape)
        if any(sign in message for message in log for sign in _CUT_SHORT):
            raise ValueError(
                f"{path}: cut short or damaged: {log[0]}; copy it again from where it was recorded"
            )
        fields = _image_fields(tif)
        if len(tif.series) > 1:
            others = [f"{s.name or s.kind} {s.shape} {s.dtype}" for s in tif.series[1:]]
            fields["provenance"]["other_images"] = others
    return Image(data, **fields)


def tiff_shape(path: Path) -> tuple[int, ...]:
    """Give the shape of the first image of a TIFF file, without axes of length 1, from its headers.

    Raises
    ------
    ValueError
        For a file that cannot be read.
    """
    import tifffile

    with as_value_error(path), quiet("tifffile"), tifffile.TiffFile(path) as tif:
        return tuple(int(n) for n in tif.series[0].shape if n > 1)


class GrowingTiff(GrowingFile):
    """Pages of a TIFF that grows.

    Their chain is followed by hand: tifffile would start at the first page at every poll, here only what is
    new is read.
    """

    def __init__(self, path: Path) -> None:
        import tifffile

        super().__init__(path)
        with as_value_error(path), quiet("tifffile"):
            self._tif = tifffile.TiffFile(path)
        try:
            with as_value_error(path), quiet("tifffile"):
                self._fields = _image_fields(self._tif)
        except BaseException:
            self._tif.close()
            raise
        self._link_at = 8 if self._tif.is_bigtiff else 4  # where the offset of the next page is
        self._offsets = array("Q")

    def count(self) -> int:
        """Count pages, the last one only when it did not just begin."""
        has_settled = self._has_settled()
        tiff = self._tif.tiff
        with open(self.path, "rb") as file:
            while True:
                offset = _read_number(file, tiff.offsetformat, self._link_at)
                n_tags = _read_number(file, tiff.tagnoformat, offset) if offset else 0
                if not n_tags or offset in (*self._offsets[:1], *self._offsets[-1:]):
                    break
                self._offsets.append(offset)
                self._link_at = offset + tiff.tagnosize + n_tags * tiff.tagsize
        n_pages = len(self._offsets)
        return n_pages if has_settled else max(0, n_pages - 1)

    def close(self) -> None:
        """Close the file."""
        self._tif.close()

    def _read_frame(self, index: int) -> Image:
        import tifffile

        with quiet("tifffile"):
            self._tif.filehandle.seek(self._offsets[index])
            page = tifffile.TiffPage(self._tif, index)
            _check_grey(self.path, page)
            _check_inside(self.path, page)
            frame = page.asarray()
        return Image(frame.astype(frame.dtype.newbyteorder("="), copy=False), **self._fields)


class _TiffPages(LazyFrames):
    """Frames that need decoding, a page each."""

    def _open(self) -> Any:
        import tifffile

        with quiet("tifffile"):
            return tifffile.TiffFile(self.path)

    def _read_frame(self, handle: Any, index: int) -> npt.NDArray[Any]:
        page = handle.series[0].pages[index]
        _check_inside(self.path, page)
        frame: npt.NDArray[Any] = page.asarray().reshape(self.shape[1:])
        return frame


def _pixels(path: Path, series: Any, shape: tuple[int, int, int]) -> npt.NDArray[Any] | da.Array:
    if series.dataoffset is not None:
        stored = np.dtype(series.dtype).newbyteorder(series.keyframe.parent.byteorder)
        return as_pixels(RawFrames(path, shape, stored, even_offsets(series.dataoffset, shape, stored)))
    for page in (series.keyframe, series[-1]):
        _check_inside(path, page)
    if len(series.pages) == shape[0] > 1:
        return _TiffPages(path, shape, series.dtype).dask()
    # one frame, or a compressed volume in one page, which cannot be read in parts
    data: npt.NDArray[Any] = series.asarray().reshape(shape if shape[0] > 1 else shape[1:])
    return data.astype(data.dtype.newbyteorder("="), copy=False)


def _frame_stack_shape(path: Path, series: Any) -> tuple[int, int, int]:
    """Give (frames, rows, columns), without the axes of length 1."""
    _check_grey(path, series)
    shape = stack_shape(series.shape)
    if series.axes[-2:] != "YX" or shape is None:
        raise ValueError(f"{path}: axes {series.axes} of shape {series.shape}; {NEEDS}")
    return shape


def _image_fields(tif: Any) -> ImageFields:
    """Read calibration and provenance of an open file."""
    import tifffile

    fields = calibration(tif)
    fields["provenance"] |= {
        "format": "OME-TIFF" if tif.is_ome else "TIFF",
        "reader": f"tifffile {tifffile.__version__}",
    }
    return fields


def _check_grey(path: Path, part: Any) -> None:
    """Raise if a page or series has colours."""
    if "S" in part.axes:
        raise ValueError(
            f"{path}: a colour image, axes {part.axes} of shape {part.shape}; colours are not counts: "
            "convert it to grey first, or export the original"
        )


def _check_inside(path: Path, page: Any) -> None:
    """Raise if strips or tiles of a page lie outside the file; they would be read as zeros."""
    if page is None:
        raise ValueError(f"{path}: a page is in a file that is missing; copy all files of the movie")
    size = os.stat(page.parent.filehandle.path).st_size
    ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if not ends or max(ends) > size:
        raise ValueError(
            f"{path}: cut short: page {page.index} needs {max(ends, default=0):,} bytes, "
            f"the file has {size:,}; copy it again from where it was recorded"
        )


def _read_number(file: BinaryIO, layout: str, offset: int) -> int:
    """Read one number; 0 beyond the end."""
    file.seek(offset)
    data = file.read(struct.calcsize(layout))
    return int(struct.unpack(layout, data)[0]) if len(data) == struct.calcsize(layout) else 0
