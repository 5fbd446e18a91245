"""Files written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a name beside `path` to write to, which takes its place when all went well.

    The name keeps the ending, which tells some writers the format, and holds this process's number, so that
    two writers of one file do not meet.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file in UTF-8; lines end as they are in every system."""
    path = Path(path)
    with replacing(path) as partial:
        partial.write_bytes(text.encode())
    return path
