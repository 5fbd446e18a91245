"""A stack written frame by frame, so that a stopped job can go on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.extra_metadata import json_value
from napari_lowdose_tem.io.output import (
    Journal,
    OutputLock,
    allocated_bytes,
    check_free_space,
    disk_full_explained,
    partial_path,
    put_in_place,
    remove_output,
)
from napari_lowdose_tem.io.tiff_store import TiffStore
from napari_lowdose_tem.io.zarr_store import ZarrStore

if TYPE_CHECKING:
    import dask.array as da

_STORES: dict[str, type[TiffStore | ZarrStore]] = {".tif": TiffStore, ".tiff": TiffStore, ".zarr": ZarrStore}
WRITABLE_SUFFIXES = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".zarr")
"""Endings that can be written."""


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
        *,
        dtype: np.dtype[Any],
        job: Mapping[str, Any],
        resume: bool,
        overwrite: bool,
    ) -> None:
        if path.suffix.lower() not in _STORES:
            raise ValueError(f"{path}: cannot write this ending; use one of {' '.join(WRITABLE_SUFFIXES)}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent}: no such folder; create it first")
        self.path = path
        self._kind = _STORES[path.suffix.lower()]
        self._like = like
        self._overwrite = overwrite
        self._shape = like.frame_shape if n_frames is None else (n_frames, *like.frame_shape)
        self._dtype = dtype
        self._done = np.zeros(n_frames or 1, bool)
        self._partial = partial_path(path)
        self._journal = Journal(path.with_name(f"{path.name}.partial.journal"))
        self._store: TiffStore | ZarrStore | None = None
        self._lock = OutputLock(path)
        try:
            self._check_replaceable()
            self._open(json.loads(json.dumps(json_value(job), allow_nan=False)), resume)
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> frozenset[int]:
        """Indices of the frames finished so far, those of an earlier run included."""
        return frozenset(np.flatnonzero(self._done).tolist())

    @property
    def data(self) -> da.Array | None:
        """Dask array of the output as it fills, unwritten frames 0; None for TIFF.

        It stays valid after `finish`. Frames that are not `done` must not be cached.
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
        with disk_full_explained(self.path, self._progress):
            store.write(start, np.asarray(frames, self._dtype))
        self.record(start, stop)

    def record(self, start: int, stop: int) -> None:
        """Record frames as done, by `write` or by other processes that write into the partial output."""
        with disk_full_explained(self.path, self._progress):
            self._journal.add(start, stop)
        self._done[start:stop] = True

    def finish(self) -> Path:
        """Give the complete output its final name.

        Raises
        ------
        ValueError
            When frames are missing, or something that must not be replaced has appeared at the path.
        """
        store = self._opened()
        if not self._done.all():
            missing = np.flatnonzero(~self._done)
            raise ValueError(
                f"{self.path}: {len(missing)} of {len(self._done)} frames missing, first {missing[0]}"
            )
        self._check_replaceable()
        with disk_full_explained(self.path, self._progress):
            store.finish(self.path, self._like)
        aside = put_in_place(self._partial, self.path)
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
        self._lock.close()

    def discard(self) -> None:
        """Stop here and remove the partial output."""
        if self._lock.is_held:
            self._remove_partial()
        self.close()

    def __enter__(self) -> StackWriter:
        """Use as ``with open_writer(…) as writer``."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    def _check_replaceable(self) -> None:
        """Raise unless the output may go to its path, now and when it is complete."""
        if not os.path.lexists(self.path):
            return
        if not self._overwrite:
            raise ValueError(f"{self.path}: exists already; choose another name or allow overwriting")
        if self.path.is_dir():
            self._kind.check_replaces_folder(self.path)

    def _open(self, job: dict[str, Any], resume: bool) -> None:
        wanted = {"job": job, "output shape": list(self._shape), "output type": self._dtype.name}
        found = self._journal.read() if resume and self._partial.exists() else None
        if found is not None:
            header, ranges = found
            state = header.pop("state")
            self._check_same(header, wanted)
            for frames in ranges:
                self._done[frames.start : frames.stop] = True
        self._check_space(found is not None)
        if found is not None:
            self._store = self._kind(self._partial, self._shape, self._dtype, **state)
            return
        self._remove_partial()
        try:
            with disk_full_explained(self.path, self._progress):
                self._store = self._kind.create(
                    self._partial, self.path, self._shape, self._dtype, self._like
                )
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

    def _check_space(self, resumed: bool) -> None:
        rows, cols = self._shape[-2:]
        frame_bytes = rows * cols * self._dtype.itemsize

        def freed_bytes() -> int:
            # an old partial output is removed before the new one is written; where files have no holes
            # (exFAT, NTFS), one to be continued already has the room of its missing frames
            kept = int(self._done.sum()) * frame_bytes if resumed else 0
            return max(0, allocated_bytes(self._partial) - kept)

        needed = int((~self._done).sum()) * frame_bytes * self._kind.LEAST_COMPRESSED
        check_free_space(self.path, needed, freed_bytes)

    def _progress(self) -> str:
        return f"{int(self._done.sum())} of {len(self._done)} frames"

    def _opened(self) -> TiffStore | ZarrStore:
        if self._store is None or not self._lock.is_held:
            raise ValueError(f"{self.path}: the writer is closed; open it again with resume")
        return self._store

    def _remove_partial(self) -> None:
        if self._store is not None:
            self._store.close()
        self._journal.remove()
        remove_output(self._partial)
