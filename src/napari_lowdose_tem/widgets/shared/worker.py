"""Jobs in a thread: the only file that knows threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator

from napari.qt.threading import GeneratorWorkerSignals, WorkerBase, create_worker
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

_log = logging.getLogger(__name__)

_WAITING = 4  # reports not yet seen by the GUI thread before the job pauses, so that frames do not pile up


class Job(QObject):
    """A generator of progress run in a thread; signals arrive on the thread that made the job.

    One of `finished`, `errored` and `cancelled` ends it, after the generator is closed and has given back
    what it held; the first and the last come with the last progress, which may be more than was passed on.

    Parameters
    ----------
    steps
        Makes the generator, in the thread; everything it needs is frozen in it.
    title
        What napari says is still running when its window is closed; nothing for jobs not worth asking.
    """

    started = Signal()
    progress = Signal(object)
    finished = Signal(object)
    errored = Signal(object)
    cancelled = Signal(object)

    def __init__(
        self, steps: Callable[[], Iterator[object]], title: str = "", parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._is_cancelled = False
        self._is_running = False
        self._last: object = None
        self._error: Exception | None = None
        self._worker = _make_worker(_Steps(steps, title))
        self._worker.yielded.connect(self._on_yielded)
        self._worker.errored.connect(self._on_errored)
        self._worker.finished.connect(self._on_finished)

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._is_running

    @property
    def is_cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._is_cancelled

    def start(self) -> None:
        """Start it."""
        self._is_running = True
        self._worker.start()
        self.started.emit()

    @property
    def error(self) -> Exception | None:
        """What it failed with, also while it was being cancelled."""
        return self._error

    @property
    def is_paused(self) -> bool:
        """Whether it was asked to wait."""
        return self._worker.is_held

    def pause(self) -> None:
        """Let it wait after its next step; what it holds it keeps."""
        self._worker.hold()

    def go_on(self) -> None:
        """End the pause."""
        self._worker.release()

    def cancel(self) -> None:
        """Stop it at its next step, paused or not; nothing it still reports is passed on."""
        self._is_cancelled = True
        self._worker.quit()

    def _on_yielded(self, progress: object) -> None:
        self._worker.seen()
        self._last = progress
        if not (self._is_cancelled or self._worker.abort_requested):
            self.progress.emit(progress)

    def _on_errored(self, error: Exception) -> None:
        self._error = error

    def _on_finished(self) -> None:
        self._is_running = False
        # napari itself stops workers when its window closes
        if self._is_cancelled or self._worker.abort_requested:
            self.cancelled.emit(self._last)
        elif self._error is not None:
            self.errored.emit(self._error)
        else:
            self.finished.emit(self._last)


def error_line(error: Exception) -> str:
    """Say in one line what ended a job; errors nobody can have caused are logged in full."""
    if isinstance(error, OSError) and error.strerror:
        # without `[Errno 28]`
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return " ".join(text.split())
    text = " ".join(str(error).split())
    if isinstance(error, ValueError | OSError | MemoryError):
        return text or type(error).__name__
    _log.error("a job failed", exc_info=error)
    return f"{type(error).__name__}: {text[:300]}"


class _Steps:
    """A named factory of steps; napari shows its text."""

    def __init__(self, make: Callable[[], Iterator[object]], title: str) -> None:
        self.make, self.title = make, title

    def __call__(self) -> Iterator[object]:
        return self.make()

    def __str__(self) -> str:
        return self.title


class _Worker(WorkerBase):  # type: ignore[misc]  # napari ships no types
    """napari's worker, so that its window waits for it on closing, with a loop of its own.

    Its generator worker takes a RuntimeError for a deleted Qt object and reports nothing, and every
    worker changes the warning filters of the whole process; torch raises RuntimeError for nearly everything.
    """

    def __init__(self, steps: Callable[[], Iterator[object]]) -> None:
        super().__init__(SignalsClass=GeneratorWorkerSignals)
        self._steps = steps
        self._room = threading.Semaphore(_WAITING)
        self._free = threading.Event()
        self._free.set()

    def seen(self) -> None:
        self._room.release()

    @property
    def is_held(self) -> bool:
        return not self._free.is_set()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def run(self) -> None:
        try:
            self._run_and_report()
        except RuntimeError:
            if isalive(self.signals):  # else the application has ended and nobody listens
                raise

    def _run_and_report(self) -> None:
        self.started.emit()
        self._running = True
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - the job's boundary
            self.errored.emit(error)
        self._running = False
        if self.abort_requested:
            self.aborted.emit()
        self.finished.emit()
        self._finished.emit(self)

    def _work(self) -> None:
        if self.abort_requested:
            return
        steps = self._steps()
        try:
            for step in steps:
                while not self.abort_requested and not self._room.acquire(timeout=0.05):
                    pass
                # what is made is reported even when cancelled: it may be the result
                self.yielded.emit(step)
                while not self.abort_requested and not self._free.wait(0.05):
                    pass
                if self.abort_requested:
                    return
        finally:
            # here, in the thread: it frees the device's memory and the output's lock
            if isinstance(steps, Generator):
                steps.close()


def _make_worker(steps: _Steps) -> _Worker:
    if not steps.title:
        return _Worker(steps)
    # registers the job, so that closing the window asks first
    worker: _Worker = create_worker(steps, _worker_class=_Worker, _start_thread=False, _ignore_errors=True)
    return worker
