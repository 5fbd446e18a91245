import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_lowdose_tem.cli import watch  # noqa: F401
from napari_lowdose_tem.cli._app import app
from napari_lowdose_tem.io import read


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(app, ["watch", *map(str, words)])


@pytest.fixture
def movie(tmp_path, frames):
    path = tmp_path / "movie.tif"
    data = np.stack([frames(n) for n in range(6)])
    tifffile.imwrite(path, data, photometric="minisblack")
    return path


def test_replay_is_saved_and_told(run, tiny_model, movie, tmp_path):
    out = tmp_path / "out.ome.zarr"
    options = ("-o", out, "--model", tiny_model, "--device", "cpu")
    result = run("--replay", movie, "--rate", 500, *options, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["arrived"], told["enhanced"], told["dropped"], told["saved"]) == (6, 6, 0, 6)
    assert told["latency_ms_p99"] >= told["latency_ms_p50"] > 0
    assert read(out).n_frames == 6
    again = run("--replay", movie, *options)
    assert again.exit_code == 2
    assert "resume" in again.stderr
    assert "0 enhanced" in run("--replay", movie, "--resume", *options).stdout


def test_folder_until_idle(run, tiny_model, tmp_path, save_tiff):
    folder = tmp_path / "camera"
    folder.mkdir()
    for n in range(3):
        save_tiff(folder, n)
    (folder / "notes.txt").write_text("x")
    out = folder / "enhanced"  # within what is watched
    result = run(folder, "-o", out, "--model", tiny_model, "--device", "cpu", "--until-idle", 5)
    assert result.exit_code == 0, result.output
    assert "3 frames came: 3 enhanced, 0 dropped, 1 skipped" in result.stdout
    assert "skipped notes.txt" in result.stderr
    assert sorted(p.name for p in out.glob("*.tif")) == [f"frame_{n}.tif" for n in range(3)]


def test_interrupt_ends_cleanly_and_resume_goes_on(tiny_model, tmp_path, save_tiff):
    folder, out = tmp_path / "camera", tmp_path / "out.zarr"
    folder.mkdir()
    for n in range(3):
        save_tiff(folder, n)
    command = [sys.executable, "-m", "napari_lowdose_tem.cli", "watch", str(folder), "-o", str(out)]
    command += ["--model", str(tiny_model), "--device", "cpu", "--json"]
    table = tmp_path / "out.zarr.frames.csv"
    for n_frames, options in ((3, []), (5, ["--resume"])):
        for n in range(3, n_frames):
            save_tiff(folder, n)
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 200
        while not table.exists() or len(table.read_text().splitlines()) < 1 + n_frames:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        told = json.loads(process.communicate(timeout=100)[0])
        assert process.returncode == 0
        assert told["saved"] == read(out).n_frames == n_frames
    assert told["enhanced"] == 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "give a folder"),
        (("{folder}", "--replay", "{movie}"), "give a folder"),
        (("{folder}", "-o", "{folder}"), "cannot write to the folder"),
        (("{folder}/none",), "no such folder"),
        (("--replay", "{movie}", "--rate", "0"), "frames/s"),
        (("--replay", "{movie}", "-o", "{folder}/out.tif"), "zarr"),
        (("{folder}", "--level", "last"), "choose first or frame"),
    ],
)
def test_bad_input_is_one_line(run, movie, tmp_path, words, reason, tiny_model):
    words = [word.format(folder=tmp_path, movie=movie) for word in words]
    result = run(*words, "--model", tiny_model, "--device", "cpu")
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
