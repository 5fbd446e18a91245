"""The record of which frames of a partial output are finished."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO


class Journal:
    """A text file: what is being written on the first line, then ``START STOP`` of finished frames.

    A line is added only after its frames, so the process may be killed at any moment; a line torn by that
    has no line end and is left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def read(self) -> tuple[dict[str, Any], list[range]] | None:
        """Read header and finished ranges, or None when there is no whole header."""
        try:
            *lines, _torn = self.path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return None
        try:
            header: dict[str, Any] = json.loads(lines[0])
        except (IndexError, ValueError):
            return None
        return header, [range(*map(int, line.split())) for line in lines[1:] if line]

    def start(self, header: Mapping[str, Any]) -> None:
        """Begin anew."""
        self.path.write_text(json.dumps(header) + "\n", encoding="utf-8")

    def add(self, start: int, stop: int) -> None:
        """Record finished frames."""
        if self._file is None:
            self._file = open(self.path, "a", encoding="utf-8")
            # ends a torn line, if there is one
            self._file.write("\n")
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
