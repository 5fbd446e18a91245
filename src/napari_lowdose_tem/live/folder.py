"""Follow a folder into which a camera program writes single frames."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from napari_lowdose_tem.io import READABLE_SUFFIXES, natural_key, read
from napari_lowdose_tem.live.source import Arrival, Event, Passed, Skipped, Wait

POLL_S = 0.05
"""Time between two polls [s]."""

PATIENCE_S = 3.0
"""Time a frame may stay unreadable after its last change [s]."""

_WATCHED_FILES = 256  # waiting files whose size and time are compared between polls
_LISTING_SHARE = 0.1  # of the time, at most, is spent listing a folder of many files
_LOST_S = 60.0  # a folder may be unreachable for this long
_COMPANIONS = (".emi",)  # belong to a frame of the same name


@dataclass
class _SeenFile:
    """A waiting file at the last poll; settled when it did not change since the poll before."""

    size_bytes: int
    changed_ns: int
    since_s: float
    is_settled: bool = False


class FolderSource:
    """Single-frame files of a folder, of any readable format.

    A file is complete when it can be read and did not change between two polls; one that was renamed into
    place is taken at once. One that stays unreadable for `patience_s` [s] after its last change is reported
    and skipped. Polled by hand every `poll_s` [s]: file system notifications do not reach across network
    drives. Files and folders to `ignore` are left out.

    Raises
    ------
    ValueError
        When there is no such folder.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        poll_s: float = POLL_S,
        patience_s: float = PATIENCE_S,
        ignore: Sequence[Path] = (),
    ) -> None:
        self._folder = Path(os.path.abspath(path))
        if not self._folder.is_dir():
            raise ValueError(
                f"{self._folder}: no such folder to watch; create it, or start the camera program"
            )
        self._poll_s, self._patience_s = poll_s, patience_s
        self._ignored = {p.name for p in map(Path, ignore) if Path(os.path.abspath(p)).parent == self._folder}
        self._seen: dict[str, _SeenFile] = {}
        self._handled: set[str] = set()
        self._latest: tuple[str, int, int] | None = None

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._folder.name

    @property
    def path(self) -> str:
        """The folder."""
        return str(self._folder)

    def iter_events(self, latest_only: bool, done: Set[str] = frozenset()) -> Iterator[Event]:
        """Yield the frames; never ends."""
        self._seen, self._handled, self._latest = {}, set(done), None
        before: set[str] | None = None  # was there at the start, and does not count as passed over
        listed_s = time.monotonic()
        while True:
            start_s = time.monotonic()
            try:
                waiting = self._list(latest_only)
            except OSError as err:
                # network drives come back
                if start_s - listed_s > _LOST_S:
                    raise OSError(err.errno, "the folder cannot be listed any more", self.path) from err
                yield Wait(1.0)
                continue
            listed_s = start_s
            took_s = time.monotonic() - start_s
            yield from self._iter_other_files(waiting)
            frames = [name for name in waiting if _is_frame(name)]
            before = set(frames) if before is None else before
            for name in frames[:_WATCHED_FILES] if not latest_only else frames[-_WATCHED_FILES:]:
                self._observe(name)
            yield from self._iter_latest(frames, before) if latest_only else self._iter_all(frames)
            yield Wait(max(self._poll_s, took_s / _LISTING_SHARE))

    def _list(self, latest_only: bool) -> list[str]:
        """List files not yet handled, in natural order.

        The folder is listed twice, because one listing may lack a file that is older than one it has.
        """
        first = self._names()
        if not first - self._handled:
            names = first
        else:
            last = max((natural_key(Path(name)) for name in first if _is_frame(name)), default=[])
            names = {
                name
                for name in self._names()
                if name in first or not _is_frame(name) or natural_key(Path(name)) <= last
            }
        # a file that left the folder may come back
        self._handled &= names
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        if latest_only and self._latest is not None and self._is_overwritten():
            self._handled.discard(self._latest[0])
        new = [name for name in names if name not in self._handled]
        return sorted(new, key=lambda name: natural_key(Path(name)))

    def _names(self) -> set[str]:
        with os.scandir(self._folder) as entries:
            return {
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.name not in self._ignored and entry.is_file()
            }

    def _is_overwritten(self) -> bool:
        """Tell whether the camera has written the latest file again."""
        if self._latest is None:
            return False
        name, *seen = self._latest
        try:
            stat = os.stat(self._folder / name)
        except OSError:
            return False
        return [stat.st_size, stat.st_mtime_ns] != seen

    def _iter_other_files(self, names: Sequence[str]) -> Iterator[Skipped]:
        """Report other files once, if they stay: a temporary name may become that of a frame."""
        now_s = time.monotonic()
        for name in names:
            if _is_frame(name):
                continue
            if name.lower().endswith(_COMPANIONS):
                self._handled.add(name)
                continue
            seen = self._seen.setdefault(name, _SeenFile(0, 0, now_s))
            if now_s - seen.since_s >= self._patience_s:
                self._finish(name)
                kind = Path(name).suffix.lower()
                yield Skipped(name, f"not a frame: files {f'ending in {kind}' if kind else 'without ending'}")

    def _iter_all(self, names: Sequence[str]) -> Iterator[Event]:
        for name in names:
            found = self._take(name)
            if found is None:
                return  # later frames wait their turn
            yield found

    def _iter_latest(self, names: Sequence[str], before: set[str]) -> Iterator[Event]:
        for place in range(len(names) - 1, -1, -1):
            found = self._take(names[place])
            if isinstance(found, Skipped):
                yield found
            elif found is not None:
                for name in names[:place]:
                    self._finish(name)
                if missed := len(set(names[:place]) - before):
                    yield Passed(missed)
                before.clear()
                yield found
                return

    def _observe(self, name: str) -> _SeenFile | None:
        """Compare size and time of a file with the last poll; None when it is gone."""
        try:
            stat = os.stat(self._folder / name)
        except FileNotFoundError:
            return None
        seen = self._seen.get(name)
        if seen is not None and (seen.size_bytes, seen.changed_ns) == (stat.st_size, stat.st_mtime_ns):
            seen.is_settled = True
        else:
            # renamed, or its rights changed, after the last byte was written; Windows keeps no such time
            was_renamed = os.name == "posix" and stat.st_ctime_ns > stat.st_mtime_ns
            seen = _SeenFile(stat.st_size, stat.st_mtime_ns, time.monotonic(), was_renamed)
            self._seen[name] = seen
        return seen

    def _take(self, name: str) -> Arrival | Skipped | None:
        """Read a file if it is complete; None to try again later."""
        before = self._seen.get(name) or self._observe(name)
        if before is None:
            self._handled.add(name)
            return None
        if not before.is_settled:
            return None
        reason = ""
        try:
            image = read(self._folder / name)
            if image.n_frames > 1:
                reason = f"a stack of {image.n_frames} frames; watch that file itself"
            else:
                image = image.with_data(image.frames(0, 1)[0])
        except (ValueError, OSError) as err:
            if time.monotonic() - before.since_s < self._patience_s:
                return None
            reason = _without_path(err, self._folder / name)
        if not reason and self._observe(name) is not before:
            return None  # changed while it was read
        self._finish(name)
        if reason:
            return Skipped(name, reason)
        self._latest = name, before.size_bytes, before.changed_ns
        return Arrival(name, image, before.changed_ns / 1e9, before.since_s)

    def _finish(self, name: str) -> None:
        self._handled.add(name)
        self._seen.pop(name, None)


def _is_frame(name: str) -> bool:
    ending = Path(name).suffix.lower()
    return ending in READABLE_SUFFIXES and ending not in (*_COMPANIONS, ".zarr")


def _without_path(err: Exception, path: Path) -> str:
    """Give the fault without the path in front."""
    text = " ".join(str(err).split())
    return text.removeprefix(f"{path}: ").split("; copy")[0]
