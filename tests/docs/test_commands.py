"""Every command and every example of README and docs runs, or says why it cannot run here.

A block that is not run has `<!-- needs: ... -->` or `<!-- takes: ... -->` in the line above it.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import write
from napari_lowdose_tem.simulate import expose, simulate_dataset
from napari_lowdose_tem.train import config as train_config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>needs|takes): (?P<why>.+?) -->\n)?"
    r"```(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^```$",
    re.M | re.S,
)
RUN = ("sh", "python")
SHOWN = ("text",)  # neither commands nor code

# the same commands on less
SMALLER = (
    (r"\.dm4\b", ".tif"),
    (r"--frames 0:200\b", "--frames 0:2"),
    (r"--minutes 60\b", "--epochs 1"),
    (r"\bminutes=60\b", "minutes=None"),
    (r"(lowdose-tem bench\b.*?)( *#.*)?$", r"\1 --device cpu --frames 2 --shape 64x96 --no-stack\2"),
    (r"(lowdose-tem demo)\b", r"\1 --frames 2"),
    (r"(lowdose-tem simulate .*?)( *#.*)?$", r"\1 --lde-size 128 --hde-size 256\2"),
)

# writes down what it was called with; the commands then run in this process, without starting Python anew
RECORD = """#!/bin/sh
{ printf '%s\\0' "$@"; printf '\\0'; } >> "$CALLS"
"""


@dataclass
class Ran:
    names: dict
    printed: str
    folder: Path


def blocks_of(page):
    return [match.groupdict() for match in BLOCK.finditer(page.read_text("utf-8"))]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def runs(block):
    return block["kind"] in RUN and not block["mark"]


def draw(spheres, shape=(170, 260)):
    """Transmission of spheres (row, column, diameter [px], T at the centre)."""
    row, col = np.mgrid[: shape[0], : shape[1]] + 0.0
    depth = np.zeros(shape)
    for r, c, diameter, t_min in spheres:
        share = 1 - ((row - r) ** 2 + (col - c) ** 2) / (diameter / 2) ** 2
        depth -= np.sqrt(np.maximum(share, 0)) * np.log(t_min)
    return np.exp(-depth)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The files that the pages speak of, made small."""
    import segmentation_models_pytorch as smp
    import torch

    folder = tmp_path_factory.mktemp("samples")
    rng = np.random.default_rng(3)
    first = (46.2, 55.3, 30.0, 0.6)
    alone = draw([first, (44.9, 200.5, 34.0, 0.5), (120.0, 110.0, 30.0, 0.5)])
    pair = draw([first, (128.4, 96.8, 18.0, 0.6), (141.6, 123.2, 18.0, 0.6)])
    raw = rng.poisson(40 * alone)
    made = {"model": "default", "recipe": {"name": "level"}, "level_counts": 40.0, "raw_noise": 0.16}

    def save(name, pixels, pixel_nm=None, **more):
        size = None if pixel_nm is None else (pixel_nm, pixel_nm)
        (folder / name).parent.mkdir(exist_ok=True)
        write(Image(np.asarray(pixels, np.float32), size, **more), folder / name)

    enhanced = 40 * alone + rng.normal(0, 0.1, alone.shape)
    save("frame.tif", 1e5 * pair)
    save("stack.tif", 1e5 * np.stack([pair, np.roll(pair, 1, 0)]))
    save("raw.tif", raw, 3.0, counts_per_electron=1.0)
    save("lowdose.tif", raw, 3.0, counts_per_electron=1.0)
    save("enhanced.tif", enhanced, 3.0, provenance={"enhanced": made})
    save("enhanced.ome.zarr", np.stack([enhanced] * 2), 3.0, provenance={"enhanced": made})
    low = np.stack([expose(alone * 30.0, rng=rng) for _ in range(3)])
    save("movie.tif", low, 3.0, counts_per_electron=44.0)
    save("scan.tif", low[0])
    save("dark.tif", np.full(alone.shape, 5.0))
    for i, frame in enumerate(low):
        save(f"frames/{i}.tif", frame, 3.0)
    for name, frame in zip(("a", "b"), low, strict=False):
        save(f"{name}.tif", frame, 3.0)
        save(f"movies/{name}.tif", np.stack([frame] * 2), 3.0)
    data = simulate_dataset(folder / "DATA", ("FeNi",), pairs=3, lde_px=128, hde_px=256)
    for name in ("OTHER_DATA", "pairs"):
        shutil.copytree(data, folder / name)
    torch.save(smp.Unet("resnet18", encoder_weights=None, in_channels=1).state_dict(), folder / "params.pth")
    return folder


