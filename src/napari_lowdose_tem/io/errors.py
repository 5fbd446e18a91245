"""Turn whatever a reading library raises or logs into one line about the file."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def as_value_error(path: Path, what: str = "cannot be read") -> Iterator[None]:
    """Turn any failure on a damaged file into ``ValueError("PATH: WHAT (reason); remedy")``.

    A missing file, missing rights and lack of memory keep their type; an error that already names the file
    is raised unchanged.
    """
    try:
        yield
    except (PermissionError, MemoryError):
        raise
    except Exception as err:  # a damaged file makes the libraries raise nearly anything
        text = " ".join(str(err).split()) or type(err).__name__
        if isinstance(err, ValueError) and text.startswith(str(path)):
            raise
        if isinstance(err, FileNotFoundError) and not path.exists():
            raise
        reason = text if isinstance(err, ValueError | OSError) else f"{type(err).__name__}: {text}"
        raise ValueError(
            f"{path}: {what} ({reason}); the file is damaged, cut short or of another kind: "
            "copy or export it again"
        ) from err


_FILTERS = threading.RLock()


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore warnings; one thread at a time, since the filters are those of the process."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def quiet(logger: str) -> Iterator[list[str]]:
    """Collect what a library logs in this thread, instead of printing it."""
    messages: list[str] = []
    thread = threading.get_ident()

    class _Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                messages.append(record.getMessage())

    handler = _Collect(logging.WARNING)
    log = logging.getLogger(logger)
    log.addHandler(handler)
    try:
        yield messages
    finally:
        log.removeHandler(handler)
