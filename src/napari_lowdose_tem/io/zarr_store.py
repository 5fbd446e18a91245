"""Write OME-Zarr frame by frame, of known length or growing."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.extra_metadata import KEY, extra_metadata
from napari_lowdose_tem.io.formats import ZARR_METADATA
from napari_lowdose_tem.io.frames import dask_stack
from napari_lowdose_tem.io.output import partial_path, replacing

_MAX_CHUNK_BYTES = 16_000_000
_LONGER_THAN_ANY = 2**31 - 1  # frames
# at the top of a store besides: chunks of Zarr 3, metadata of bioformats2raw
_OTHER_NAMES = {*ZARR_METADATA, "c", "OME"}


class ZarrStore:
    """An OME-Zarr image of one resolution, version 0.4 on Zarr 2.

    Old and Java readers understand 0.4, too; what 0.5 adds, shards, does not help frames that come in any
    order. A frame is a chunk (large ones are cut into tiles). Blosc with LZ4 and byte shuffling was fastest:
    2.6 ms to write and read 512 x 512 noisy float32, Zstandard 5 ms.
    """

    LEAST_COMPRESSED = 0.25  # noisy float frames compress to about 3/4, outputs of a network further

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        import zarr

        self._path = path
        self._array: Any = zarr.open_array(path / "0", mode="r+")
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)

    @classmethod
    def create(
        cls, path: Path, final: Path, shape: tuple[int, ...], dtype: np.dtype[Any], like: Image
    ) -> ZarrStore:
        """Lay out the folder."""
        import numcodecs
        import zarr

        group = zarr.open_group(path, mode="w", zarr_format=2)
        group.create_array(
            "0",
            shape=shape,
            dtype=dtype,
            chunks=(1,) * (len(shape) - 2) + _tile(shape[-2], shape[-1], dtype.itemsize),
            compressors=numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE),
            chunk_key_encoding={"name": "v2", "separator": "/"},
            fill_value=0,
        )
        group.attrs.update(_attributes(len(shape), like))
        return cls(path, shape, dtype)

    @classmethod
    def check_replaces_folder(cls, path: Path) -> None:
        """Raise ValueError unless a folder is a Zarr store that holds nothing else."""
        if not any((path / name).is_file() for name in ZARR_METADATA):
            raise ValueError(
                f"{path}: is a folder but no Zarr store, and is not replaced; choose another name"
            )
        if foreign := sorted(entry.name for entry in path.iterdir() if not _belongs_to_store(entry)):
            raise ValueError(
                f"{path}: holds {', '.join(foreign[:3])}{' …' * (len(foreign) > 3)} besides a Zarr store, "
                "and is not replaced; move that elsewhere or choose another name"
            )

    @property
    def state(self) -> dict[str, Any]:
        """What `__init__` needs to continue: nothing."""
        return {}

    @property
    def data(self) -> Any:
        """Dask array of all frames, the unwritten ones 0; stays valid when the folder gets its final name."""
        import dask.array as da

        return dask_stack(self, name=False) if self.ndim == 3 else da.from_array(self, chunks=-1, name=False)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """Read from where the folder is now."""
        return np.asarray(self._array[key])

    def write(self, start: int, frames: npt.NDArray[Any]) -> None:
        """Write frames from `start` on."""
        if self.ndim == 2:
            self._array[...] = frames[0]
        else:
            self._array[start : start + len(frames)] = frames

    def finish(self, final: Path, like: Image) -> None:
        """Bring the attributes up to date; the folder is about to be renamed to `final`."""
        import zarr

        zarr.open_group(self._path, mode="r+").attrs.update(_attributes(self.ndim, like))

    def moved(self, final: Path) -> None:
        """Go on reading at the final name."""
        import zarr

        self._array = zarr.open_array(final / "0", mode="r")

    def close(self) -> None:
        """Nothing is held open."""


def open_partial_zarr(path: Path, shape: tuple[int, ...]) -> ZarrStore:
    """Open the incomplete output that `open_writer` laid out in another process, to write frames into it.

    `path` is its final name. ValueError when it cannot be written from here.
    """
    partial = partial_path(path)
    if not os.access(partial / "0", os.W_OK):
        raise ValueError(f"{partial}: cannot be written there; choose a disk that all workers see")
    return ZarrStore(partial, shape, np.dtype("f4"))


class ZarrAppender:
    """An OME-Zarr of float32 frames that grows and can be read at any moment.

    It appears with its first frame in it, and becomes longer after the chunks of a frame are written.
    `zarr.Array.append` does these in the other order, so that a reader would see a frame of zeros, and
    `zarr.Array.resize` overwrites the metadata in place before zarr 3.1; hence the length is written here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._array: Any = None
        self.count = 0

    def open(self, count: int) -> int:
        """Open an existing store and leave at most `count` frames in it; returns their number."""
        import zarr

        array = zarr.open_array(self._path / "0", mode="r+")
        # written through an array longer than any series; readers see the length on the disk
        longer = array.metadata.update_shape((_LONGER_THAN_ANY, *array.shape[1:]))
        self._array = zarr.Array(zarr.AsyncArray(longer, array.store_path))
        self._set_count(min(count, array.shape[0]))
        return self.count

    def write(self, index: int, frame: Image) -> None:
        """Write a frame after the last, or the last one again; the first brings the calibration."""
        if self._array is None:
            self._create(frame)
            return
        self._array[index] = frame.data
        self._set_count(index + 1)

    def _create(self, frame: Image) -> None:
        partial = partial_path(self._path)
        store = ZarrStore.create(partial, self._path, (1, *frame.frame_shape), np.dtype("f4"), frame)
        store.write(0, np.asarray(frame.data)[np.newaxis])
        os.rename(partial, self._path)
        self.open(1)

    def _set_count(self, count: int) -> None:
        path = self._path / "0" / ".zarray"
        meta = json.loads(path.read_text())
        meta["shape"][0] = count
        with replacing(path) as partial:
            partial.write_text(json.dumps(meta))
        self.count = count


def _belongs_to_store(entry: Path) -> bool:
    """Tell whether this may lie in a store: metadata, chunks, arrays and groups, hidden files."""
    if entry.name.startswith(".") or entry.name in _OTHER_NAMES or re.fullmatch(r"\d+(\.\d+)*", entry.name):
        return True
    return any((entry / name).is_file() for name in ZARR_METADATA)


def _tile(rows: int, cols: int, itemsize: int) -> tuple[int, int]:
    """Halve the longer side until a chunk is small enough to compress and show quickly."""
    while rows * cols * itemsize > _MAX_CHUNK_BYTES:
        rows, cols = (-(-rows // 2), cols) if rows >= cols else (rows, -(-cols // 2))
    return rows, cols


def _attributes(ndim: int, like: Image) -> dict[str, Any]:
    row, col = like.pixel_size_nm or (1.0, 1.0)
    space = {"type": "space"} | ({"unit": "nanometer"} if like.pixel_size_nm else {})
    time = {"type": "time"} | ({"unit": "second"} if like.frame_time_s else {})
    axes = [{"name": "t"} | time, {"name": "y"} | space, {"name": "x"} | space]
    scale = [like.frame_time_s or 1.0, row, col]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale[-ndim:]}]}
    multiscale = {"version": "0.4", "name": like.name, "axes": axes[-ndim:], "datasets": [dataset]}
    return {"multiscales": [multiscale], KEY: extra_metadata(like)}
