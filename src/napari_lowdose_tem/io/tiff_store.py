"""Write TIFF and OME-TIFF frame by frame."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.extra_metadata import KEY, extra_metadata

# classic TIFF ends at 4 GB, of which page headers and descriptions take a part
_CLASSIC_BYTES = 2**32 - 2**26
_BYTES_PER_PAGE = 512


class TiffStore:
    """An uncompressed TIFF file whose frames lie one behind the other.

    It is laid out at once, mostly as a hole, and filled by seek and write: a full disk is then an OSError,
    while under a memory map it would end the process.
    """

    LEAST_COMPRESSED = 1.0
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

    @classmethod
    def check_replaces_folder(cls, path: Path) -> None:
        """Raise ValueError: a rename cannot replace a folder by a file."""
        raise ValueError(f"{path}: is a folder, which a TIFF file does not replace; choose another name")

    @property
    def state(self) -> dict[str, Any]:
        """What `__init__` needs to continue."""
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
    """Return ImageJ's description, which most programs understand; it skips unknown keys."""
    n_frames = shape[0] if len(shape) == 3 else 1
    lines = ["ImageJ=1.54f", f"images={n_frames}", f"frames={n_frames}", "loop=false"]
    if like.pixel_size_nm:
        lines += ["unit=nm"]
    if like.frame_time_s:
        lines += [f"finterval={like.frame_time_s!r}", "tunit=s"]
    return "\n".join([*lines, f"{KEY}={json.dumps(extra_metadata(like), allow_nan=False)}", ""])


def _ome_xml(shape: tuple[int, ...], dtype: np.dtype[Any], like: Image) -> str:
    """Return OME-XML, with gain and provenance as a map annotation."""
    import tifffile

    stored = json.dumps(extra_metadata(like), allow_nan=False)
    metadata: dict[str, Any] = {"Name": like.name}
    metadata["MapAnnotation"] = {"Namespace": KEY, "Value": {KEY: stored}}
    if like.pixel_size_nm:
        row, col = like.pixel_size_nm
        metadata |= {"PhysicalSizeX": col, "PhysicalSizeXUnit": "nm"}
        metadata |= {"PhysicalSizeY": row, "PhysicalSizeYUnit": "nm"}
    if like.frame_time_s:
        metadata |= {"TimeIncrement": like.frame_time_s, "TimeIncrementUnit": "s"}
    # from the content, so that equal outputs are equal files
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{shape} {dtype} {metadata}")
    xml = tifffile.OmeXml(Creator="napari-lowdose-tem", UUID=str(identity))
    pages = (shape[0] if len(shape) == 3 else 1, 1, 1, *shape[-2:], 1)
    try:
        xml.addimage(dtype, shape, pages, axes="TYX"[-len(shape) :], **metadata)
    except tifffile.OmeXmlError as err:
        raise ValueError(f"OME-TIFF has no {dtype.name} pixels; write .tif or .zarr") from err
    return str(xml.tostring(declaration=True)).encode("ascii", "xmlcharrefreplace").decode("ascii")
