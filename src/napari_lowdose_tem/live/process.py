"""A live enhancement in a process of its own, so that a viewer never waits for it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import replace
from typing import IO, cast

from napari_lowdose_tem.live.messages import RunEnded, pack, receive, send
from napari_lowdose_tem.live.pipeline import LiveConfig, LiveStep

_HEARTBEAT_S = 0.1
_LONGEST_END_S = 15.0  # a frame may still be written to a slow disk
_KILLED = 9
_NICENESS = 19  # the viewer and the camera program come first


def iter_live_in_process(config: LiveConfig) -> Generator[LiveStep, None, None]:
    """Enhance frames as `pipeline.iter_live` does, in another process of lower priority.

    A report that is not asked for in time is replaced by the next, and holds up nothing. Closing the iterator
    ends the process.

    Raises
    ------
    ValueError, OSError
        As `iter_live` does, and when the process was ended from outside.
    """
    child = _LiveProcess(config)
    last = LiveStep(note="loading the model")
    try:
        yield last
        while True:
            if config.is_stopped():
                child.stop()
            message = child.take(_HEARTBEAT_S)
            if isinstance(message, RunEnded):
                if message.error is not None:
                    raise message.error
                return
            if message is not None:
                last = replace(message, raw=None, output=None)
            yield message or last
    finally:
        child.close()


class _LiveProcess:
    """The process, and a thread that listens to it."""

    def __init__(self, config: LiveConfig) -> None:
        # paths as they are here, and not the folder it is started in: a file there may bear a module's name
        run = f"from {__package__} import process_main; process_main.main({_NICENESS})"
        code = f"import sys; sys.path[:] = {sys.path!r}; {run}"
        order = pack(replace(config, is_stopped=bool))
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if sys.__stderr__ else subprocess.DEVNULL,  # Windows has programs without
            bufsize=0,
            creationflags=_WINDOWS_FLAGS,
        )
        self._messages: queue.Queue[LiveStep | RunEnded] = queue.Queue(1)
        self._hangs = False
        self._is_ready = False  # before, it has nothing open that would have to be closed
        self._stopped_s: float | None = None
        self._listener = threading.Thread(
            target=self._listen, args=(order,), name="live-listener", daemon=True
        )
        self._listener.start()

    def take(self, timeout_s: float) -> LiveStep | RunEnded | None:
        """Take the next message; None when none comes in time."""
        if self._stopped_s is not None and time.monotonic() - self._stopped_s > _LONGEST_END_S:
            self._hangs = True
            self._process.kill()
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(message, LiveStep) and message.device:
            self._is_ready = True
        return message

    def stop(self) -> None:
        """Have it end after the frame in work, or at once while it loads."""
        if self._stopped_s is not None:
            return
        self._stopped_s = time.monotonic()
        if not self._is_ready:
            self._process.kill()
            return
        with contextlib.suppress(OSError):  # it may have ended by itself
            cast("IO[bytes]", self._process.stdin).write(b"s")

    def close(self) -> None:
        """End it and wait until it is gone."""
        self.stop()
        while self._listener.is_alive():
            self.take(_HEARTBEAT_S)  # or it could not say that it has ended
        try:
            self._process.wait(_LONGEST_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            cast("IO[bytes]", pipe).close()

    def _listen(self, order: list[bytes | memoryview]) -> None:
        """Pass on its messages; the last one is always `RunEnded`."""
        pipe = cast("IO[bytes]", self._process.stdout)
        message: LiveStep | RunEnded | None = None
        try:
            send(cast("IO[bytes]", self._process.stdin), order)
            while not isinstance(message, RunEnded):
                message = receive(pipe)
                self._messages.put(message)
        except (OSError, EOFError):
            self._messages.put(RunEnded(self._why_gone()))

    def _why_gone(self) -> Exception | None:
        status = self._process.wait()
        if self._stopped_s is not None and not self._is_ready:
            return None
        whole = "what was saved is whole"
        if self._hangs:
            return ChildProcessError(
                f"the frame in work took over {_LONGEST_END_S:.0f} s and was given up; {whole}"
            )
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        perhaps = ", perhaps for lack of memory" if -status == _KILLED else ""
        return ChildProcessError(f"the process that enhances ended ({how}{perhaps}); {whole}, start again")


_WINDOWS_FLAGS = (
    subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS  # type: ignore[attr-defined]
    if os.name == "nt"
    else 0
)
