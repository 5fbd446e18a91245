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
PATIENCE_S = 3.0
_LOOKED_AHEAD = 256  # waiting files whose change is followed
_LISTING_SHARE = 0.1  # of the time at most goes into listing a folder of many files
_LOST_S = 60.0  # a folder may be unreachable for this time
_COMPANIONS = (".emi",)  # describe the file of their name


@dataclass
class _SeenFile:
    """A file as it was last seen."""

    size_bytes: int
    changed_ns: int
    since_s: float
    is_settled: bool = False


class FolderSource:
    """Single-frame files of a folder, of any readable format.

    A file is whole when it can be read and did not change between two looks; one that was renamed into place
    is taken at once. One that stays unreadable for `patience_s` after its last change is named and skipped.

    Parameters
    ----------
    path
        The folder.
    poll_s, patience_s
        Time between two looks, and that given to broken files [s].
    ignore
        Files and folders in it that are not looked at.

    Raises
    ------
    ValueError
        For what is no folder.
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
        self._looks: dict[str, _SeenFile] = {}
        self._handled: set[str] = set()
        self._newest: tuple[str, int, int] | None = None

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._folder.name

    @property
    def path(self) -> str:
        """The folder."""
        return str(self._folder)

    def iter_events(self, newest_only: bool, done: Set[str] = frozenset()) -> Iterator[Event]:
        """Tell of the frames; never ends."""
        self._looks, self._handled, self._newest = {}, set(done), None
        before: set[str] | None = None  # what lay there, and was not missed
        listed_s = time.monotonic()
        while True:
            start_s = time.monotonic()
            try:
                waiting = self._list(newest_only)
            except OSError as err:
                # network drives come back
                if start_s - listed_s > _LOST_S:
                    raise OSError(err.errno, "the folder cannot be listed any more", self.path) from err
                yield Wait(1.0)
                continue
            listed_s = start_s
            took_s = time.monotonic() - start_s
            yield from self._iter_foreign(waiting)
            frames = [name for name in waiting if _is_frame(name)]
            before = set(frames) if before is None else before
            for name in frames[:_LOOKED_AHEAD] if not newest_only else frames[-_LOOKED_AHEAD:]:
                self._look(name)
            yield from self._iter_newest(frames, before) if newest_only else self._iter_all(frames)
            yield Wait(max(self._poll_s, took_s / _LISTING_SHARE))

    def _list(self, newest_only: bool) -> list[str]:
        """List files not yet handled, in natural order.

        Two looks, because a listing may lack a file that was written before one it has.
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
        # what left the folder may come again
        self._handled &= names
        self._looks = {name: look for name, look in self._looks.items() if name in names}
        if newest_only and self._newest is not None and self._is_overwritten():
            self._handled.discard(self._newest[0])
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
        """Tell whether a camera writes frame after frame to one name."""
        if self._newest is None:
            return False
        name, *seen = self._newest
        try:
            stat = os.stat(self._folder / name)
        except OSError:
            return False
        return [stat.st_size, stat.st_mtime_ns] != seen

    def _iter_foreign(self, names: Sequence[str]) -> Iterator[Skipped]:
        """Name files of other kinds once, those that stay: a name may be that of a file being written."""
        now_s = time.monotonic()
        for name in names:
            if _is_frame(name):
                continue
            if name.lower().endswith(_COMPANIONS):
                self._handled.add(name)
                continue
            look = self._looks.setdefault(name, _SeenFile(0, 0, now_s))
            if now_s - look.since_s >= self._patience_s:
                self._end(name)
                kind = Path(name).suffix.lower()
                yield Skipped(name, f"no frame: files {f'ending in {kind}' if kind else 'without ending'}")

    def _iter_all(self, names: Sequence[str]) -> Iterator[Event]:
        for name in names:
            found = self._take(name)
            if found is None:
                return  # the ones behind wait for their turn
            yield found

    def _iter_newest(self, names: Sequence[str], before: set[str]) -> Iterator[Event]:
        for place in range(len(names) - 1, -1, -1):
            found = self._take(names[place])
            if isinstance(found, Skipped):
                yield found
            elif found is not None:
                for name in names[:place]:
                    self._end(name)
                if missed := len(set(names[:place]) - before):
                    yield Passed(missed)
                before.clear()
                yield found
                return

    def _look(self, name: str) -> _SeenFile | None:
        """Note size and time of a file; None when it is gone."""
        try:
            stat = os.stat(self._folder / name)
        except FileNotFoundError:
            return None
        look = self._looks.get(name)
        if look is not None and (look.size_bytes, look.changed_ns) == (stat.st_size, stat.st_mtime_ns):
            look.is_settled = True
        else:
            # a new name or new rights after the last byte was written; Windows has no such time
            was_renamed = os.name == "posix" and stat.st_ctime_ns > stat.st_mtime_ns
            look = _SeenFile(stat.st_size, stat.st_mtime_ns, time.monotonic(), was_renamed)
            self._looks[name] = look
        return look

    def _take(self, name: str) -> Arrival | Skipped | None:
        """Read a file if it is whole; None when it has to wait."""
        before = self._looks.get(name) or self._look(name)
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
        if not reason and self._look(name) is not before:
            return None  # changed while it was read
        self._end(name)
        if reason:
            return Skipped(name, reason)
        self._newest = name, before.size_bytes, before.changed_ns
        return Arrival(name, image, before.changed_ns / 1e9, before.since_s)

    def _end(self, name: str) -> None:
        self._handled.add(name)
        self._looks.pop(name, None)


def _is_frame(name: str) -> bool:
    ending = Path(name).suffix.lower()
    return ending in READABLE_SUFFIXES and ending not in (*_COMPANIONS, ".zarr")


def _without_path(err: Exception, path: Path) -> str:
    """Give what is wrong without the name in front."""
    text = " ".join(str(err).split())
    return text.removeprefix(f"{path}: ").split("; copy")[0]
