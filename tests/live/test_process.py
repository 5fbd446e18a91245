"""The pipeline in a process of its own."""

import subprocess
import sys
import time
from dataclasses import replace

import cloudpickle
import numpy as np
import psutil
import pytest

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read
from napari_lowdose_tem.live import (
    Arrival,
    ReplaySource,
    Wait,
    iter_live,
    iter_live_in_process,
)

cloudpickle.register_pickle_by_value(sys.modules[__name__])

LONG_S = 120.0


@pytest.fixture
def run_in_process(live_processes):
    """Starts what is ended with the test, and leaves nothing."""
    started = []

    def run(config):
        started.append(iter_live_in_process(config))
        return started[-1]

    yield run
    for steps in started:
        steps.close()
    assert not live_processes()


class Talker:
    """A source that prints, and fails in its own way at the end."""

    name, path = "talker", ""

    def __init__(self, frame, fails=False):
        self.frame, self.fails = frame, fails

    def iter_events(self, latest_only, done):
        print("a library says something")
        yield Arrival("only", Image(self.frame), 0.0, time.monotonic())
        if self.fails:
            raise OddError("of", "its own kind")
        while True:
            yield Wait(0.01)


class OddError(Exception):
    """Cannot be made from its text alone."""

    def __init__(self, a, b):
        super().__init__(f"{a} {b}")


def test_frames_come_in_order_and_as_in_one_process(run_in_process, config, stack):
    alone = {step.name: step for step in iter_live(config) if step.output is not None}
    steps = list(run_in_process(config))
    shown = [step for step in steps if step.output is not None]
    numbers = [int(step.name.split()[1]) for step in shown]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 8
    for step in shown:
        np.testing.assert_array_equal(step.output.data, alone[step.name].output.data)
        np.testing.assert_array_equal(step.raw.data, alone[step.name].raw.data)
    last, image = steps[-1], shown[-1].output
    assert (last.arrived, last.enhanced, last.dropped, last.waiting) == (9, 9, 0, 0)
    assert image.pixel_size_nm == (2.0, 3.0)
    assert dict(image.provenance) == dict(alone["frame 8"].output.provenance)


def test_every_frame_is_saved_while_nobody_looks(run_in_process, config, tmp_path):
    steps = run_in_process(replace(config, output=tmp_path / "apart.ome.zarr"))
    assert next(steps).note == "loading the model"
    whole = read_when_there(tmp_path / "apart.ome.zarr", 9)
    assert [step.saved for step in steps][-1] == 9
    list(iter_live(replace(config, output=tmp_path / "here.ome.zarr")))
    np.testing.assert_array_equal(whole, np.asarray(read(tmp_path / "here.ome.zarr").data))


def read_when_there(path, n_frames):
    end_s = time.monotonic() + LONG_S
    while time.monotonic() < end_s:
        if (path / "0" / ".zarray").exists() and read(path).n_frames == n_frames:
            return np.asarray(read(path).data)
        time.sleep(0.05)
    raise AssertionError(f"no {n_frames} frames in {path}")


@pytest.mark.parametrize(
    ("fails", "kind", "text"),
    [(False, ValueError, "none-such"), (True, RuntimeError, "OddError: of its own")],
)
def test_what_goes_wrong_there_is_told_here(run_in_process, config, frames, fails, kind, text):
    wrong = {"source": Talker(frames(0), fails)} if fails else {"engine": EngineOptions(model="none-such")}
    with pytest.raises(kind, match=text) as caught:
        list(run_in_process(replace(config, **wrong)))
    assert "Traceback" in caught.value.__notes__[0]


def test_what_cannot_be_sent_is_told_at_once(run_in_process, config):
    source = Talker(None)
    source.lock = iter_live(config)  # no generator can leave its process
    with pytest.raises(TypeError):
        next(run_in_process(replace(config, source=source)))


def test_printing_disturbs_nothing_and_stop_ends_it(run_in_process, config, frames):
    stopped = []
    steps = run_in_process(replace(config, source=Talker(frames(0)), is_stopped=lambda: bool(stopped)))
    for step in steps:
        if step.output is not None:
            stopped.append(True)
            shown = step
    np.testing.assert_array_equal(shown.raw.data, frames(0))
    assert step.enhanced == 1


@pytest.mark.parametrize("how", ["stop", "close"])
def test_it_ends_while_it_loads(run_in_process, config, how, live_processes):
    stopped = []
    steps = run_in_process(replace(config, source=Talker(None), is_stopped=lambda: bool(stopped)))
    next(steps)
    assert len(live_processes()) == 1
    if how == "close":
        steps.close()
        return
    stopped.append(True)
    assert not any(step.device for step in steps)


def test_a_killed_process_is_told_in_one_line(run_in_process, config, frames, live_processes):
    with pytest.raises(ChildProcessError, match=r"ended .*start again") as caught:
        for step in run_in_process(replace(config, source=Talker(frames(0)))):
            if step.enhanced:
                live_processes()[0].kill()
    assert "\n" not in str(caught.value)


def test_a_process_that_hangs_is_given_up(run_in_process, config, frames, monkeypatch, live_processes):
    from napari_lowdose_tem.live import process

    monkeypatch.setattr(process, "_END_TIMEOUT_S", 0.3)
    stopped = []
    with pytest.raises(ChildProcessError, match="given up"):
        for step in run_in_process(
            replace(config, source=Talker(frames(0)), is_stopped=lambda: bool(stopped))
        ):
            if step.enhanced and not stopped:
                live_processes()[0].suspend()
                stopped.append(True)


def test_it_ends_when_its_parent_is_gone(tiny_model):
    code = f"""
import os, psutil, numpy as np
from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live import LiveConfig, ReplaySource, iter_live_in_process
from napari_lowdose_tem.live import process
process._NICENESS = 0
source = ReplaySource(Image(np.ones((3, 24, 40))), 50.0, loop=True)
options = EngineOptions(model={str(tiny_model)!r}, device="cpu")
for step in iter_live_in_process(LiveConfig(source, engine=options)):
    if step.enhanced:
        print(psutil.Process().children()[0].pid, flush=True)
        os._exit(3)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 3, result.stderr
    pid = int(result.stdout)
    end_s = time.monotonic() + LONG_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end_s
        time.sleep(0.1)


def test_a_slow_viewer_holds_up_nothing(run_in_process, config, stack):
    source = ReplaySource(stack, 200.0, loop=True)
    steps = run_in_process(replace(config, source=source, save_all=False))
    for step in steps:
        if step.enhanced:
            break
    before = step.enhanced
    end_s = time.monotonic() + LONG_S
    while step.enhanced < before + 60 and time.monotonic() < end_s:
        time.sleep(1.0)  # while many frames come
        step = next(steps)
    for _ in range(5):  # what was on its way is at most a few frames old
        step = next(steps)
    assert step.arrived - step.enhanced - step.dropped - step.waiting in (0, 1)
    assert step.enhanced >= before + 60
    steps.close()


def test_the_viewers_process_loads_no_torch(tiny_model):
    code = f"""
import sys, numpy as np
from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live import LiveConfig, ReplaySource, iter_live_in_process
from napari_lowdose_tem.live import process
process._NICENESS = 0
source = ReplaySource(Image(np.ones((3, 24, 40))), 1e5)
options = EngineOptions(model={str(tiny_model)!r}, device="cpu")
steps = list(iter_live_in_process(LiveConfig(source, engine=options, save_all=True)))
assert steps[-1].enhanced == 3
print("torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
