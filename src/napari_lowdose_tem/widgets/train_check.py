"""Looking through a data set before it is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from napari_lowdose_tem.train.config import SIMULATOR

from ._worker import Job, error_line
from .train_state import Finding, TrainState, sort_findings


@dataclass(frozen=True)
class CheckResult:
    """How far a check got, and what it found so far."""

    share_done: float
    findings: tuple[Finding, ...]
    text: str


def iter_results(data: str, hde_factor: int) -> Iterator[CheckResult]:
    """Run the validator of data sets."""
    from napari_lowdose_tem.pairs import iter_check

    yield from iter_check(data)


class DataCheck:
    """Runs a check in a job and tells the dock's state.

    Parameters
    ----------
    state
        State of the dock.
    iter_check
        Makes results from data and the reduction of high-dose frames alone.
    """

    def __init__(
        self, state: TrainState, iter_check: Callable[[str, int], Iterator[Any]] | None = None
    ) -> None:
        self._state = state
        self._iter_check = iter_check or iter_results
        self._job: Job | None = None

    def start(self) -> None:
        """Look through the data chosen for what training would stumble over."""
        state = self._state
        if state.checking or state.running or state.data == SIMULATOR:
            return
        data, factor, iter_check = state.data, state.hde_factor, self._iter_check
        self.forget()
        job = self._job = Job(lambda: iter_check(data, factor))
        job.progress.connect(self._show)
        job.finished.connect(lambda last: self._end(job, last))
        job.errored.connect(lambda error: self._end(job, None, error_line(error)))
        job.cancelled.connect(lambda _: self._end(job, None, stopped=True))
        state.checking = True
        job.start()

    def cancel(self) -> None:
        """Stop looking."""
        if self._job is not None:
            self._job.cancel()

    def forget(self) -> None:
        """Stop looking, and forget what was found: it was said of other data."""
        self.cancel()
        self._job = None
        state = self._state
        state.checking, state.share_checked, state.findings, state.check_text = False, 0.0, (), ""

    def _show(self, result: CheckResult) -> None:
        state = self._state
        state.share_checked = result.share_done
        state.findings = sort_findings(result.findings)
        state.check_text = result.text

    def _end(self, job: Job, last: CheckResult | None, error: str = "", stopped: bool = False) -> None:
        if job is not self._job:  # one of other data
            return
        if last is not None:
            self._show(last)
        if error:
            self._state.findings = (Finding("error", "", error),)
            self._state.check_text = ""
        if stopped:
            self._state.check_text = "Check stopped; the rest was not looked at."
        self._job = None
        self._state.checking = False
