"""How many frames of a growing TIFF, MRC or Zarr are whole, and reading them."""

from __future__ import annotations

import itertools
import math
import os
import struct
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read
from napari_lowdose_tem.io.errors import as_value_error, quiet
from napari_lowdose_tem.io.tiff_calibration import calibration
from napari_lowdose_tem.io.zarr import _full_resolution, _only_array

_MRC_HEADER_BYTES = 1024
_MRC_TYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_AHEAD = 16  # chunks that may be missing because all their pixels are 0


class Growth(ABC):
    """A file that grows, open."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def count(self) -> int:
        """Count the frames that are whole."""

    @abstractmethod
    def frame(self, index: int) -> Image:
        """Read one frame."""

    @abstractmethod
    def is_replaced(self) -> bool:
        """Tell whether another file took its place."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""


def open_growth(path: Path) -> Callable[[Path], Growth]:
    """Give what opens a growing file of this kind.

    Raises
    ------
    ValueError
        For kinds that cannot be followed.
    """
    kinds: dict[str, Callable[[Path], Growth]] = {
        ".tif": _TiffGrowth,
        ".tiff": _TiffGrowth,
        ".btf": _TiffGrowth,
        ".mrc": _MrcGrowth,
        ".mrcs": _MrcGrowth,
        ".zarr": _ZarrGrowth,
    }
    suffix = path.suffix.lower()
    if suffix not in kinds:
        raise ValueError(
            f"{path}: cannot follow {suffix or 'a file without ending'} while it grows; "
            f"can follow {' '.join(kinds)} and folders of single frames, or replay it when it is done"
        )
    return kinds[suffix]


