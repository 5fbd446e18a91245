"""Checking a data set before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_lowdose_tem.train.config import SIMULATOR
from napari_lowdose_tem.widgets.shared.worker import Job, error_line
from napari_lowdose_tem.widgets.train.state import FindingRow, TrainState, sort_findings

if TYPE_CHECKING:
    from napari_lowdose_tem.pairs.check import CheckSummary, Finding


@dataclass(frozen=True)
class CheckResult:
    """How far a check got, and what it found so far."""

    share_done: float
    findings: tuple[FindingRow, ...]
    text: str


def iter_results(data: str, hde_factor: int) -> Iterator[CheckResult]:
    """Check a data set; what holds for many files is listed once."""
    from napari_lowdose_tem.pairs.check import iter_check

    for progress in iter_check(data, hde_only_factor=hde_factor):
        summary = progress.summary
        share = progress.done / progress.total if progress.total else 1.0
        text = describe_summary(summary) if summary else f"Field {progress.done} of {progress.total}"
        yield CheckResult(share, group_findings(progress.findings, data), text)


def group_findings(findings: Sequence[Finding], data: str) -> tuple[FindingRow, ...]:
    """Combine findings that say the same about several files into one row.

    Parameters
    ----------
    findings
        With `severity`, `path`, `what` and `remedy`.
    data
        Folder or list that was checked.
    """
    groups: dict[tuple[str, str, str], list[Path]] = {}
    for found in findings:
        groups.setdefault((found.severity, found.what, found.remedy), []).append(Path(found.path))
    grouped = []
    for (severity, what, remedy), paths in groups.items():
        where = _short(paths[0], data)
        if len(paths) > 1:
            where += f" and {len(paths) - 1} more"
        text = what.rstrip(".") + "."
        if remedy:
            text += f" {remedy[0].upper()}{remedy[1:].rstrip('.?')}{'?' if remedy.endswith('?') else '.'}"
        grouped.append(FindingRow(severity, where, text))
    return tuple(grouped)


def describe_summary(summary: CheckSummary) -> str:
    """Return `20 fields · 38 pairs · 2 refused · shifted by 1.2 px (median) · 4.6 e⁻/px (median)`."""
    parts = [_count(summary.fields, "field"), _count(summary.usable, "pair")]
    if summary.refused:
        parts.append(f"{summary.refused} refused")
    if summary.median_shift_px is not None:
        parts.append(f"shifted by {summary.median_shift_px:.2g} px (median)")
    if summary.median_dose_e_per_px is not None:
        parts.append(f"{summary.median_dose_e_per_px:.3g} e⁻/px (median)")
    if not summary.usable and summary.fields:
        parts[1] = "no pairs: low-dose frames are simulated from the high-dose ones"
    return " · ".join(parts)


def _short(path: Path, data: str) -> str:
    try:
        return str(path.relative_to(data)) if path != Path(data) else ""
    except ValueError:
        return path.name


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


class DataCheck:
    """Runs a check in a job and writes its results to the dock's state.

    Parameters
    ----------
    state
        State of the dock.
    iter_check
        Makes results from data and the reduction of high-dose frames alone.
    """

    def __init__(
        self, state: TrainState, iter_check: Callable[[str, int], Iterator[CheckResult]] | None = None
    ) -> None:
        self._state = state
        self._iter_check = iter_check or iter_results
        self._job: Job | None = None

    def start(self) -> None:
        """Look for problems in the chosen data."""
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
        """Stop the check."""
        if self._job is not None:
            self._job.cancel()

    def forget(self) -> None:
        """Stop the check and forget its findings: they are about other data."""
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
        if job is not self._job:  # a check of other data
            return
        if last is not None:
            self._show(last)
        if error:
            self._state.findings = (FindingRow("error", "", error),)
            self._state.check_text = ""
        if stopped:
            self._state.check_text = "Check stopped. The remaining fields were not checked."
        self._job = None
        self._state.checking = False
