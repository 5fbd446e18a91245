"""The commands as a user types them; bad input must end with status 2 and one line, and lose nothing."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read, write


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture
def movie(counts, tmp_path):
    return write(
        Image(counts, (2.5, 1.5), 44.0, 0.04, provenance={"source": "scope"}), tmp_path / "movie.tif"
    )


def test_enhance_keeps_calibration_and_shape(run, movie, tiny_model, tmp_path, counts):
    for name in ("out.tif", "out.ome.tif", "out.ome.zarr"):
        result = run("enhance", movie, "-o", name, "--model", tiny_model, "--device", "cpu")
        assert result.exit_code == 0, result.output
        output = read(tmp_path / name)
        assert output.data.shape == counts.shape
        assert output.data.dtype == np.float32
        assert (output.pixel_size_nm, output.counts_per_electron, output.frame_time_s) == (
            (2.5, 1.5),
            44.0,
            0.04,
        )
        assert output.provenance["enhanced"]["model"] == "tiny"


def test_enhance_several_into_a_folder(run, movie, tiny_model, tmp_path):
    shutil.copy(movie, tmp_path / "second.tif")
    words = ("enhance", movie, "second.tif", "-o", "results", "--model", tiny_model)
    assert run(*words).exit_code == 0
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == [
        "movie_enhanced.tif",
        "second_enhanced.tif",
    ]
    again = run(*words, "--resume")
    assert again.exit_code == 0
    assert again.output.count("complete already") == 2
    other = run("enhance", "second.tif", "-o", "results/movie_enhanced.tif", "-m", tiny_model, "--resume")
    assert other.exit_code == 2
    assert "made from" in other.stderr


def test_names_with_dots_and_brackets_stay_apart(run, movie, tiny_model, tmp_path):
    names = ["2026.05.01_a.tif", "2026.05.01_b[old].tif", "c.ome.tif"]
    for name in names:
        shutil.copy(movie, tmp_path / name)
    result = run("enhance", *names, "-o", "out", "-m", tiny_model)
    assert result.exit_code == 0, result.output
    made = ["2026.05.01_a_enhanced.tif", "2026.05.01_b[old]_enhanced.tif", "c_enhanced.tif"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == made
    assert all(name in result.output for name in made)


def test_resume_refuses_another_dark_reference(run, movie, tiny_model, tmp_path, counts):
    for i, value in enumerate((3, 4)):
        write(Image(np.full(counts.shape[1:], value, np.uint16)), tmp_path / f"dark{i}.tif")
    words = ("enhance", movie, "-o", "o.tif", "-m", tiny_model, "--resume", "--dark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_lowdose_tem.io.StackWriter.finish", lambda self: 1 / 0)
        assert run(*words, "dark0.tif").exit_code == 1
    refused = run(*words, "dark1.tif")
    assert refused.exit_code == 2
    assert "dark" in refused.stderr
    assert run(*words, "dark0.tif").exit_code == 0


def test_enhance_a_range_with_dark_reference_and_pixel_size(run, counts, tiny_model, tmp_path):
    write(Image(counts), tmp_path / "plain.tif")
    write(Image(np.full(counts.shape[1:], 20, np.uint16)), tmp_path / "dark.tif")
    words = ("enhance", "plain.tif", "-o", "o.tif", "-m", tiny_model, "--frames", "1:3", "--dark", "dark.tif")
    assert run(*words, "--pixel-size", "3.25").exit_code == 0
    output = read(tmp_path / "o.tif")
    assert output.data.shape == (2, *counts.shape[1:])
    assert output.pixel_size_nm == (3.25, 3.25)
    level = output.provenance["enhanced"]["level_counts"]
    assert level == pytest.approx(counts[1:].mean() - 20, rel=1e-4)


def test_simulate_then_evaluate(run, tiny_model, tmp_path):
    words = (
        "simulate -o set --material Ni --material silicate --pairs 1 --seed 3 --lde-size 96 --hde-size 192"
    )
    result = run(*words.split())
    assert result.exit_code == 0, result.output
    result = run("evaluate", "set", "--model", tiny_model, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert set(report["sets"]) == {"Ni", "silicate"}
    assert report["all"]["n"] == 4
    assert 0 < report["all"]["psnr_mean"] < 40
    assert set(report["all"]) == {
        "n", "mae_mean", "mae_sd", "psnr_mean", "psnr_sd", "stretched_mae_mean", "stretched_psnr_mean",
        "affine_mae_mean", "affine_psnr_mean", "ssim_mean", "invented_mean", "missed_mean",
    }  # fmt: skip
    table = run("evaluate", "set/Ni", "--model", tiny_model)
    assert table.exit_code == 0
    assert "Ni" in table.output


def test_demo_leaves_figures_and_a_table(run, tmp_path):
    result = run("demo", "--out", "d", "--frames", "2")
    assert result.exit_code == 0, result.output
    found = {p.name for p in (tmp_path / "d").iterdir()}
    assert found == {
        "reference.ome.tif", "lde.ome.tif", "enhanced.ome.tif", "truth.json", "quality.csv", "overview.png",
        "quality.png",
    }  # fmt: skip
    with (tmp_path / "d" / "quality.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row["psnr_db_enhanced"]) > float(row["psnr_db_lde"]) + 3
    assert read(tmp_path / "d" / "enhanced.ome.tif").pixel_size_nm == (3.0, 3.0)


def test_doctor_json(run):
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["models"][0]["name"] == "default"
    assert [d["kind"] for d in report["devices"] if d["works"]]
    assert report["packages"]["torch"]
    assert "cpu" in run("doctor").output


def broken_inputs(folder: Path) -> dict[str, Path]:
    """Files no enhancement can be made from."""
    rng = np.random.default_rng(0)
    frame = rng.poisson(200, (40, 60)).astype(np.uint16)
    files = {}

    def add(name: str, content: bytes) -> None:
        files[name] = folder / name
        files[name].write_bytes(content)

    tifffile.imwrite(folder / "good.tif", np.stack([frame] * 4), photometric="minisblack")
    whole = (folder / "good.tif").read_bytes()
    add("empty.tif", b"")
    add("header_only.tif", whole[:8])
    add("half.tif", whole[: len(whole) // 2])
    add("text.tif", b"not an image at all\n" * 40)
    add("picture.jpg.tif", b"\xff\xd8\xff\xe0" + bytes(200))
    add("noise.dm4", rng.bytes(4000))
    add("noise.dm3", rng.bytes(4000))
    add("noise.mrc", rng.bytes(4000))
    add("noise.ser", rng.bytes(4000))
    add("noise.emd", rng.bytes(4000))
    add("empty.dm4", b"")
    add("empty.mrc", b"")
    add("document.pdf", b"%PDF-1.7")
    (folder / "nothing_inside").mkdir()
    files["nothing_inside"] = folder / "nothing_inside"
    (folder / "hollow.zarr").mkdir()
    files["hollow.zarr"] = folder / "hollow.zarr"
    odd = folder / "odd_one"
    odd.mkdir()
    for i, shape in enumerate([(40, 60), (40, 60), (41, 60)]):
        tifffile.imwrite(odd / f"{i}.tif", np.ones(shape, np.uint16))
    files["odd_one"] = odd
    tifffile.imwrite(folder / "colour.tif", rng.integers(0, 255, (40, 60, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(folder / "complex.tif", frame.astype(np.complex64))
    tifffile.imwrite(folder / "hyperstack.tif", np.zeros((2, 3, 4, 40, 60), np.uint16), imagej=True)
    tifffile.imwrite(folder / "zero.tif", np.zeros((40, 60), np.uint16))
    tifffile.imwrite(folder / "nan.tif", np.full((40, 60), np.nan, np.float32))
    tifffile.imwrite(folder / "negative.tif", np.full((40, 60), -5, np.int16))
    for name in ("colour", "complex", "hyperstack", "zero", "nan", "negative"):
        files[f"{name}.tif"] = folder / f"{name}.tif"
    files["missing.tif"] = folder / "missing.tif"
    return files


BROKEN = (
    "empty.tif header_only.tif half.tif text.tif picture.jpg.tif noise.dm4 noise.dm3 noise.mrc noise.ser "
    "noise.emd empty.dm4 empty.mrc document.pdf nothing_inside hollow.zarr odd_one colour.tif complex.tif "
    "hyperstack.tif zero.tif nan.tif negative.tif missing.tif"
).split()


def assert_refused(result, folder: Path, *, says: str, before: set[str]) -> None:
    __tracebackhide__ = True
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith(("error: ", "Error: ")), result.stderr
    assert sum(line.startswith(("error: ", "Error: ")) for line in lines) == 1
    assert "Traceback" not in result.output
    assert says in lines[-1]
    assert {p.name for p in folder.rglob("*")} == before


# rosettasciio leaves the handle of a file it cannot read to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", BROKEN)
def test_broken_input(run, tiny_model, tmp_path, name):
    files = broken_inputs(tmp_path)
    assert sorted(files) == sorted(BROKEN)
    before = {p.name for p in tmp_path.rglob("*")}
    result = run("enhance", files[name], "-o", "out.tif", "--model", tiny_model, "--device", "cpu")
    assert_refused(result, tmp_path, says=name.split(".")[0], before=before)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--model", "nonesuch"), "choose one of: default"),
        (("--model", "gone.safetensors"), "does not exist"),
        (("--model", "cut.safetensors"), "get it again"),
        (("--model", "movie.tif"), "not a safetensors model file"),
        (("--device", "quantum"), "choose auto"),
        (("--precision", "int4"), "choose auto"),
        (("--frames", "5:9"), "not within"),
        (("--frames", "two"), "not a range"),
        (("--tile", "16"), "too small"),
        (("--dark", "gone.tif"), "gone.tif"),
        (("--dark", "wide.tif"), "(96, 170)"),
        (("--pixel-size", "-2"), "not positive"),
        (("--output", "out.png"), ".ome.tif"),
        (("--output", "no/such/folder/out.tif"), "folder"),
        (("--output", "there.tif"), "there.tif"),
    ],
)
def test_bad_options(run, movie, tiny_model, tmp_path, words, says):
    (tmp_path / "cut.safetensors").write_bytes(tiny_model.read_bytes()[:-10])
    tifffile.imwrite(tmp_path / "wide.tif", np.ones((96, 170), np.uint16))
    (tmp_path / "there.tif").write_bytes(b"precious")
    before = {p.name for p in tmp_path.rglob("*")}
    defaults = {"--model": tiny_model, "--output": "out.tif", "--device": "cpu"}
    options = [str(word) for pair in {**defaults, words[0]: words[1]}.items() for word in pair]
    assert_refused(run("enhance", movie, *options), tmp_path, says=says, before=before)
    assert (tmp_path / "there.tif").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("simulate -o set --material gold", "gold"),
        ("simulate -o set --pairs 0", "nothing to simulate"),
        ("simulate -o set --dose -1 --pairs 1", "-1"),
        ("simulate -o set --hde-size 100 --lde-size 64", "multiple"),
        ("evaluate nowhere", "nowhere"),
        ("evaluate .", "."),
        ("enhance", "IN"),
        ("enhance movie.tif movie.tif -o out.tif", "folder"),
        ("demo --frames 1", "--frames"),
        ("demo --model nonesuch --out d", "nonesuch"),
    ],
)
def test_bad_commands(run, movie, tmp_path, words, says):
    result = run(*words.split())
    assert result.exit_code == 2, result.output
    assert says in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.output


def test_saturated_frames_are_enhanced(run, tiny_model, tmp_path):
    tifffile.imwrite(tmp_path / "bright.tif", np.full((40, 60), 65535, np.uint16))
    assert run("enhance", "bright.tif", "-o", "o.tif", "-m", tiny_model).exit_code == 0
    assert np.isfinite(read(tmp_path / "o.tif").data).all()


def test_read_only_folder(run, movie, tiny_model, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write into read-only folders (root)")
    result = run("enhance", movie, "-o", folder / "o.tif", "-m", tiny_model)
    assert_refused(result, folder, says="locked", before=set())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    place = tmp_path / "small_disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root may mount the small disk this needs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("name", ["o.tif", "o.ome.tif", "o.ome.zarr"])
def test_full_disk(run, tiny_model, tmp_path, small_disk, name):
    write(
        Image(np.random.default_rng(0).poisson(50.0, (12, 300, 400)).astype(np.uint16)), tmp_path / "big.tif"
    )
    result = run("enhance", "big.tif", "-o", small_disk / name, "-m", tiny_model)
    assert result.exit_code == 2, result.output
    assert "disk" in result.stderr.strip().splitlines()[-1]
    assert not (small_disk / name).exists()


# holds where a frame is recorded as done, once so many are, until it may go on
HOLD = """
import pathlib, sys, time
from napari_lowdose_tem.io import StackWriter
record, n_frames = StackWriter.record, int(sys.argv.pop(1))
def hold(writer, start, stop):
    record(writer, start, stop)
    if len(writer.done) >= n_frames:
        pathlib.Path("held").touch()
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
StackWriter.record = hold
from napari_lowdose_tem.cli import main
main()
"""


def start(*words, cwd: Path, hold_after: int) -> subprocess.Popen[str]:
    """Start a command; come back when it holds, having recorded so many frames."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(hold_after), *map(str, words)],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (cwd / "held").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def go_on(process: subprocess.Popen[str], cwd: Path) -> str:
    """Let it go on and end; what it says on stderr."""
    (cwd / "go").touch()
    return process.communicate(timeout=300)[1]


