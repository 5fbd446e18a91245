"""What every output needs: a lock, a final name only when complete, a journal to resume from."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a name beside `path` to write to, which is renamed to `path` when the block ends without error.

    The name keeps the ending, which tells some writers the format, and holds this process's number, so that
    two writers of one file do not collide.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file in UTF-8 with the line ends of `text`, whole or not at all."""
    path = Path(path)
    with replacing(path) as partial:
        partial.write_bytes(text.encode())
    return path


def partial_path(path: Path) -> Path:
    """Give the name of an output while it is not complete."""
    return path.with_name(f"{path.name}.partial")


class OutputLock:
    """A lock file that keeps other processes, and other writers of this one, from an output.

    Taken on creation; ValueError, which calls the other one `writer`, when it is held already. The default
    lock file is OUTPUT.lock.
    """

    def __init__(self, output: Path, lock_file: Path | None = None, *, writer: str = "run") -> None:
        from filelock import FileLock, Timeout

        # taken in one thread, it may be released in another
        self._lock = FileLock(
            lock_file or output.with_name(f"{output.name}.lock"), timeout=0, thread_local=False
        )
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(
                f"{output}: another {writer} is writing it; wait for it or choose another name"
            ) from None

    @property
    def is_held(self) -> bool:
        """Whether it was not yet released."""
        return self._lock.is_locked

    def close(self) -> None:
        """Let others write; does nothing the second time."""
        if self._lock.is_locked:
            # removed while it is held: afterwards the file might already be another writer's lock
            with contextlib.suppress(OSError):
                os.unlink(self._lock.lock_file)
            self._lock.release()


@contextmanager
def disk_full_explained(path: Path, progress: Callable[[], str]) -> Iterator[None]:
    """Turn "no space left" into one line with the output and its `progress`, such as ``3 of 20 frames``."""
    try:
        yield
    except OSError as err:
        if err.errno not in _NO_SPACE:
            raise
        raise OSError(
            err.errno, f"{path}: the disk is full after {progress()}; make room and resume"
        ) from err


def check_free_space(path: Path, needed_bytes: float, freed_bytes: Callable[[], int]) -> None:
    """Raise OSError unless the disk has room for an output.

    `freed_bytes` returns the space that is freed or already allocated for it; it is only called when the disk
    is short of space.
    """
    free = shutil.disk_usage(path.parent).free
    if needed_bytes > free:
        free += freed_bytes()
    if needed_bytes > free:
        raise OSError(
            errno.ENOSPC,
            f"{path}: needs {needed_bytes / 1e9:.3g} GB, the disk has {free / 1e9:.3g} GB free; "
            "make room or write to another disk",
        )


def allocated_bytes(path: Path) -> int:
    """Give the disk space of a file or folder, 0 where there is none."""
    if path.is_dir():
        return sum(allocated_bytes(Path(place, name)) for place, _, names in os.walk(path) for name in names)
    try:
        stat = os.lstat(path)
    except FileNotFoundError:
        return 0
    # blocks of 512 bytes on every file system; Windows does not report them
    blocks: int | None = getattr(stat, "st_blocks", None)
    return stat.st_size if blocks is None else blocks * 512


def remove_output(path: Path) -> None:
    """Remove a file or folder, if it is there; of a link only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_in_place(partial: Path, path: Path) -> Path | None:
    """Rename a complete output to its final name; returns the folder that then holds the old one, if any."""
    if not (os.path.lexists(path) and partial.is_dir()):
        os.replace(partial, path)
        return None
    # a rename replaces files only
    aside = Path(tempfile.mkdtemp(prefix=f"{path.name}.old-", dir=path.parent))
    try:
        os.replace(path, aside / path.name)
        try:
            os.replace(partial, path)
        except BaseException:
            os.replace(aside / path.name, path)
            raise
    except BaseException:
        # removes an empty folder only
        with contextlib.suppress(OSError):
            aside.rmdir()
        raise
    return aside


class Journal:
    """Which frames of a partial output are finished: a header line, then ``START STOP`` of finished frames.

    A line is added after its frames, so that the process may be killed at any moment; a line torn by that
    has no end and is cut off. Text by hand rather than a database: one appended line a batch, readable by
    anybody.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def read(self) -> tuple[dict[str, Any], list[range]] | None:
        """Read header and finished ranges; None without a whole header."""
        try:
            *lines, torn = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return None
        if not lines:
            return None
        if torn:
            os.truncate(self.path, self.path.stat().st_size - len(torn))
        header: dict[str, Any] = json.loads(lines[0])
        return header, [range(int(start), int(stop)) for start, stop in map(bytes.split, lines[1:])]

    def start(self, header: Mapping[str, Any]) -> None:
        """Begin anew."""
        self.path.write_text(json.dumps(header, allow_nan=False) + "\n", encoding="utf-8")

    def add(self, start: int, stop: int) -> None:
        """Record finished frames."""
        if self._file is None:
            self._file = open(self.path, "a", encoding="utf-8")
        self._file.write(f"{start} {stop}\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        # a disk that filled up in the middle of a line fails here once more
        with contextlib.suppress(OSError):
            if file is not None:
                file.close()

    def remove(self) -> None:
        """Remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)
