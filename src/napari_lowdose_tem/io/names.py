"""Names of files: their order, and the name of the image in them."""

from __future__ import annotations

import re
from pathlib import Path


def natural_key(path: Path) -> list[str | int]:
    """Sort key that puts frame 10 after frame 9."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    # every second part is digits; other numerals, as in "a²", stay text
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def image_name(path: Path) -> str:
    """Name of the file without its ending, ``.ome`` included."""
    return path.stem.removesuffix(".ome")
