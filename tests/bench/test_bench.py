"""`lowdose-tem bench`: it times what it says, counts what it says, and tells what it left out."""

import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_lowdose_tem.bench import (
    BenchJob,
    bench,
    iter_bench,
    iter_time_frames,
    stack,
    time_frames,
    timing,
    write_report,
)
from napari_lowdose_tem.bench.job import choose_devices, count_gflop
from napari_lowdose_tem.bench.published import GOALS_MS, TABLE3
from napari_lowdose_tem.bench.report import tell
from napari_lowdose_tem.bench.stack import choose_length
from napari_lowdose_tem.cli import app
from napari_lowdose_tem.engine import device as devices
from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.network.model_file import load_model

SHAPE = (64, 96)
CONTRACT = {
    "device", "model", "precision", "shape", "batch", "calc_ms_p50", "calc_ms_p99", "total_ms_p50",
    "total_ms_p99", "frames_per_s",
}  # fmt: skip


class FakeRunner:
    """Takes 20 ms to calculate and 30 ms with transfers, and remembers what it was given."""

    note = ""

    def __init__(self, n_in_flight=1):
        self.n_in_flight = n_in_flight
        self.prepared, self.calculated, self.submitted = [], 0, []
        self.waiting = self.most_waiting = 0

    def prepare(self, counts, scalings):
        self.prepared.append(counts.shape)

        def run():
            time.sleep(0.02)
            self.calculated += 1

        return run

    def submit(self, counts, scalings):
        assert len(counts) == len(scalings)
        self.submitted.append(counts.shape)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)

        def wait():
            time.sleep(0.03)
            self.waiting -= 1
            return counts.astype(np.float32)

        return wait

    def close(self):
        pass


@pytest.fixture
def engine(tiny_model):
    with Engine(tiny_model, "cpu", precision="float32", tile_px=640) as engine:
        yield engine


@pytest.fixture
def short(monkeypatch):
    """Stacks of a few frames."""
    monkeypatch.setattr(stack, "_TAKES_S", 0.01)
    monkeypatch.setattr(stack, "_FEWEST", 5)
    monkeypatch.setattr(stack, "_MOST", 5)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder in which temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def run(*words):
    return CliRunner().invoke(app, ["bench", *map(str, words)], env={"COLUMNS": "200"})


# ---- what is timed


def test_calculation_and_the_whole_way_are_timed_apart(engine, monkeypatch):
    monkeypatch.setattr(engine, "batch_for", lambda shape: 1)
    engine._runner = runner = FakeRunner()
    found = time_frames(engine, SHAPE, frames=5)
    assert found.calc_ms_p50 >= 20
    assert found.total_ms_p50 >= 30
    assert found.frames == 5
    assert runner.calculated == len(runner.submitted) == 5 + 3  # three to warm up
    assert set(runner.submitted) == {(1, *SHAPE)}
    assert found.stream_frames_per_s == pytest.approx(1e3 / found.total_ms_mean)
    assert found.cpu_ms_mean < found.calc_ms_mean  # it sleeps


def test_numbers_are_those_of_the_frames_after_the_warm_up(engine, monkeypatch):
    monkeypatch.setattr(timing, "_STREAM_S", 0.0)
    taken = iter([*[(1e6, 1e6)] * 6, *((float(ms), 2.0 * ms) for ms in range(1, 201))])
    monkeypatch.setattr(timing, "_measure", lambda work: next(taken))
    found = time_frames(engine, SHAPE, frames=100)
    total, calc = np.arange(1, 201, 2.0), np.arange(2, 201, 2.0)
    for name, values in (("total", total), ("calc", calc)):
        numbers = [getattr(found, f"{name}_ms_{which}") for which in ("mean", "sd", "p50", "p99")]
        spread = values.std() * np.sqrt(100 / 99)
        np.testing.assert_allclose(
            numbers, [values.mean(), spread, np.median(values), np.percentile(values, 99)]
        )
    assert found.cpu_ms_mean == pytest.approx(2 * calc.mean())


@pytest.mark.parametrize(("shape", "n_tiles"), [((64, 96), 1), ((70, 100), 1), ((64, 1000), 8)])
def test_the_network_is_timed_on_what_it_gets_when_frames_are_enhanced(engine, monkeypatch, shape, n_tiles):
    monkeypatch.setattr(engine, "batch_for", lambda shape: 1)
    engine._runner = runner = FakeRunner()
    time_frames(engine, shape, frames=2)
    assert runner.submitted == (2 + 3) * runner.prepared
    assert len(runner.prepared) == n_tiles
    assert runner.calculated == 5 * n_tiles


