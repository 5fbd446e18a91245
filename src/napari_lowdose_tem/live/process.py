"""Run a live enhancement in a process of its own, so that the viewer never waits for it.

Started by hand and not by `multiprocessing`, which would run the main script of the viewer again.
"""

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
from napari_lowdose_tem.live.pipeline import LiveConfig
from napari_lowdose_tem.live.step import LiveStep

_HEARTBEAT_S = 0.1
_END_TIMEOUT_S = 15.0  # a frame may still be written to a slow disk
_SIGKILL = 9
_NICENESS = 19  # the viewer and the camera program come first


def iter_live_in_process(config: LiveConfig) -> Generator[LiveStep, None, None]:
    """Enhance frames as `iter_live` does, in another process of lower priority.

    A report that is not taken in time is replaced by the next one and delays nothing. Closing the iterator
    ends the process.

    Raises
    ------
    ValueError, OSError
        As `iter_live` does.
    ChildProcessError
        When the process was ended from outside, or did not end in time.
    """
    process = _LiveProcess(config)
    last = LiveStep(note="loading the model")
    try:
        yield last
        while True:
            if config.is_stopped():
                process.stop()
            message = process.take(_HEARTBEAT_S)
            if isinstance(message, RunEnded):
                if message.error is not None:
                    raise message.error
                return
            if message is not None:
                last = replace(message, raw=None, output=None)
            yield message or last
    finally:
        process.close()


class _LiveProcess:
    """The process, and a thread that receives its messages."""

    def __init__(self, config: LiveConfig) -> None:
        # the paths of this process, without the working folder: a file there may have the name of a module
        run = f"from {__package__} import process_main; process_main.main({_NICENESS})"
        code = f"import sys; sys.path[:] = {sys.path!r}; {run}"
        request = pack(replace(config, is_stopped=bool))
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
        self._is_ready = False  # until then it has nothing open that it must close
        self._stopped_s: float | None = None
        self._listener = threading.Thread(
            target=self._listen, args=(request,), name="live-listener", daemon=True
        )
        self._listener.start()

    def take(self, timeout_s: float) -> LiveStep | RunEnded | None:
        """Take the next message; None when none comes in time."""
        if self._stopped_s is not None and time.monotonic() - self._stopped_s > _END_TIMEOUT_S:
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
        """Have it end after the current frame, or at once while it loads."""
        if self._stopped_s is not None:
            return
        self._stopped_s = time.monotonic()
        if not self._is_ready:
            self._process.kill()
            return
        with contextlib.suppress(OSError):  # it may have ended already
            cast("IO[bytes]", self._process.stdin).write(b"s")

    def close(self) -> None:
        """End it and wait until it is gone."""
        self.stop()
        while self._listener.is_alive():
            self.take(_HEARTBEAT_S)  # makes room for its last message
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            cast("IO[bytes]", pipe).close()

    def _listen(self, request: list[bytes | memoryview]) -> None:
        """Pass on its messages; the last one is always `RunEnded`."""
        pipe = cast("IO[bytes]", self._process.stdout)
        message: LiveStep | RunEnded | None = None
        try:
            send(cast("IO[bytes]", self._process.stdin), request)
            while not isinstance(message, RunEnded):
                message = receive(pipe)
                self._messages.put(message)
        except (OSError, EOFError):
            self._messages.put(RunEnded(self._explain_end()))

    def _explain_end(self) -> Exception | None:
        status = self._process.wait()
        if self._stopped_s is not None and not self._is_ready:
            return None
        saved = "what was saved is complete"
        if self._hangs:
            return ChildProcessError(
                f"the current frame took over {_END_TIMEOUT_S:.0f} s and was given up; {saved}"
            )
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        perhaps = ", perhaps for lack of memory" if -status == _SIGKILL else ""
        return ChildProcessError(f"the enhancing process ended ({how}{perhaps}); {saved}, start again")


_WINDOWS_FLAGS = (
    subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS  # type: ignore[attr-defined]
    if os.name == "nt"
    else 0
)
