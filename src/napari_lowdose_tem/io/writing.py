"""Write images whole or frame by frame, so that a stopped job can go on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.journal import Journal
from napari_lowdose_tem.io.private_tags import finite
from napari_lowdose_tem.io.tiff_store import TiffStore
from napari_lowdose_tem.io.zarr_store import ZarrStore

if TYPE_CHECKING:
    import dask.array as da

_STORES: dict[str, type[TiffStore | ZarrStore]] = {".tif": TiffStore, ".tiff": TiffStore, ".zarr": ZarrStore}
WRITABLE_SUFFIXES = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".zarr")

# noisy float frames compress to about 3/4; outputs of a network more
_LEAST_COMPRESSED = {TiffStore: 1.0, ZarrStore: 0.25}
_ZARR_FILES = (".zgroup", ".zattrs", ".zarray", "zarr.json")
# chunks of Zarr 3, metadata of bioformats2raw
_ZARR_NAMES = {"zarr.json", "c", "OME"}
_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_BLOCK_BYTES = 32_000_000
_WRITTEN_AS: dict[str, np.dtype[Any]] = {"b": np.dtype("u1"), "f": np.dtype("f4")}


def write(image: Image, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write an image with its calibration, gain and provenance.

    Parameters
    ----------
    image
        A frame or a stack; a lazy stack is read and written a few frames at a time.
    path
        ``.tif`` (readable by ImageJ), ``.ome.tif`` or ``.zarr`` (OME-Zarr 0.4).
        Integers and float32 keep their type, other floats become float32.
    overwrite
        Replace what is there, when the new output is complete; of folders only Zarr stores.

    Returns
    -------
    Path
        The output.

    Raises
    ------
    ValueError
        For an unknown ending, an existing output or folder, or another run writing it.
    OSError
        When the disk is full.
    """
    n_frames = image.n_frames if image.is_stack else None
    stored = np.dtype(image.data.dtype)
    dtype = _WRITTEN_AS.get(stored.kind, stored)
    with StackWriter(Path(path), image, n_frames, dtype, {}, resume=False, overwrite=overwrite) as writer:
        try:
            step = max(1, _BLOCK_BYTES // (image.frame_shape[0] * image.frame_shape[1] * dtype.itemsize))
            for start in range(0, image.n_frames, step):
                writer.write(start, image.frames(start, start + step))
            return writer.finish()
        except BaseException:
            writer.discard()
            raise


def open_writer(
    path: str | Path,
    like: Image,
    n_frames: int | None,
    *,
    job: Mapping[str, Any],
    resume: bool = False,
    overwrite: bool = False,
) -> StackWriter:
    """Start or go on with writing float32 frames, in any order.

    Parameters
    ----------
    path
        Output, ``.tif``, ``.ome.tif`` or ``.zarr``. Until `StackWriter.finish` it is PATH.partial.
    like
        Gives frame shape, calibration, name and provenance.
    n_frames
        Number of frames; None for a single frame.
    job
        What decides about the pixels (source, model, options) as JSON values. A partial output is only
        continued by the same job.
    resume
        Go on with the partial output of the same job if there is one; otherwise start over.
    overwrite
        Replace an existing output, when the new one is complete; of folders only Zarr stores.

    Returns
    -------
    StackWriter
        To be used in a ``with`` block.

    Raises
    ------
    ValueError
        For an unknown ending, an existing output, another run writing it, or another job's partial output.
    OSError
        When the disk is too small or full.
    """
    return StackWriter(Path(path), like, n_frames, np.dtype("f4"), job, resume=resume, overwrite=overwrite)


class StackWriter:
    """A stack being written, made by `open_writer`.

    Until it is complete the output is PATH.partial, beside it the journal of finished frames and a lock.
    Leaving the ``with`` block without `finish` keeps them for a later ``resume``.
    """

    def __init__(
        self,
        path: Path,
        like: Image,
        n_frames: int | None,
        dtype: np.dtype[Any],
        job: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool,
    ) -> None:
        from filelock import FileLock, Timeout

        if path.suffix.lower() not in _STORES:
            raise ValueError(f"{path}: cannot write this ending; use one of {' '.join(WRITABLE_SUFFIXES)}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent}: no such folder; create it first")
        self.path = path
        self._like = like
        self._overwrite = overwrite
        self._shape = like.frame_shape if n_frames is None else (n_frames, *like.frame_shape)
        self._dtype = dtype
        self._done = np.zeros(n_frames or 1, bool)
        self._partial = path.with_name(f"{path.name}.partial")
        self._journal = Journal(path.with_name(f"{path.name}.partial.journal"))
        self._store: TiffStore | ZarrStore | None = None
        # opened in one thread, it may be written to in another
        self._lock = FileLock(path.with_name(f"{path.name}.lock"), thread_local=False)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"{path}: another run is writing it; wait for it or choose another name"
            ) from None
        try:
            self._check_replaceable()
            self._open(json.loads(json.dumps(finite(job), allow_nan=False)), resume)
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> frozenset[int]:
        """The indices of the frames finished so far, those of an earlier run included."""
        return frozenset(np.flatnonzero(self._done).tolist())

    @property
    def data(self) -> da.Array | None:
        """Dask array of the output as it fills, unwritten frames 0; None for TIFF.

        It stays valid after `finish`. Nothing that looks at it may cache frames that are not `done`.
        """
        return self._opened().data

    def write(self, start: int, frames: npt.NDArray[Any]) -> None:
        """Write frames `start`, `start` + 1 …, shape (frames, rows, columns), and record them as done.

        Raises
        ------
        ValueError
            For frames of another shape, or beyond the last.
        OSError
            When the disk is full; what is done stays for ``resume``.
        """
        store = self._opened()
        stop = start + len(frames)
        if (
            frames.ndim != 3
            or frames.shape[1:] != self._shape[-2:]
            or not 0 <= start < stop <= len(self._done)
        ):
            raise ValueError(
                f"{self.path}: frames {start} to {stop} of shape {frames.shape} do not fit into {self._shape}"
            )
        with self._disk_full_told():
            store.write(start, np.asarray(frames, self._dtype))
        self.record(start, stop)

    def record(self, start: int, stop: int) -> None:
        """Record frames as done, by `write` or by other processes that write into the partial output."""
        with self._disk_full_told():
            self._journal.add(start, stop)
        self._done[start:stop] = True

    def finish(self) -> Path:
        """Give the complete output its final name.

        Raises
        ------
        ValueError
            When frames are missing, or what must not be replaced came to lie at the path meanwhile.
        """
        store = self._opened()
        if not self._done.all():
            missing = np.flatnonzero(~self._done)
            raise ValueError(
                f"{self.path}: {len(missing)} of {len(self._done)} frames missing, first {missing[0]}"
            )
        self._check_replaceable()
        with self._disk_full_told():
            store.finish(self.path, self._like)
        aside = self._put_in_place()
        store.moved(self.path)
        self._journal.remove()
        self.close()
        if aside is not None:
            shutil.rmtree(aside)
        return self.path

    def close(self) -> None:
        """Stop here; the partial output stays for ``resume``."""
        if self._store is not None:
            self._store.close()
        self._journal.close()
        if self._lock.is_locked:
            # while it is held: a file removed later might already be another run's lock
            with contextlib.suppress(OSError):
                os.unlink(self._lock.lock_file)
            self._lock.release()

    def discard(self) -> None:
        """Stop here and remove the partial output."""
        if self._lock.is_locked:
            self._remove_partial()
        self.close()

    def __enter__(self) -> StackWriter:
        """Use as ``with open_writer(…) as writer``."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _check_replaceable(self) -> None:
        """Raise unless the output may go to its path, now and when it is complete."""
        path = self.path
        if not os.path.lexists(path):
            return
        if not self._overwrite:
            raise ValueError(f"{path}: exists already; choose another name or allow overwriting")
        if not path.is_dir():
            return
        if _STORES[path.suffix.lower()] is TiffStore:
            raise ValueError(f"{path}: is a folder, which a TIFF file does not replace; choose another name")
        if not any((path / name).is_file() for name in _ZARR_FILES):
            raise ValueError(
                f"{path}: is a folder but no Zarr store, and is not replaced; choose another name"
            )
        if foreign := sorted(entry.name for entry in path.iterdir() if not _is_of_zarr(entry)):
            raise ValueError(
                f"{path}: holds {', '.join(foreign[:3])}{' …' * (len(foreign) > 3)} besides a Zarr store, "
                "and is not replaced; move that elsewhere or choose another name"
            )

    def _put_in_place(self) -> Path | None:
        """Rename the partial output to the final name; give the folder that then holds the old one."""
        if not (os.path.lexists(self.path) and self._partial.is_dir()):
            os.replace(self._partial, self.path)
            return None
        # a rename replaces files only
        aside = Path(tempfile.mkdtemp(prefix=f"{self.path.name}.old-", dir=self.path.parent))
        try:
            os.replace(self.path, aside / self.path.name)
            try:
                os.replace(self._partial, self.path)
            except BaseException:
                os.replace(aside / self.path.name, self.path)
                raise
        except BaseException:
            # only ever removes an empty folder
            with contextlib.suppress(OSError):
                aside.rmdir()
            raise
        return aside

    def _open(self, job: dict[str, Any], resume: bool) -> None:
        store = _STORES[self.path.suffix.lower()]
        wanted = {"job": job, "output shape": list(self._shape), "output type": self._dtype.name}
        found = self._journal.read() if resume and self._partial.exists() else None
        if found is not None:
            header, ranges = found
            state = header.pop("state")
            self._check_same(header, wanted)
            for frames in ranges:
                self._done[frames.start : frames.stop] = True
        self._check_space(_LEAST_COMPRESSED[store], found is not None)
        if found is not None:
            self._store = store(self._partial, self._shape, self._dtype, **state)
            return
        self._remove_partial()
        try:
            with self._disk_full_told():
                self._store = store.create(self._partial, self.path, self._shape, self._dtype, self._like)
                self._journal.start({**wanted, "state": self._store.state})
        except BaseException:
            self._remove_partial()
            raise

    def _check_same(self, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        found, wanted = ({**entries.pop("job"), **entries} for entries in (found, wanted))
        differing = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
        if differing:
            listing = "; ".join(f"{key} was {found.get(key)!r}, is {wanted.get(key)!r}" for key in differing)
            raise ValueError(
                f"{self.path}: the partial output is of another job ({listing}); "
                "run that one, or start without resume"
            )

    def _check_space(self, least: float, resumed: bool) -> None:
        rows, cols = self._shape[-2:]
        frame_bytes = rows * cols * self._dtype.itemsize
        needed = int((~self._done).sum()) * frame_bytes * least
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            # a stale partial output goes before the new one comes; where files have no holes (exFAT, NTFS),
            # one to go on with has the place of its missing frames already
            taken = int(self._done.sum()) * frame_bytes if resumed else 0
            free += max(0, _allocated_bytes(self._partial) - taken)
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f"{self.path}: needs {needed / 1e9:.3g} GB, the disk has {free / 1e9:.3g} GB free; "
                "make room or write to another disk",
            )

    @contextlib.contextmanager
    def _disk_full_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            if err.errno not in _NO_SPACE:
                raise
            raise OSError(
                err.errno,
                f"{self.path}: the disk is full after {int(self._done.sum())} of {len(self._done)} frames; "
                "make room and resume",
            ) from err

    def _opened(self) -> TiffStore | ZarrStore:
        if self._store is None or not self._lock.is_locked:
            raise ValueError(f"{self.path}: the writer is closed; open it again with resume")
        return self._store

    def _remove_partial(self) -> None:
        if self._store is not None:
            self._store.close()
        self._journal.remove()
        _remove(self._partial)


def _is_of_zarr(entry: Path) -> bool:
    """Tell whether a store's top level may hold this: metadata, chunks, arrays and groups, hidden files."""
    if entry.name.startswith(".") or entry.name in _ZARR_NAMES or re.fullmatch(r"\d+(\.\d+)*", entry.name):
        return True
    return any((entry / name).is_file() for name in _ZARR_FILES)


def _allocated_bytes(path: Path) -> int:
    """Give the disk space of a file or folder, 0 where there is none."""
    if path.is_dir():
        return sum(_allocated_bytes(Path(place, name)) for place, _, names in os.walk(path) for name in names)
    try:
        stat = os.lstat(path)
    except FileNotFoundError:
        return 0
    # blocks of 512 bytes, whatever the file system's are; Windows does not tell
    blocks: int | None = getattr(stat, "st_blocks", None)
    return stat.st_size if blocks is None else blocks * 512


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