def test_processors_that_take_several_frames_get_them(engine, monkeypatch):
    monkeypatch.setattr(timing, "_STREAM_S", 0.05)
    monkeypatch.setattr(engine, "batch_for", lambda shape: 4)
    engine._runner = runner = FakeRunner(n_in_flight=3)
    found = time_frames(engine, SHAPE, frames=2)
    assert runner.most_waiting == 3
    assert runner.waiting == 0  # nothing is left behind
    assert runner.submitted[-1] == (4, *SHAPE)
    assert 4 < found.stream_frames_per_s <= 4 / 0.03


def test_two_frames_at_least(engine):
    with pytest.raises(ValueError, match="1 frames to time"):
        next(iter_time_frames(engine, SHAPE, 1))


@pytest.mark.parametrize(("shape", "area"), [((64, 96), 64 * 96), ((70, 100), 96 * 128)])
def test_arithmetic_of_a_frame(shape, area):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 7, 3, padding=1), torch.nn.Conv2d(7, 2, 1))
    expected = 2 * area * (9 * 1 * 7 + 7 * 2)
    assert count_gflop(SimpleNamespace(network=network), shape) == pytest.approx(1e-9 * expected)


def test_arithmetic_of_the_papers_network():
    assert count_gflop(load_model("paper"), (512, 512)) == pytest.approx(42.4, abs=0.05)


@pytest.mark.parametrize(
    ("shape", "ms", "frames"),
    [
        ((512, 512), 40, 100),
        ((512, 512), 900, 32),
        ((512, 512), 0.5, 1024),
        ((1024, 2048), 900, 4),
        ((4096, 4096), 1, 16),
        ((4096, 4096), 9000, 3),
        ((64, 96), 900, 32),
    ],
)
def test_stacks_take_some_seconds(shape, ms, frames):
    assert choose_length(shape, ms) == frames


# ---- the rows


def test_a_row_holds_what_it_says(tiny_model, short, scratch):
    job = BenchJob(("cpu",), (tiny_model,), ("float32",), SHAPE, frames=4)
    steps = list(iter_bench(job))
    result = steps[-1].result
    (row,) = result.rows
    assert (row.device, row.precision, row.model, row.stack_frames) == ("cpu", "float32", "tiny", 5)
    assert row.processor
    assert row.rms_error < 1e-5
    assert row.largest_error >= row.rms_error
    assert row.frames_per_s > 0
    done = [step.done for step in steps[:-2]]
    assert done == sorted(done)
    assert steps[-3].done == steps[-3].total == 4 + 5
    values = json.loads(json.dumps(result.to_json(), allow_nan=False))
    (entry,) = values["rows"]
    assert CONTRACT <= entry.keys()
    assert (entry["shape"], entry["batch"], entry["frames"]) == ([64, 96], 1, 4)
    for name in ("calc", "total"):
        assert 0 < entry[f"{name}_ms_p50"] <= entry[f"{name}_ms_p99"]
    assert entry["gflop_per_s"] == pytest.approx(1e3 * entry["gflop"] / entry["calc_ms_p50"], rel=1e-4)
    assert not list(scratch.iterdir())