class _FileGrowth(Growth):
    """A single file; its last frame counts when the next one began or nothing changed since the last look."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = os.stat(path).st_ino
        self._size = -1

    def _has_settled(self) -> bool:
        before, self._size = self._size, os.stat(self.path).st_size
        return before == self._size

    def is_replaced(self) -> bool:
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            return True
        return stat.st_ino != self._file or stat.st_size < self._size

    def close(self) -> None:
        """Nothing is held open."""


class _TiffGrowth(_FileGrowth):
    """Pages of a TIFF; every look reads only what is new of their chain."""

    def __init__(self, path: Path) -> None:
        import tifffile

        super().__init__(path)
        with as_value_error(path), quiet("tifffile"):
            self._tif = tifffile.TiffFile(path)
        try:
            with as_value_error(path), quiet("tifffile"):
                self._fields = calibration(self._tif)
                version = 8 if self._tif.is_bigtiff else 4
        except BaseException:
            self._tif.close()
            raise
        self._fields["provenance"] |= {"format": "TIFF", "reader": f"tifffile {tifffile.__version__}"}
        self._link = version  # place of the offset of the page after the last known
        self._offsets = array("Q")

    def count(self) -> int:
        """Count pages, the last one only when it did not just begin."""
        has_settled = self._has_settled()
        tiff = self._tif.tiff
        with open(self.path, "rb") as file:
            while True:
                offset = _unpack(file, tiff.offsetformat, self._link)
                n_tags = _unpack(file, tiff.tagnoformat, offset) if offset else 0
                if not n_tags or offset in (*self._offsets[:1], *self._offsets[-1:]):
                    break
                self._offsets.append(offset)
                self._link = offset + tiff.tagnosize + n_tags * tiff.tagsize
        n_pages = len(self._offsets)
        return n_pages if has_settled else max(0, n_pages - 1)

    def frame(self, index: int) -> Image:
        import tifffile

        with as_value_error(self.path, f"frame {index} cannot be read"), quiet("tifffile"):
            self._tif.filehandle.seek(self._offsets[index])
            page = tifffile.TiffPage(self._tif, index)
            end = max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
            if not 0 < end <= (size := os.stat(self.path).st_size):
                raise ValueError(f"it needs {end:,} bytes, the file has {size:,}")
            pixels = page.asarray()
            return _image(self.path, pixels.astype(pixels.dtype.newbyteorder("="), copy=False), self._fields)

    def close(self) -> None:
        self._tif.close()


class _MrcGrowth(_FileGrowth):
    """Frames behind a header, counted by the size of the file: many programs write their number last."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with open(path, "rb") as file:
            header = file.read(_MRC_HEADER_BYTES)
        if len(header) < _MRC_HEADER_BYTES:
            raise ValueError(f"{path}: shorter than an MRC header")
        order = ">" if header[212] == 0x11 else "<"
        cols, rows, _, mode = struct.unpack_from(f"{order}4i", header)
        mx, my, _, width, height = struct.unpack_from(f"{order}3i2f", header, 28)
        (extended,) = struct.unpack_from(f"{order}i", header, 92)
        if mode not in _MRC_TYPES or min(rows, cols) < 1 or extended < 0:
            raise ValueError(
                f"{path}: an MRC of mode {mode}, {rows} × {cols} px; can follow modes 0 1 2 6 12"
            )
        self._dtype = np.dtype(order + _MRC_TYPES[mode])
        self._shape = rows, cols
        self._first = _MRC_HEADER_BYTES + extended
        self._step = rows * cols * self._dtype.itemsize
        size_nm = (height / my / 10, width / mx / 10) if mx > 0 and my > 0 else (0.0, 0.0)
        # programs write exactly 1 Å/px for "unset"
        known = min(size_nm) > 0 and not all(math.isclose(size, 0.1, rel_tol=1e-6) for size in size_nm)
        self._fields: dict[str, Any] = {
            "pixel_size_nm": size_nm if known else None,
            "provenance": {"format": "MRC", "reader": "napari-lowdose-tem"},
        }

    def count(self) -> int:
        """Count whole frames."""
        self._has_settled()
        return int(max(0, self._size - self._first) // self._step)

    def frame(self, index: int) -> Image:
        with open(self.path, "rb") as file:
            file.seek(self._first + index * self._step)
            stored = np.frombuffer(file.read(self._step), self._dtype)
        if stored.size < math.prod(self._shape):
            raise ValueError(f"{self.path}: frame {index} is cut short")
        return _image(
            self.path, stored.reshape(self._shape).astype(self._dtype.newbyteorder("=")), self._fields
        )


class _ZarrGrowth(Growth):
    """A Zarr array that is appended to, or that was made at full length and fills in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._like = read(path)
        self._array = _find_array(path)
        if self._array.ndim < 3:
            raise ValueError(f"{path}: a single frame of {self._array.shape} px; needs a stack")
        self._file = os.stat(path).st_ino
        self._count = 0

    def count(self) -> int:
        """Count frames up to the last chunk that is there, then those of it that are filled."""
        import zarr

        self._array = zarr.open_array(self._array.store_path.store.root / self._array.path, mode="r")
        length = self._length()
        step = self._chunks()[self._axis()]
        chunk = self._count // step
        last = None
        while any(self._has(ahead) for ahead in range(chunk, min(chunk + _AHEAD, -(-length // step)))):
            last, chunk = chunk, chunk + 1
        if last is None:
            return self._count
        stop = min(length, (last + 1) * step)
        if step > 1:  # a chunk of several frames is written again with each
            filled = (i for i in range(stop - 1, self._count - 1, -1) if self._pixels(i).any())
            stop = next(filled, self._count - 1) + 1
        self._count = max(self._count, stop)
        return self._count

    def frame(self, index: int) -> Image:
        with as_value_error(self.path, f"frame {index} cannot be read"):
            like = self._like
            return like.with_data(
                self._pixels(index), provenance={**like.provenance, "source": str(self.path)}
            )

    def is_replaced(self) -> bool:
        return not self.path.exists() or os.stat(self.path).st_ino != self._file

    def close(self) -> None:
        """Nothing is held open."""

    def _axis(self) -> int:
        """Find the axis of the frames, the longest before rows and columns."""
        shape = self._array.shape[:-2]
        return max(range(len(shape)), key=lambda axis: shape[axis])

    def _chunks(self) -> tuple[int, ...]:
        """Give the shape of what is one file."""
        return tuple(self._array.shards or self._array.chunks)

    def _length(self) -> int:
        return int(self._array.shape[self._axis()])

    def _pixels(self, index: int) -> npt.NDArray[Any]:
        at = tuple(index if axis == self._axis() else 0 for axis in range(self._array.ndim - 2))
        return np.asarray(self._array[at])

    def _has(self, chunk: int) -> bool:
        """Tell whether all chunks of a place on the frames' axis are on the disk."""
        grid = [
            range(-(-size // step))
            for size, step in zip(self._array.shape[-2:], self._chunks()[-2:], strict=True)
        ]
        at = tuple(chunk if axis == self._axis() else 0 for axis in range(self._array.ndim - 2))
        folder = self._array.store_path.store.root / self._array.path
        encode = self._array.metadata.encode_chunk_key
        return all((folder / encode((*at, *place))).exists() for place in itertools.product(*grid))


def _find_array(path: Path) -> Any:
    """Open the array that `io.read` reads."""
    import zarr

    node = zarr.open(path, mode="r")
    if not isinstance(node, zarr.Group):
        return node
    if "0" in node and isinstance(node["0"], zarr.Group):
        return _find_array(path / "0")
    attributes = node.attrs.asdict()
    multiscales = attributes.get("ome", attributes).get("multiscales")
    return node[_full_resolution(multiscales[0])[0] if multiscales else _only_array(path, node)]


def _image(path: Path, pixels: npt.NDArray[Any], fields: dict[str, Any]) -> Image:
    provenance = {**fields["provenance"], "source": str(path)}
    return Image(pixels, name=path.stem.removesuffix(".ome"), **{**fields, "provenance": provenance})


def _unpack(file: Any, kind: str, place: int) -> int:
    """Read one number; 0 beyond the end."""
    file.seek(place)
    data = file.read(struct.calcsize(kind))
    return int(struct.unpack(kind, data)[0]) if len(data) == struct.calcsize(kind) else 0
