"""Memory given back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Return freed memory that the C library keeps for itself (Linux with glibc; elsewhere nothing happens).

    After large arrays came and went, it can be tens of megabytes.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return
