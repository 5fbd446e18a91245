import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from napari_lowdose_tem.train.config import TRAIN_RECIPES, TrainConfig
from napari_lowdose_tem.widgets.shared.worker import Job
from napari_lowdose_tem.widgets.train import run, saved


def count():
    yield from range(1000)


def test_a_job_waits_while_paused_and_loses_nothing(qtbot):
    job, seen = Job(count), []
    job.progress.connect(seen.append)
    job.start()
    qtbot.waitUntil(lambda: len(seen) > 3)
    job.pause()
    assert job.is_paused
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


def test_stopped_trainings_are_listed_newest_first(tmp_path):
    for name, age_s in (("old", 3000), ("new", 10), ("a.b", 100)):
        path = tmp_path / f"{name}.state"
        path.write_bytes(b"")
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    (tmp_path / "other.safetensors").write_bytes(b"")
    listed = saved.list_stopped(tmp_path)
    names = ["new.safetensors", "a.b.safetensors", "old.safetensors"]
    assert [path for path, _ in listed] == [str(tmp_path / name) for name in names]
    assert listed[0][1].startswith("new, ")
    assert saved.list_stopped(tmp_path / "none") == ()
    for path, _ in listed:
        assert saved.state_of(tmp_path / path).is_file()


def test_newest_saved_model_is_the_best_one(tmp_path):
    output = tmp_path / "a.b.safetensors"
    assert saved.saved_model(output) is None
    last = tmp_path / "a.b.last.safetensors"
    last.write_bytes(b"")
    assert saved.saved_model(output) == last
    output.write_bytes(b"")
    assert saved.saved_model(output) == output
    # one that is to be replaced is not what a training saved
    os.utime(output, (output.stat().st_mtime - 60,) * 2)
    assert saved.saved_model(output, last.stat().st_mtime) == last


def test_a_resumed_training_is_told_what_it_was_told_first(tmp_path):
    from napari_lowdose_tem.train.record import save_state

    recipe = replace(TRAIN_RECIPES["paper"], batch=3)
    begun = TrainConfig("some/data", tmp_path / "x.safetensors", recipe, start="paper", hde_factor=4, seed=9)
    save_state(tmp_path / "x.state", begun, step=3)
    wanted = TrainConfig("simulator", tmp_path / "x.safetensors", device="cpu", resume=True)
    assert run.read_saved_config(wanted) == replace(begun, device="cpu", resume=True)
    with pytest.raises(ValueError, match="gone"):
        run.read_saved_config(replace(wanted, output=tmp_path / "y.safetensors"))
    (tmp_path / "x.state").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(ValueError, match="damaged"):
        run.read_saved_config(wanted)


def test_triton_is_kept_out_of_napari(monkeypatch):
    """Its LLVM crashes beside the one napari may draw with, and torch's optimisers would import it."""
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    steps = run.iter_steps(TrainConfig("simulator", Path("x.safetensors")))
    steps.close()
    assert sys.modules["triton"] is None
    assert find_spec("triton") is None