@pytest.fixture
def run_page(samples, tmp_path, monkeypatch, capsys):
    """Run the blocks of a page in their order, in a folder with the files they speak of."""
    for name in ("default", "fast"):
        recipe = replace(train_config.TRAIN_RECIPES[name], crop_px=64, steps_per_epoch=2, epochs=1)
        monkeypatch.setitem(train_config.TRAIN_RECIPES, name, recipe)
    folder, calls = tmp_path / "work", tmp_path / "calls"
    shutil.copytree(samples, folder)
    recorder = tmp_path / "bin" / "lowdose-tem"
    recorder.parent.mkdir()
    recorder.write_text(RECORD)
    recorder.chmod(0o755)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LOWDOSE_TEM_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PATH", f"{recorder.parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in (("CALLS", str(calls)), ("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_ARRAY_TASK_COUNT", "2")):
        monkeypatch.setenv(name, value)

    def run_shell(text):
        calls.write_text("")
        subprocess.run(["bash", "-eu", "-c", text], check=True)
        for call in calls.read_text().split("\0\0")[:-1]:
            words = call.split("\0")
            done = CliRunner().invoke(app, words)
            assert done.exit_code == 0, f"lowdose-tem {' '.join(words)}\n{done.output}"

    def run(page):
        names: dict = {}
        for block in filter(runs, blocks_of(page)):
            text = block["text"]
            for pattern, smaller in SMALLER:
                text = re.sub(pattern, smaller, text, flags=re.M)
            if block["kind"] == "sh":
                run_shell(text)
            else:
                exec(compile(text, name_of(page), "exec"), names)
        return Ran(names, capsys.readouterr().out, folder)

    return run


def check_readme(ran):
    assert (ran.folder / "mine.safetensors").is_file()
    assert (ran.folder / "sheet.png").is_file()
    assert "dose_e_per_px=" in ran.printed


def check_measurement(ran):
    assert ran.names["result"].particles[0].diameter == pytest.approx(30, abs=1)
    first, second = re.findall(r"\bdiameter=([\d.]+)", ran.printed)
    assert float(first) == pytest.approx(30, abs=0.05)
    assert float(second) == pytest.approx(30, abs=4)
    assert ran.printed.splitlines()[-1].endswith("]]")
    assert len((ran.folder / "diameters.csv").read_text().splitlines()) > 2


def check_batch(ran):
    for name in ("enhanced/a_enhanced.tif", "zarrs/b.ome.zarr", "shares/a.tif", "cluster/b.ome.zarr"):
        assert (ran.folder / name).exists(), name
    assert not (ran.folder / "cluster" / "a.ome.zarr").exists()


def check_limits(ran):
    """The table holds what the example prints."""
    page = (ROOT / "docs" / "limits.md").read_text("utf-8")
    table = page.split("<!-- smallest -->")[1].split("\n\n")[1].splitlines()[2:]
    said = [[float(re.match(r"[\d.]+", cell.strip())[0]) for cell in row.split("|")[1:-1]] for row in table]
    computed = [[float(word) for word in line.split()] for line in ran.printed.splitlines()[:4]]
    assert said == computed
    # counted on pixels: what a sphere takes away, over the noise of a bare film
    diameter, pixel_nm, dose = computed[2][3], 4.8, 5.0 * 0.35
    taken = 1 - draw([(85.3, 120.6, diameter / pixel_nm, 0.59)])
    assert np.sqrt(dose * np.sum(taken**2)) == pytest.approx(5, rel=0.02)


def check_metrics(ran):
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    found = re.findall(r"([\d.]+) dB", ran.printed)
    assert len(found) == 2
    assert all(f"{value} " in page for value in found)


CHECKS = {
    "README.md": check_readme,
    "docs/batch.md": check_batch,
    "docs/limits.md": check_limits,
    "docs/measurement.md": check_measurement,
    "docs/metrics.md": check_metrics,
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a bash")
@pytest.mark.parametrize("page", [p for p in PAGES if any(map(runs, blocks_of(p)))], ids=name_of)
def test_page_runs(page, run_page):
    ran = run_page(page)
    CHECKS.get(name_of(page), lambda ran: None)(ran)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_run_or_say_why_not(page):
    for block in blocks_of(page):
        if block["kind"] not in RUN and block["kind"] not in SHOWN and not block["kind"].startswith("{"):
            assert block["mark"], f"{name_of(page)}: a block that no test runs:\n{block['text']}"
    text = page.read_text("utf-8")
    assert text.count("```") == 2 * len(blocks_of(page)), (
        "a block is not seen by these tests; do not indent it"
    )
    marks = re.findall(r"^<!-- (?:needs|takes): (.+?) -->\n(.*)", text, re.M)
    assert all(below.startswith("```") for _, below in marks)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_scripts_named_are_there(page):
    for script in re.findall(r"\bstudies/\w+\.py\b", page.read_text("utf-8")):
        assert (ROOT / script).is_file(), script
