"""Importing a library without an optional module that it would import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing_without(name: str) -> Iterator[None]:
    """Make imports of a module fail inside the `with` block, unless it was imported before."""
    is_new = name not in sys.modules
    if is_new:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if is_new:
            del sys.modules[name]
