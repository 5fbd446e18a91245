"""Send values to another process through a pipe, without copying their pixels."""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

_HEAD = struct.Struct("<QI")  # bytes of the pickle, number of buffers beside it
_SIZE = struct.Struct("<Q")


@dataclass(frozen=True, eq=False)
class RunEnded:
    """The last message of a run, with the error that ended it."""

    error: Exception | None = None


def pack(value: Any) -> list[bytes | memoryview]:
    """Make a message of a value, which must not change until the message is sent.

    Raises
    ------
    TypeError, pickle.PicklingError
        When it holds something that cannot be sent.
    """
    import cloudpickle  # type: ignore[import-untyped]

    buffers: list[pickle.PickleBuffer] = []
    head = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    sizes = b"".join(_SIZE.pack(view.nbytes) for view in views)
    return [_HEAD.pack(len(head), len(views)) + sizes + head, *views]


def send(pipe: IO[bytes], message: list[bytes | memoryview]) -> None:
    """Write a message; waits while the other process is slow."""
    for part in message:
        view = memoryview(part)
        while view:  # an unbuffered pipe takes what fits
            view = view[pipe.write(view) :]


def receive(pipe: IO[bytes]) -> Any:
    """Read the next value.

    Raises
    ------
    EOFError
        When the other process has ended.
    """
    n_head, n_buffers = _HEAD.unpack(_read(pipe, _HEAD.size))
    sizes = [_SIZE.unpack(_read(pipe, _SIZE.size))[0] for _ in range(n_buffers)]
    head = _read(pipe, n_head)
    return pickle.loads(head, buffers=[_read(pipe, size) for size in sizes])


def _read(pipe: IO[bytes], size: int) -> memoryview:
    block = np.empty(size, np.uint8).data
    rest = block
    while rest:
        n_read = pipe.readinto(rest)  # type: ignore[attr-defined]
        if not n_read:
            raise EOFError
        rest = rest[n_read:]
    return block
