import errno
import threading
import time

import pytest

from napari_lowdose_tem.widgets.shared.worker import Job, error_line


class Steps:
    """Counts to `n`, or fails; notes its thread and that it was closed."""

    def __init__(self, n=3, error=None, pause_s=0.0):
        self.n, self.error, self.pause_s = n, error, pause_s
        self.made, self.closed_in = 0, None

    def __call__(self):
        try:
            for i in range(self.n):
                time.sleep(self.pause_s)
                self.made += 1
                yield i
            if self.error:
                raise self.error
        finally:
            self.closed_in = threading.current_thread()


def record(job):
    seen = []

    for name in ("started", "progress", "finished", "errored", "cancelled"):
        getattr(job, name).connect(
            lambda *a, name=name: seen.append(
                (name, *a, threading.current_thread() is threading.main_thread())
            )
        )
    return seen


def names(seen):
    return [entry[0] for entry in seen]


def test_reports_on_the_gui_thread_and_works_in_another(qtbot):
    steps = Steps()
    job = Job(steps)
    seen = record(job)
    job.start()
    assert job.is_running
    qtbot.waitUntil(lambda: "finished" in names(seen))
    assert names(seen) == ["started", "progress", "progress", "progress", "finished"]
    assert all(entry[-1] for entry in seen)
    assert seen[-1][1] == 2
    assert steps.closed_in is not threading.main_thread()
    assert not job.is_running


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: out of memory"), ValueError("no signal")])
@pytest.mark.filterwarnings("default")
def test_every_error_is_reported_once(qtbot, error):
    job = Job(Steps(2, error), title="a job")
    seen = record(job)
    job.start()
    qtbot.waitUntil(lambda: "errored" in names(seen))
    qtbot.wait(50)
    assert names(seen).count("errored") == 1
    assert "finished" not in names(seen)
    assert seen[-1][1] is error
    assert not job.is_running


def test_cancel_stops_at_the_next_step_and_closes_the_generator(qtbot):
    steps = Steps(10_000, pause_s=0.02)
    job = Job(steps)
    seen = record(job)
    job.start()
    qtbot.waitUntil(lambda: "progress" in names(seen))
    job.cancel()
    made, reported = steps.made, names(seen).count("progress")
    qtbot.waitUntil(lambda: "cancelled" in names(seen))
    assert steps.made <= made + 2
    assert names(seen).count("progress") == reported
    assert steps.closed_in is not None
    assert "finished" not in names(seen)


def test_cancel_before_the_thread_begins_runs_nothing(qtbot):
    steps = Steps()
    job = Job(steps)
    seen = record(job)
    job.start()
    job.cancel()
    qtbot.waitUntil(lambda: "cancelled" in names(seen))
    assert steps.made == 0 or "progress" not in names(seen)


def test_cancel_too_late_tells_of_the_result(qtbot):
    reached, go_on = threading.Event(), threading.Event()

    def steps():
        yield "frame"
        reached.set()
        go_on.wait(10)
        yield "result"

    job = Job(steps)
    seen, last = record(job), []
    job.cancelled.connect(last.append)
    job.start()
    qtbot.waitUntil(reached.is_set)
    job.cancel()
    go_on.set()
    qtbot.waitUntil(lambda: "cancelled" in names(seen))
    assert last == ["result"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "/a/b.zarr: the disk is full;\nmake room"),
            "/a/b.zarr: the disk is full; make room",
        ),
        (OSError(errno.ENOENT, "No such file", "a.tif"), "a.tif: No such file"),
        (OSError("a.tif: no TIFF"), "a.tif: no TIFF"),
        (ValueError("no\nsignal"), "no signal"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("shapes"), "RuntimeError: shapes"),
    ],
)
def test_errors_read_as_one_line_without_numbers(error, line):
    assert error_line(error) == line


def test_reports_do_not_pile_up_before_a_busy_gui(qtbot):
    steps = Steps(100)
    job = Job(steps)
    seen = record(job)
    job.start()
    deadline = time.monotonic() + 0.5
    qtbot.wait(5)
    while time.monotonic() < deadline:  # the GUI thread is busy
        time.sleep(0.01)
    held = steps.made - names(seen).count("progress")
    assert held <= 6
    qtbot.waitUntil(lambda: "finished" in names(seen))
    assert names(seen).count("progress") == 100


def test_napari_can_stop_jobs_when_it_closes(qtbot):
    from superqt.utils import WorkerBase

    steps = Steps(10_000, pause_s=0.01)
    job = Job(steps)
    seen = record(job)
    job.start()
    qtbot.waitUntil(lambda: "progress" in names(seen))
    WorkerBase.await_workers(5000)
    assert steps.closed_in is not None
    qtbot.waitUntil(lambda: "cancelled" in names(seen))


def count():
    yield from range(1000)


def test_a_job_waits_while_paused_and_loses_nothing(qtbot):
    job, seen = Job(count), []
    job.progress.connect(seen.append)
    job.progress.connect(lambda number: job.pause() if number == 3 else None)
    job.start()
    qtbot.waitUntil(lambda: job.is_paused)
    qtbot.wait(100)
    held = len(seen)
    qtbot.wait(150)
    assert len(seen) == held < 1000
    with qtbot.waitSignal(job.finished):
        job.go_on()
    assert not job.is_paused
    assert seen == list(range(1000))


def test_a_paused_job_can_be_cancelled(qtbot):
    job = Job(count)
    job.start()
    job.pause()
    with qtbot.waitSignal(job.cancelled):
        job.cancel()


def test_a_cancelled_job_tells_what_failed_on_the_way_out(qtbot):
    def steps():
        try:
            yield from count()
        except GeneratorExit:
            raise OSError("the disk is full") from None

    job = Job(steps)
    with qtbot.waitSignal(job.progress):
        job.start()
    with qtbot.waitSignal(job.cancelled):
        job.cancel()
    assert str(job.error) == "the disk is full"
