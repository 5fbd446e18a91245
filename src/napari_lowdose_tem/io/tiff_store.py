"""Write TIFF and OME-TIFF frame by frame."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.private_tags import KEY, to_store

# classic TIFF ends at 4 GB, of which pages and descriptions take a part
_CLASSIC_BYTES = 2**32 - 2**26
_BYTES_PER_PAGE = 512

_OME_TYPES = {"float32": "float", "float64": "double"} | {
    name: name for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32")
}


class TiffStore:
    """An uncompressed TIFF file whose frames lie one behind the other.

    It is laid out at once, mostly as a hole, and filled by seek and write: when the disk is full that is an
    OSError, whereas in a memory map it would end the process.
    """

    data = None

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int) -> None:
        self._path = path
        self._offset = offset
        self._shape = shape
        self._dtype = dtype.newbyteorder("<")
        self._file = open(path, "r+b", buffering=0)

    @classmethod
    def create(
        cls, path: Path, final: Path, shape: tuple[int, ...], dtype: np.dtype[Any], like: Image
    ) -> TiffStore:
        """Lay out the file."""
        import tifffile

        n_frames = shape[0] if len(shape) == 3 else 1
        size = int(np.prod(shape)) * dtype.itemsize + n_frames * _BYTES_PER_PAGE
        row, col = like.pixel_size_nm or (1.0, 1.0)
        with tifffile.TiffWriter(path, bigtiff=size > _CLASSIC_BYTES, byteorder="<") as tif:
            offset, _ = tif.write(
                shape=shape,
                dtype=dtype.newbyteorder("<"),
                photometric="minisblack",
                rowsperstrip=shape[-2],
                resolution=(1 / col, 1 / row),
                resolutionunit="NONE",
                description=_description(final, shape, dtype, like),
                metadata=None,
                software="napari-lowdose-tem",
                returnoffset=True,
            )
        return cls(path, shape, dtype, offset)

    @property
    def state(self) -> dict[str, Any]:
        """What `__init__` needs to go on."""
        return {"offset": self._offset}

    def write(self, start: int, frames: npt.NDArray[Any]) -> None:
        """Write frames from `start` on."""
        block = np.ascontiguousarray(frames, self._dtype)
        view = block.reshape(-1).view(np.uint8).data
        self._file.seek(self._offset + start * block[0].nbytes)
        while view:
            view = view[self._file.write(view) :]

    def finish(self, final: Path, like: Image) -> None:
        """Bring the description up to date and the file to the disk."""
        import tifffile

        self.close()
        description = _description(final, self._shape, self._dtype, like)
        if tifffile.tiffcomment(self._path) != description:
            tifffile.tiffcomment(self._path, description)
        with open(self._path, "r+b") as file:
            os.fsync(file.fileno())

    def moved(self, final: Path) -> None:
        """Nothing is read from the final file."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _description(final: Path, shape: tuple[int, ...], dtype: np.dtype[Any], like: Image) -> str:
    name = final.name.lower()
    if name.endswith((".ome.tif", ".ome.tiff")):
        return _ome_xml(shape, dtype, like)
    return _imagej_text(shape, like)


def _imagej_text(shape: tuple[int, ...], like: Image) -> str:
    """Give ImageJ's description, which most programs understand; unknown keys it skips."""
    n_frames = shape[0] if len(shape) == 3 else 1
    lines = ["ImageJ=1.54f", f"images={n_frames}", f"frames={n_frames}", "loop=false"]
    if like.pixel_size_nm:
        lines += ["unit=nm"]
    if like.frame_time_s:
        lines += [f"finterval={like.frame_time_s!r}", "tunit=s"]
    return "\n".join([*lines, f"{KEY}={json.dumps(to_store(like), allow_nan=False)}", ""])


def _ome_xml(shape: tuple[int, ...], dtype: np.dtype[Any], like: Image) -> str:
    """Give OME-XML, with gain and provenance as a key and value annotation."""
    n_frames = shape[0] if len(shape) == 3 else 1
    if dtype.name not in _OME_TYPES:
        raise ValueError(f"OME-TIFF has no {dtype.name} pixels; write .tif or .zarr")
    sizes = {"SizeX": shape[-1], "SizeY": shape[-2], "SizeZ": 1, "SizeC": 1, "SizeT": n_frames}
    calibration: dict[str, object] = {}
    if like.pixel_size_nm:
        row, col = like.pixel_size_nm
        calibration |= {"PhysicalSizeX": col, "PhysicalSizeXUnit": "nm"}
        calibration |= {"PhysicalSizeY": row, "PhysicalSizeYUnit": "nm"}
    if like.frame_time_s:
        calibration |= {"TimeIncrement": like.frame_time_s, "TimeIncrementUnit": "s"}
    attributes = "".join(f" {key}={quoteattr(str(value))}" for key, value in (sizes | calibration).items())
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    stored = (
        quoteattr(json.dumps(to_store(like), allow_nan=False))[1:-1].replace("<", "&lt;").replace(">", "&gt;")
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{schema}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{schema} {schema}/ome.xsd">'
        f'<Image ID="Image:0" Name={quoteattr(like.name)}>'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="{_OME_TYPES[dtype.name]}"{attributes}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f'<TiffData IFD="0" PlaneCount="{n_frames}"/>'
        '</Pixels><AnnotationRef ID="Annotation:0"/></Image>'
        f'<StructuredAnnotations><MapAnnotation ID="Annotation:0" Namespace="{KEY}">'
        f'<Value><M K="{KEY}">{stored}</M></Value></MapAnnotation></StructuredAnnotations></OME>'
    )
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")
