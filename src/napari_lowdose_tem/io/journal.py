"""The record of which frames of a partial output are finished."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO


class Journal:
    """A text file: what is being written on the first line, then ``START STOP`` of finished frames.

    A line is added only after its frames, so the process may be killed at any moment; a line torn by that
    has no end and is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def read(self) -> tuple[dict[str, Any], list[range]] | None:
        """Read header and finished ranges, or None when there is no whole header."""
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
