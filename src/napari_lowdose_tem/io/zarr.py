"""Read and follow OME-Zarr images and plain Zarr arrays, Zarr 2 and 3."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.errors import as_value_error
from napari_lowdose_tem.io.extra_metadata import KEY, with_extra_metadata
from napari_lowdose_tem.io.fields import ImageFields
from napari_lowdose_tem.io.frames import NEEDS, LazyFrames, as_pixels, stack_shape
from napari_lowdose_tem.io.growing import GrowingFile
from napari_lowdose_tem.io.units import pixel_size_nm, time_s

_MOST_MISSING_CHUNKS = 16  # in a row, because all their pixels are 0


def read_zarr(path: Path) -> Image:
    """Read the full-resolution level of an OME-Zarr image, or a plain Zarr array; stacks lazily."""
    stored = _find_image(path)
    shape = _stack_shape(path, stored.array.shape, stored.axes)
    return Image(as_pixels(_ZarrFrames(stored.folder, shape, stored.array.dtype)), **stored.fields)


class GrowingZarr(GrowingFile):
    """A Zarr array that is appended to, or that was made at full length and fills in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with as_value_error(path):
            stored = _find_image(path)
        self._folder, self._array, self._fields = stored.folder, stored.array, stored.fields
        _stack_shape(path, self._array.shape, stored.axes)
        if self._array.ndim < 3:
            raise ValueError(f"{path}: a single frame of {self._array.shape} px; needs a stack")
        self._count = 0

    def count(self) -> int:
        """Count frames up to the last chunk on the disk, of that chunk only those that are filled."""
        import zarr

        self._array = zarr.open_array(self._folder, mode="r")
        length = int(self._array.shape[self._frame_axis()])
        step = self._chunk_shape()[self._frame_axis()]
        chunk = self._count // step
        last = None
        while any(self._has(i) for i in range(chunk, min(chunk + _MOST_MISSING_CHUNKS, -(-length // step)))):
            last, chunk = chunk, chunk + 1
        if last is None:
            return self._count
        stop = min(length, (last + 1) * step)
        if step > 1:  # a chunk of several frames is written again with each
            filled = (i for i in range(stop - 1, self._count - 1, -1) if self._pixels(i).any())
            stop = next(filled, self._count - 1) + 1
        self._count = max(self._count, stop)
        return self._count

    def _read_frame(self, index: int) -> Image:
        return Image(self._pixels(index), **self._fields)

    def _frame_axis(self) -> int:
        """Find the axis of the frames: the longest before rows and columns."""
        shape = self._array.shape[:-2]
        return max(range(len(shape)), key=lambda axis: shape[axis])

    def _chunk_shape(self) -> tuple[int, ...]:
        """Return the shape that one file holds."""
        return tuple(self._array.shards or self._array.chunks)

    def _pixels(self, index: int) -> npt.NDArray[Any]:
        axis = self._frame_axis()
        return np.asarray(self._array[tuple(index if i == axis else 0 for i in range(self._array.ndim - 2))])

    def _has(self, chunk: int) -> bool:
        """Tell whether all tiles of a chunk of frames are on the disk."""
        grid = [
            range(-(-size // step))
            for size, step in zip(self._array.shape[-2:], self._chunk_shape()[-2:], strict=True)
        ]
        axis = self._frame_axis()
        at = tuple(chunk if i == axis else 0 for i in range(self._array.ndim - 2))
        encode = self._array.metadata.encode_chunk_key
        return all((self._folder / encode((*at, *place))).exists() for place in itertools.product(*grid))


class _ZarrFrames(LazyFrames):
    """Frames of an array; its other leading axes have length 1."""

    def _open(self) -> Any:
        import zarr

        return zarr.open_array(self.path, mode="r")

    def _read_frame(self, handle: Any, index: int) -> npt.NDArray[Any]:
        at = tuple(index if size > 1 else 0 for size in handle.shape[:-2])
        return np.asarray(handle[at])


class _StoredImage(NamedTuple):
    """The array of an image, its folder, the axes of its OME metadata, and calibration as fields of Image."""

    array: Any
    folder: Path
    axes: Sequence[Mapping[str, Any]]
    fields: ImageFields


def _find_image(path: Path) -> _StoredImage:
    """Find the array to read, and what is stored with it."""
    import zarr

    node = zarr.open(path, mode="r")
    fields: ImageFields = {}
    folder = path
    axes: Sequence[Mapping[str, Any]] = ()
    if isinstance(node, zarr.Group):
        # bioformats2raw puts each image in a group of its own
        if "0" in node and isinstance(node["0"], zarr.Group):
            return _find_image(path / "0")
        attributes = node.attrs.asdict()
        ome = attributes.get("ome", attributes)
        if ome.get("multiscales"):
            level, axes, scale = _full_resolution(ome["multiscales"][0])
            fields = _calibration(axes, scale)
        else:
            level = _only_array(path, node)
        timed = any(axis["name"] == "t" for axis in axes)
        fields = with_extra_metadata(fields, attributes.get(KEY), timed=timed)
        folder = path / level
    array = zarr.open_array(folder, mode="r")
    provenance = fields.get("provenance", {}) | {
        "format": f"{'OME-Zarr' if axes else 'Zarr'}, Zarr {array.metadata.zarr_format}",
        "reader": f"zarr {zarr.__version__}",
    }
    fields["provenance"] = provenance
    return _StoredImage(array, folder, axes, fields)


def _full_resolution(multiscale: Mapping[str, Any]) -> tuple[str, Sequence[Any], list[float]]:
    """Give path, axes and scale of the first, largest level."""
    level = multiscale["datasets"][0]
    # before OME-Zarr 0.4 axes were names, before 0.3 always these
    axes = [{"name": axis} if isinstance(axis, str) else axis for axis in multiscale.get("axes", "tczyx")]
    scale = [1.0] * len(axes)
    transforms = [
        *level.get("coordinateTransformations", []),
        *multiscale.get("coordinateTransformations", []),
    ]
    for transform in transforms:
        if transform.get("type") == "scale":
            scale = [a * float(b) for a, b in zip(scale, transform["scale"], strict=True)]
    return level["path"], axes, scale


def _calibration(axes: Sequence[Mapping[str, Any]], scale: Sequence[float]) -> ImageFields:
    row, col = axes[-2], axes[-1]
    size, note = pixel_size_nm(scale[-2], scale[-1], row.get("unit"), col.get("unit"))
    times = [
        time_s(step, axis.get("unit")) for axis, step in zip(axes, scale, strict=True) if axis["name"] == "t"
    ]
    return {
        "pixel_size_nm": size,
        "frame_time_s": times[0] if times else None,
        "provenance": {"pixel_size_note": note} if note else {},
    }


def _only_array(path: Path, group: Any) -> str:
    names = sorted(group.array_keys())
    if not names:
        raise ValueError(f"{path}: a Zarr group without image; open the image's own folder in it")
    if len(names) > 1:
        raise ValueError(
            f"{path}: Zarr arrays {', '.join(names)}, but no OME-Zarr image; open one of these folders"
        )
    return str(names[0])


def _stack_shape(
    path: Path, shape: tuple[int, ...], axes: Sequence[Mapping[str, Any]]
) -> tuple[int, int, int]:
    stack = stack_shape(shape)
    if stack is None:
        names = "".join(str(axis["name"]) for axis in axes)
        raise ValueError(f"{path}: {len(shape)} axes {names} of shape {shape}; {NEEDS}")
    if 0 in stack:
        raise ValueError(f"{path}: holds no frame yet; open it again when the first is written")
    return stack
