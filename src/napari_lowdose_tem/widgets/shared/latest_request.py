"""One job at a time, for the latest request only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from napari_lowdose_tem.widgets.shared.delay import DelayedCall
from napari_lowdose_tem.widgets.shared.worker import Job

R = TypeVar("R")


class LatestRequest(Generic[R]):
    """One job at a time; of the requests that come meanwhile the newest waits, the others are forgotten.

    Parameters
    ----------
    run
        Makes the job's generator from a request.
    progress
        Called with what the job yields.
    failed
        Called with the request and what the job ended with.
    pause_ms
        Time between two jobs, that the viewer needs to stay smooth while a job computes.
    """

    def __init__(
        self,
        run: Callable[[R], Iterator[Any]],
        progress: Callable[[Any], None],
        failed: Callable[[R, Exception], None],
        pause_ms: int = 0,
    ) -> None:
        self._run, self._progress, self._failed = run, progress, failed
        self._job: Job | None = None
        self._next: R | None = None
        self._pause_ms = pause_ms
        self._pause = DelayedCall(self._go_on, pause_ms)

    @property
    def is_busy(self) -> bool:
        """Whether a job runs."""
        return self._job is not None

    def ask(self, request: R) -> None:
        """Run it, at once or when the job in work has ended."""
        if self._job is not None or self._pause.is_waiting:
            self._next = request
        else:
            self._start(request)

    def cancel(self) -> None:
        """Forget what waits and stop what runs."""
        self._next = None
        self._pause.cancel()
        if self._job is not None:
            self._job.cancel()

    def _start(self, request: R) -> None:
        self._next = None
        job = self._job = Job(lambda: self._run(request))
        job.progress.connect(self._progress)
        job.errored.connect(lambda error: self._on_errored(request, error))
        job.finished.connect(self._on_ended)
        job.cancelled.connect(self._on_ended)
        job.start()

    def _on_errored(self, request: R, error: Exception) -> None:
        self._failed(request, error)
        self._on_ended()

    def _on_ended(self, last: Any = None) -> None:
        self._job = None
        if self._pause_ms:
            self._pause.ask()
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self._next is not None:
            self._start(self._next)
