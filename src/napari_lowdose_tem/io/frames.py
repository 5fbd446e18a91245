"""Stacks that stay in their file until Dask asks for frames."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.io.errors import as_value_error

if TYPE_CHECKING:
    import dask.array as da

_MAX_CHUNKS = 1000
_MAX_CHUNK_BYTES = 64_000_000


class LazyFrames(ABC):
    """A stack in a file, indexed like an array of shape (frames, rows, columns).

    The file is opened when first needed and kept open, behind a lock; a pickled copy opens it again.
    """

    ndim = 3

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: npt.DTypeLike) -> None:
        self.path = path
        self.shape = shape
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self._handle: Any = None
        self._lock = threading.Lock()

    @abstractmethod
    def _open(self) -> Any:
        """Open the file."""

    @abstractmethod
    def _read_frame(self, handle: Any, index: int) -> npt.NDArray[Any]:
        """Read one frame, shape (rows, columns)."""

    def __getitem__(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        """Read the frames asked for, one at a time."""
        first, *rest = key
        indices = range(self.shape[0])[first] if isinstance(first, slice) else [int(first)]
        block = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for frame, index in zip(block, indices, strict=True):
            with self._lock, as_value_error(self.path, f"frame {index} cannot be read"):
                if self._handle is None:
                    self._handle = self._open()
                read = self._read_frame(self._handle, index)
                if read.shape != frame.shape:
                    raise ValueError(f"it is {read.shape} px, the others {frame.shape}")
                frame[...] = read
        return block[(slice(None) if isinstance(first, slice) else 0, *rest)]

    def dask(self) -> da.Array:
        """Wrap the stack as a Dask array of whole frames."""
        from dask.base import tokenize

        stat = os.stat(self.path)
        token = tokenize(type(self).__name__, str(self.path), stat.st_mtime_ns, stat.st_size, self.shape)
        return dask_stack(self, f"{self.path.name}-{token}")

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        handle, self._handle = self._handle, None
        if hasattr(handle, "close"):
            handle.close()

    def __del__(self) -> None:
        """Close the file with the last array that needs it."""
        if getattr(self, "_handle", None) is not None:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without handle and lock."""
        return {k: v for k, v in self.__dict__.items() if k not in {"_handle", "_lock"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore with the file closed."""
        self.__dict__.update(state, _handle=None, _lock=threading.Lock())


class RawFrames(LazyFrames):
    """Uncompressed frames at known offsets in a file.

    Read, not memory-mapped: losing part of a mapped file, or its network drive, ends the process. `dtype` has
    the byte order of the file, `offsets` are those of the frames [bytes], and with `flip_rows` the last row
    is stored first.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        dtype: npt.DTypeLike,
        offsets: Sequence[int],
        *,
        flip_rows: bool = False,
    ) -> None:
        super().__init__(path, shape, dtype)
        self._stored = np.dtype(dtype)
        self._offsets = offsets
        self._flip_rows = flip_rows
        end = max(offsets[0], offsets[-1]) + int(np.prod(shape[1:])) * self._stored.itemsize
        if end > (size := path.stat().st_size):
            raise ValueError(
                f"{path}: cut short: {shape[0]} frames need {end:,} bytes, the file has {size:,}; "
                "copy it again from where it was recorded"
            )

    def _open(self) -> Any:
        return open(self.path, "rb", buffering=0)

    def _read_frame(self, handle: Any, index: int) -> npt.NDArray[Any]:
        frame = np.empty(self.shape[1:], self._stored)
        view = frame.reshape(-1).view(np.uint8).data
        handle.seek(self._offsets[index])
        while view:
            if not (count := handle.readinto(view)):
                raise ValueError("the file ends here")
            view = view[count:]
        return frame[::-1] if self._flip_rows else frame


def dask_stack(frames: Any, name: str | bool) -> da.Array:
    """Wrap an object indexed like (frames, rows, columns) as a Dask array of whole frames.

    Dask fuses slicing into the read, so that a read of one frame reads one frame, whatever the chunk. Its own
    work grows with the number of chunks, 1 ms at 1,000 and 100 ms at 100,000 for every read; hence several
    frames a chunk in long movies.
    """
    import dask.array as da

    n_frames, rows, cols = frames.shape
    fitting = _MAX_CHUNK_BYTES // (rows * cols * frames.dtype.itemsize)
    per_chunk = max(1, min(-(-n_frames // _MAX_CHUNKS), fitting))
    return da.from_array(
        frames, chunks=(per_chunk, -1, -1), name=name, meta=np.empty((0, 0, 0), frames.dtype)
    )


NEEDS = (
    "needs a frame (rows, columns) or a stack (frames, rows, columns): export one image, channel or position"
)


def stack_shape(shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Drop leading axes of length 1 to get (frames, rows, columns); None if more axes remain."""
    longer = [size for size in shape[:-2] if size != 1]
    if len(shape) < 2 or len(longer) > 1:
        return None
    return int(longer[0]) if longer else 1, int(shape[-2]), int(shape[-1])


def even_offsets(offset: int, shape: tuple[int, int, int], dtype: npt.DTypeLike) -> range:
    """Return the offsets of frames without gaps between them [bytes]."""
    step = int(shape[1]) * int(shape[2]) * np.dtype(dtype).itemsize
    return range(int(offset), int(offset) + int(shape[0]) * step, step)


_headers_only = ContextVar("_headers_only", default=False)


@contextmanager
def headers_only() -> Iterator[None]:
    """Leave single frames in their files too; `read` then returns them as stacks of one."""
    token = _headers_only.set(True)
    try:
        yield
    finally:
        _headers_only.reset(token)


def as_pixels(frames: LazyFrames) -> npt.NDArray[Any] | da.Array:
    """Return a stack lazily and a single frame in memory."""
    if frames.shape[0] > 1 or _headers_only.get():
        return frames.dask()
    try:
        return frames[0, :, :]
    finally:
        frames.close()