@pytest.fixture
def long_movie(tmp_path):
    stack = np.random.default_rng(0).poisson(50.0, (40, 320, 400)).astype(np.uint16)
    return write(Image(stack), tmp_path / "long.ome.zarr")


@pytest.mark.parametrize("name", ["killed.tif", "killed.ome.zarr"])
def test_killed_run_resumes_to_the_same_result(run, long_movie, tmp_path, name):
    assert run("enhance", long_movie, "--device", "cpu", "-o", "whole.tif").exit_code == 0
    process = start("enhance", long_movie, "--device", "cpu", "-o", name, cwd=tmp_path, hold_after=5)
    process.kill()
    process.communicate()
    assert not (tmp_path / name).exists()
    result = run("enhance", long_movie, "--device", "cpu", "-o", name, "--resume")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(
        read(tmp_path / name).frames(0, 40), read(tmp_path / "whole.tif").frames(0, 40)
    )


def test_interrupt_keeps_what_is_finished(run, long_movie, tmp_path):
    process = start("enhance", long_movie, "--device", "cpu", "-o", "out.tif", cwd=tmp_path, hold_after=3)
    process.send_signal(2)
    errors = go_on(process, tmp_path)
    assert process.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert run("enhance", long_movie, "--device", "cpu", "-o", "out.tif", "--resume").exit_code == 0


def test_two_runs_into_one_output(run, long_movie, tmp_path):
    process = start("enhance", long_movie, "-o", "out.tif", cwd=tmp_path, hold_after=1)
    second = run("enhance", long_movie, "-o", "out.tif")
    assert second.exit_code == 2
    assert "another run" in second.stderr
    go_on(process, tmp_path)
    assert process.returncode == 0
    assert read(tmp_path / "out.tif").n_frames == 40


def test_resume_refuses_another_job(run, long_movie, tiny_model, tmp_path):
    process = start("enhance", long_movie, "-o", "out.tif", cwd=tmp_path, hold_after=2)
    process.kill()
    process.communicate()
    result = run("enhance", long_movie, "-o", "out.tif", "--resume", "--model", tiny_model)
    assert result.exit_code == 2
    assert "model" in result.stderr
