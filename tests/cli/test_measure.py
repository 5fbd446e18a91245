import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import write
from napari_lowdose_tem.measure.thresholds import NETWORK_FACTOR

PX = 4.8
LINE = "30.4,12,30.4,62"


@pytest.fixture
def folder(render, tmp_path):
    """A high-dose frame, a low-dose frame, an enhanced one and a stack of a particle of 96 nm."""
    mean = render(
        (128, 140), [(146.0, 175.0, 96.0, 0.59), (450.0, 500.0, 70.0, 0.5)], 4.0, (PX, PX), level=1.0
    )
    rng = np.random.default_rng(3)
    high = Image(rng.poisson(64_000 * mean).astype(np.float32), (PX, PX), name="hde")
    low = Image(rng.poisson(6 * mean).astype(np.uint16), (PX, PX), counts_per_electron=1.0, name="lde")
    write(high, tmp_path / "hde.tif")
    write(low, tmp_path / "lde.tif")
    made = {"enhanced": {"model": "default", "raw_noise": 0.4}}
    write(high.with_data(high.data / 64_000 * 6, provenance=made), tmp_path / "out.tif")
    write(high.with_data(np.stack([high.data] * 4)), tmp_path / "movie.tif")
    write(high.with_data(high.data, pixel_size_nm=None), tmp_path / "bare.tif")
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["measure", *map(str, words)])


def read_json(*words):
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_json_holds_the_contract(folder):
    found = read_json(folder / "hde.tif", "--line", LINE)
    assert (found["unit"], found["fit"], len(found["particles"])) == ("nm", "full", 1)
    particle = found["particles"][0]
    assert particle["diameter_nm"] == pytest.approx(96, abs=1)
    low, high = particle["diameter_ci95_nm"]
    assert low < particle["diameter_nm"] < high
    assert particle["center_nm"] == pytest.approx(175 - 12 * PX, abs=0.5)
    assert {"separation_nm", "separation_se_nm", "margin_nm", "resolved", "background"} <= set(found)


def test_uncalibrated_files_are_measured_in_pixels_and_can_be_given_a_size(folder):
    bare = read_json(folder / "bare.tif", "--line", LINE)
    assert bare["unit"] == "px"
    assert bare["particles"][0]["diameter_px"] == pytest.approx(20, abs=0.2)
    given = read_json(folder / "bare.tif", "--line", LINE, "--pixel-size", 2)
    assert given["particles"][0]["diameter_nm"] == pytest.approx(40, abs=0.4)


def test_models_and_rules(folder):
    paper = read_json(folder / "hde.tif", "--line", LINE, "--fit", "paper", "--rule", "first_crossing")
    assert paper["pseudo_diameter_rule"] == "first_crossing"
    assert 96 < paper["particles"][0]["diameter_nm"] < 106
    marked = read_json(
        folder / "hde.tif", "--line", LINE, "--background", "0:50", "--background", "190:240", "--width", 3
    )
    assert marked["background"]["segments_nm"] == [[0, 50], [190, 240]]


def test_the_electrons_are_asked_beside_the_enhanced_frame(folder):
    found = read_json(folder / "out.tif", "--line", LINE, "--raw", folder / "lde.tif")
    counts = found["electrons"]
    assert counts["diameter_nm"] == pytest.approx(96, abs=20)
    assert 2 < counts["diameter_bound_nm"] < 8
    # far larger than what the residuals show
    assert found["particles"][0]["diameter_se_nm"] > 4
    from_file = read_json(folder / "out.tif", "--line", LINE)
    assert from_file["particles"][0]["diameter_se_nm"] == pytest.approx(NETWORK_FACTOR * 4.4, abs=1.3)


def test_a_table_is_printed_for_people(folder):
    done = run(folder / "hde.tif", "--line", LINE, "--snap", "--figure", folder / "line.png")
    assert done.exit_code == 0, done.output
    for words in ("lengths in nm", "diameter d", "95 % interval", "edge σ"):
        assert words in done.stdout
    assert (folder / "line.png").read_bytes().startswith(b"\x89PNG")


def test_over_time_writes_a_table(folder):
    done = run(folder / "movie.tif", "--line", LINE, "--over-time", folder / "d.csv")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((folder / "d.csv").read_text().splitlines()))
    assert [float(row["diameter_nm"]) for row in rows] == pytest.approx([96] * 4, abs=1)
    assert "4 of 4 frames" in done.stdout
    found = read_json(folder / "movie.tif", "--line", LINE, "--over-time", folder / "e.csv")
    assert len(found["diameter_nm"]) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--line", "1,2,3"], "row and column of both ends"),
        (["--line", "30,12,30,400"], "outside the frame"),
        (["--line", "30,12,30,15"], "3.0 px long"),
        (["--line", LINE, "--fit", "spline"], "unknown fit 'spline'"),
        (["--line", LINE, "--particles", "many"], "give a number, or auto"),
        (["--line", LINE, "--particles", "40"], "40 particles"),
        (["--line", LINE, "--background", "5"], "where it begins and ends"),
        (["--line", LINE, "--frame", "7"], "frame 7 of 1"),
        (["--line", LINE, "--over-time", "x.csv"], "needs a stack"),
        (["--line", LINE, "--pixel-size", "-1"], "not positive"),
        (["--line", LINE, "--raw", "movie.tif"], "own raw frame"),
        (["--line", LINE, "--figure", "line.bmp"], "written as .png"),
    ],
)
def test_bad_input_ends_with_one_line(folder, words, said, monkeypatch):
    monkeypatch.chdir(folder)
    done = run("hde.tif", *words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_refusals_have_their_reason_and_status_2(folder):
    done = run(folder / "hde.tif", "--line", "100,12,100,62", "--json")
    assert done.exit_code == 2
    report = json.loads(done.stdout)
    assert report["particles"] == [] and "dip" in report["refused"]
    assert "refused:" in done.stderr
