import time

from napari_lowdose_tem.widgets.shared.latest_request import LatestRequest

LONG = 60_000


def test_latest_request_wins(qtbot):
    done = []

    def run(number):
        time.sleep(0.05)
        yield number

    jobs = LatestRequest(run, done.append, lambda request, error: done.append(error))
    for number in range(20):
        jobs.ask(number)
    qtbot.waitUntil(lambda: not jobs.is_busy, timeout=LONG)
    assert done == [0, 19]


def test_failure_of_a_job_is_told_and_the_next_runs(qtbot):
    failed = []

    def run(number):
        raise RuntimeError("broken")
        yield

    jobs = LatestRequest(
        run, lambda progress: None, lambda request, error: failed.append((request, str(error)))
    )
    jobs.ask(1)
    jobs.ask(2)
    qtbot.waitUntil(lambda: not jobs.is_busy, timeout=LONG)
    assert failed == [(1, "broken"), (2, "broken")]