def test_every_model_in_every_precision(tiny_model, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(Path(tiny_model).read_bytes())
    job = BenchJob(("cpu", "cpu"), (tiny_model, other), ("float32", "bfloat16"), SHAPE, frames=2, stack=False)
    rows = bench(job).rows
    assert [(row.precision, row.model) for row in rows] == [
        ("float32", "tiny"), ("float32", "other"), ("bfloat16", "tiny"), ("bfloat16", "other"),
    ]  # fmt: skip
    assert rows[0].rms_error < rows[2].rms_error
    assert all(row.frames_per_s is None and row.stack_frames is None for row in rows)


def test_of_all_devices_those_that_fail_are_told(tiny_model, monkeypatch):
    absent = [
        devices.DeviceCheck("cuda", None, "no card", present=False),
        devices.DeviceCheck("xpu", None, "broken"),
    ]
    check = devices.check_device

    def check_some(kind, precision="auto"):
        return absent[1] if kind == "xpu" else check(kind, precision)

    monkeypatch.setattr(devices, "check_device", check_some)
    monkeypatch.setattr(devices, "check_devices", lambda: [*absent, check("cpu")])
    job = BenchJob(models=(tiny_model,), precisions=("float32", "int8"), shape=SHAPE, frames=2, stack=False)
    result = bench(job)
    assert [(row.device, row.precision) for row in result.rows] == [("cpu", "float32")]
    assert [str(one) for one in result.skipped] == [
        "cuda: no card",
        "xpu, float32: broken",
        "xpu, int8: broken",
        "cpu, int8: only OpenVINO computes in int8",
    ]
    assert "- not timed: cuda: no card\n" in write_report(result.to_json())


@pytest.mark.parametrize("asked", [True, False])
def test_a_model_that_does_not_run_is_an_error_where_asked_for(tiny_model, monkeypatch, asked):
    def fail(*_args):
        raise MemoryError("out of memory\nmore lines")

    monkeypatch.setattr(devices, "check_devices", lambda: [devices.check_device("cpu")])
    monkeypatch.setattr("napari_lowdose_tem.engine.engine.open_runner", fail)
    job = BenchJob(("cpu",) if asked else (), (tiny_model,), ("float32",), SHAPE, 2, stack=False)
    if asked:
        with pytest.raises(ValueError, match=r"^tiny, cpu float32: out of memory$"):
            bench(job)
    else:
        result = bench(job)
        assert not result.rows
        assert [one.reason for one in result.skipped] == ["out of memory"]
        assert "Nothing was timed" in write_report(result.to_json())


@pytest.mark.parametrize("where", ["frames", "stack"])
def test_cancel(tiny_model, short, scratch, monkeypatch, where):
    closed = []
    close = Engine.close
    monkeypatch.setattr(Engine, "close", lambda engine: (closed.append(engine), close(engine)))
    before = torch.get_num_threads()
    job = BenchJob(("cpu",), (tiny_model,), ("float32",), SHAPE, frames=4, threads=before + 1)
    steps = iter_bench(job)
    for step in steps:
        if step.done >= (2 if where == "frames" else 5):
            break
    assert torch.get_num_threads() == before + 1
    steps.close()
    assert torch.get_num_threads() == before
    assert len(closed) == (1 if where == "frames" else 2)
    assert not list(scratch.iterdir())


def test_openvino_is_timed_in_all_its_precisions(monkeypatch):
    monkeypatch.setattr(devices, "_why_absent", lambda kind: "")
    chosen, _ = choose_devices(BenchJob(("openvino",)))
    assert [device.precision for device in chosen] == ["float32", "int8"]
    chosen, _ = choose_devices(BenchJob(("openvino",), precisions=("int8",)))
    assert [device.precision for device in chosen] == ["int8"]


def test_threads(tiny_model):
    wanted = torch.get_num_threads() + 1
    job = BenchJob(("cpu",), (tiny_model,), ("float32",), SHAPE, 2, stack=False, threads=wanted)
    assert bench(job).rows[0].threads == wanted
    assert torch.get_num_threads() == wanted - 1


# ---- the report


def make_row(model, ms, p99, **more):
    timed = {f"{part}_ms_{which}": ms for part in ("calc", "total") for which in ("mean", "sd", "p50")}
    return {
        "device": "cuda", "processor": "a card", "precision": "float16", "threads": None, "model": model,
        "shape": [512, 512], "frames": 100, "frames_per_s": None, "rms_error": 0.0021, "gflop_per_s": 1234.5,
        **timed, "calc_ms_p99": p99, "total_ms_p99": p99, **more,
    }  # fmt: skip


def test_goals_are_met_by_the_slowest_frames_too():
    rows = [make_row("paper", 2.0, 3.4), make_row("fast", 1.0, 3.3), make_row("default", 39.0, 40.1)]
    said = tell({"rows": rows, "paper": TABLE3, "goals_ms": GOALS_MS, "skipped": []})
    assert said[0].endswith("40 ms a frame: paper (cuda float16); fast (cuda float16).")
    assert said[1].endswith("3.3 ms a frame: fast (cuda float16).")
    assert said[2].endswith("2.00 ms at best here, 8 ms at best in the paper: 4.0 times faster.")


def test_page_shows_the_paper_beside_ours():
    page = write_report(
        {
            "program": "it 1", "versions": {"torch": "2"}, "rows": [make_row("fast", 1.0, 3.3)],
            "paper": TABLE3, "goals_ms": GOALS_MS, "skipped": [],
        }
    )  # fmt: skip
    assert "| NVIDIA Quadro RTX 8000 | paper's | 4.4 ± 0.0 | 8.0 ± 0.1 | – |" in page
    assert "| NVIDIA GeForce GTX 1650 | paper's | 5.3 ± 0.6 | 25.0 ± 0.5 |" in page
    assert "| Intel Core i7-9700 3.00 GHz | paper's | 300.0 ± 10.0 | – |" in page
    row = "| a card, cuda, float16 | fast | 1.00 ± 1.00 | 1.00 ± 1.00 | 1.00, 3.30 | – | 0.21 % | 1234 |"
    assert row in page


def test_goals_of_the_comparison_on_a_cpu(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "studies"))
    speed = importlib.import_module("speed")

    def make_ways(ours_ms, other_ms, psnr_db):
        rows = {speed.EAGER: 400.0, "OpenVINO, int8": ours_ms, "another": other_ms}
        known = {"gflop_per_s": 9, "rms_error": 0.004, "largest_error": 0.03, "psnr_db": psnr_db}
        found = {way: {"ms": ms, "ratio": ms / 400, **known} for way, ms in rows.items()}
        return {"gflop": 42.4, "ways": {**found, "a third": {"missing": "not installed: it"}}}

    numbers = {
        "settings": {
            "chosen": "OpenVINO, int8", "processor": "a CPU", "threads": 2, "rounds": 3, "scenes": 5,
            "versions": {"torch": "2"},
        },
        "models": {
            "paper": make_ways(80, 100, 26.5),
            "default": make_ways(30, 25, 30.2),
            "fast": make_ways(20, 19, 29.3),
        },
    }  # fmt: skip
    numbers["goals"] = speed.check_goals(numbers)
    found = [(goal["value"], goal["limit"], goal["met"]) for goal in numbers["goals"]]
    assert found == [
        (0.2, 0.25, True),  # paper, of float32 as loaded
        (1.0, 1.1, True),  # paper, of the fastest
        (1.2, 1.1, False),
        (1.053, 1.1, True),
        (0.25, 0.2, False),  # fast of paper
        (0.9, 0.7, False),  # dB lost
    ]
    page = speed.write_page(numbers, "it")
    assert "| **OpenVINO, int8** | 80.0 | 0.200 | 9 | 0.40 % | 3.0 % | 26.50 |" in page
    assert "| a third | not installed: it |" in page
    assert page.count("**missed**") == 3


