"""Follow a TIFF, MRC or Zarr file that grows."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Set
from pathlib import Path

from napari_lowdose_tem.io import GrowingFile, check_growing, image_name, open_growing
from napari_lowdose_tem.live.folder import PATIENCE_S, POLL_S
from napari_lowdose_tem.live.replay import frame_name
from napari_lowdose_tem.live.source import Arrival, Event, Passed, Skipped, Wait


class GrowingSource:
    """The frames of one file or Zarr folder that another program appends to.

    Parameters
    ----------
    path
        ``.tif`` (a page a frame), ``.mrc`` or ``.zarr`` (a chunk or more a frame; grown, or filled in order).
        It need not exist yet.
    poll_s, patience_s
        Time between two polls, and the time a frame may stay unreadable [s].

    Raises
    ------
    ValueError
        For other formats.
    """

    def __init__(self, path: str | Path, *, poll_s: float = POLL_S, patience_s: float = PATIENCE_S) -> None:
        self._path = Path(os.path.abspath(path))
        check_growing(self._path)
        self._poll_s, self._patience_s = poll_s, patience_s

    @property
    def name(self) -> str:
        """Name of the file without ending."""
        return image_name(self._path)

    @property
    def path(self) -> str:
        """The file."""
        return str(self._path)

    def iter_events(self, latest_only: bool, done: Set[str] = frozenset()) -> Iterator[Event]:
        """Yield the frames; never ends.

        Raises
        ------
        ValueError
            When the file is replaced or becomes shorter, unless `latest_only`.
        """
        while True:
            growing = yield from self._iter_until_open()
            try:
                yield from self._iter_frames(growing, latest_only, done)
            finally:
                growing.close()
            if not latest_only:
                raise ValueError(
                    f"{self._path}: was begun anew while it was followed; start again with another output"
                )

    def _iter_until_open(self) -> Generator[Event, None, GrowingFile]:
        """Wait for the file; what is wrong with it is reported once."""
        start_s, is_reported = time.monotonic(), False
        while True:
            if self._path.exists():
                try:
                    return open_growing(self._path)
                except (ValueError, OSError) as err:
                    if not is_reported and time.monotonic() - start_s > self._patience_s:
                        is_reported = True
                        yield Skipped(self._path.name, f"no frame yet: {' '.join(str(err).split())}")
            yield Wait(self._poll_s)

    def _iter_frames(self, growing: GrowingFile, latest_only: bool, done: Set[str]) -> Iterator[Event]:
        """Yield the frames until the file is replaced."""
        count = growing.count()
        index = max(0, count - 1) if latest_only else 0
        since_s = time.monotonic()
        while True:
            while index < count:
                if latest_only and count - 1 > index:
                    yield Passed(count - 1 - index)
                    index = count - 1
                if frame_name(index) not in done:
                    found = self._take(growing, index, since_s)
                    if found is None:
                        break
                    yield found
                index += 1
                if latest_only:
                    break
            yield Wait(self._poll_s)
            if growing.is_replaced():
                return
            before, count = count, growing.count()
            if count != before:
                since_s = time.monotonic()

    def _take(self, growing: GrowingFile, index: int, since_s: float) -> Arrival | Skipped | None:
        """Read a frame; None to try again later."""
        try:
            image = growing.frame(index)
        except (ValueError, OSError) as err:
            if time.monotonic() - since_s < self._patience_s:
                return None
            return Skipped(frame_name(index), " ".join(str(err).split()).removeprefix(f"{self._path}: "))
        # without a frame time, the time of arrival is the best estimate
        recorded_s = since_s if image.frame_time_s is None else index * image.frame_time_s
        return Arrival(frame_name(index), image, recorded_s, since_s)
