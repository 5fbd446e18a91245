"""Importing a library without something it would bring along."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def keeping_out(name: str) -> Iterator[None]:
    """Within it a module not imported yet cannot be: who imports it finds it missing."""
    unset = name not in sys.modules
    if unset:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if unset:
            del sys.modules[name]