# ---- the command


def test_command_prints_json_and_nothing_else(tiny_model):
    words = ("--device", "cpu", "-m", tiny_model, "--frames", 3, "--shape", "64x96", "--no-stack", "--json")
    result = run(*words)
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["rows"][0]["shape"] == [64, 96]
    assert values["rows"][0]["frames"] == 3
    assert CONTRACT <= values["rows"][0].keys()


def test_command_prints_a_table_and_writes_it(tiny_model, tmp_path):
    page = tmp_path / "speed.md"
    words = ("--device", "cpu", "-m", tiny_model, "--frames", 2, "--shape", "64x96", "--no-stack")
    result = run(*words, "--precision", "float32", "--threads", 1, "--out", page)
    assert result.exit_code == 0, result.output
    assert "NVIDIA Quadro RTX 8000" in result.stdout
    assert "torch, 1 thread, float32" in result.stdout
    assert "torch, 1 thread, float32 | tiny |" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device", "gpu0"), "unknown device 'gpu0'"),
        (("--device", "cpu", "--precision", "float8"), "unknown precision 'float8'"),
        (("--device", "cpu", "--precision", "int8"), "only OpenVINO computes in int8"),
        (("--model", "nonesuch"), "no model 'nonesuch'"),
        (("--shape", "512"), "--shape 512 is not a size like 512x512"),
        (("--shape", "8x512"), "frames of 8 × 512 px"),
        (("--frames", 1), "1 frames to time"),
        (("--threads", 0), "0 threads"),
        (("--out", "speed.txt"), "name it speed.md"),
    ],
)
def test_bad_input_ends_in_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert not list(tmp_path.iterdir())


def test_imports_wait_for_the_work():
    code = (
        "import sys, napari_lowdose_tem.bench; print(*({'torch', 'matplotlib', 'qtpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
