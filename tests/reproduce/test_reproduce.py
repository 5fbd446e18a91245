"""`lowdose-tem reproduce`: the paper's figures and tables come out, and come out again."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.engine.device import choose_device
from napari_lowdose_tem.judge.evaluate import evaluate
from napari_lowdose_tem.reproduce import (
    ReproduceJob,
    find_differences,
    iter_reproduce,
    reproduce,
    write_report,
)
from napari_lowdose_tem.reproduce.example import find_lines, make_scene, place_lines
from napari_lowdose_tem.reproduce.losses import STORED, find_parting, read_losses
from napari_lowdose_tem.reproduce.published import PUBLISHED
from napari_lowdose_tem.reproduce.shortfalls import describe_resolution, describe_worse_scores
from napari_lowdose_tem.simulate import simulate_dataset

ROOT = Path(__file__).parents[2]
QUICK = Path(__file__).parents[1] / "data" / "reproduction-quick.json"
LARGEST_IMAGE = 900_000  # bytes


def load(path):
    return json.loads(path.read_text("utf-8"))


def run(*words):
    return CliRunner().invoke(app, ["reproduce", *map(str, words)])


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The report that `--quick` makes."""
    folder = tmp_path_factory.mktemp("quick")
    result = run("--out", folder, "--quick", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == load(folder / "reproduction.json")
    return folder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Sets that stand for recorded ones, in folders training and validation."""
    folder = tmp_path_factory.mktemp("recorded") / "zenodo"
    size = {"lde_px": 128, "hde_px": 256, "hde_dose_e_per_px": 16_000.0}
    simulate_dataset(folder / "training", ("FeNi",), pairs=2, seed=5, **size)
    simulate_dataset(folder / "validation", ("FeNi", "silicate"), pairs=1, seed=6, **size)
    (folder / "validation" / "FeNi").rename(folder / "validation" / "feni")
    (folder / "validation" / "silicate").rename(folder / "validation" / "clay")
    return folder


# ---- the numbers come out again


def test_quick_report_comes_out_again(quick):
    differences = find_differences(load(quick / "reproduction.json"), load(QUICK))
    assert not differences, (
        "\n".join(differences) + f"\nif a model or the simulator changed, make {QUICK.name} anew"
    )


@pytest.mark.parametrize(
    ("place", "factor"),
    [
        (("table2", "Ni", "mae_mean"), 1.6),
        (("table2", "all", "psnr_mean"), 0.85),
        (("table1", "SiC", "validation"), 2),
        (("lines", "A–B", "HDE, full", "d", 0), 1.1),
        (("example", "hde_min"), 1.2),
        (("fig2", "rows", 3, 2), 1.001),
        (("published", "table2", "Ni", "mae", 0), 1.01),
    ],
)
def test_numbers_that_changed_are_told(place, factor):
    changed = load(QUICK)
    entry = changed
    for key in place[:-1]:
        entry = entry[key]
    entry[place[-1]] *= factor
    assert len(find_differences(changed, load(QUICK))) == 1
    assert not find_differences(load(QUICK), load(QUICK))


def test_missing_and_refused_numbers_are_told_apart():
    changed = load(QUICK)
    changed["lines"]["A–B"]["output, full"]["d"] = None  # other noise
    assert not find_differences(changed, load(QUICK))
    changed["lines"]["A–B"]["HDE, full"]["d"] = None
    del changed["table2"]["FeNi"]
    assert len(find_differences(changed, load(QUICK))) == 2


def test_timings_are_not_compared():
    changed = load(QUICK)
    changed["table3"][0]["calc_ms_mean"] *= 10
    changed["versions"]["numpy"] = "0"
    assert not find_differences(changed, load(QUICK))


# ---- the report is made from the numbers alone


def test_page_of_the_docs_is_what_its_numbers_say():
    numbers = load(ROOT / "studies" / "reproduction.json")
    assert (ROOT / "docs" / "reproduction.md").read_text("utf-8") == write_report(numbers)
    assert numbers["quick"] is False
    assert sum(row["validation"] for row in numbers["table1"].values()) == 160


@pytest.mark.parametrize("where", ["docs", "quick"])
def test_figures_are_there_and_small(where, request):
    folder = ROOT / "docs" if where == "docs" else request.getfixturevalue("quick")
    page = (folder / "reproduction.md").read_text("utf-8")
    if where == "quick":
        assert page == write_report(load(folder / "reproduction.json"))
    images = re.findall(r"!\[.+\]\((.+)\)", page)
    assert images == [f"images/reproduction-fig{i}.png" for i in range(2, 8)]
    for image in images:
        assert 5_000 < (folder / image).stat().st_size < LARGEST_IMAGE


def test_report_tells_paper_and_specimens_apart(quick):
    page = (quick / "reproduction.md").read_text("utf-8")
    assert "The specimens here are not the paper's." in page
    assert "Do not quote these numbers" in page
    for number in ("20.82 ± 2.13", "102.1", "0.34", "106.0 ± 0.7", "72.5", "1,000"):  # the paper's
        assert number in page
    assert "| d | 95.2 |" in page
    assert "nan" not in page.lower().replace("nanoparticle", "")
    assert "None" not in page.replace("None of these", "")


def test_published_numbers_agree_with_themselves():
    totals = [sum(row[part] for row in PUBLISHED["table1"].values()) for part in ("training", "validation")]
    assert totals == [1000, 160]
    for measure, digits in (("mae", 3), ("psnr", 2)):  # the paper's averages are over images
        mean = sum(
            PUBLISHED["table2"][name][measure][0] * row["validation"] / 160
            for name, row in PUBLISHED["table1"].items()
        )
        assert mean == pytest.approx(PUBLISHED["table2"]["all"][measure][0], abs=0.6 * 10**-digits)
    for row in PUBLISHED["lines"].values():
        assert row["D"] - row["d"] == pytest.approx(row["D - d"])


def test_worse_numbers_are_named():
    paper = {
        "Ni": {"mae": [0.075, 0.0], "psnr": [20.8, 0.0]},
        "SiC": {"mae": [0.074, 0.0], "psnr": [20.8, 0]},
    }
    good = {"mae_mean": 0.01, "psnr_mean": 30.0, "stretched_mae_mean": 0.02, "stretched_psnr_mean": 29.0}
    good |= {"affine_mae_mean": 0.01, "affine_psnr_mean": 31.0}
    assert (
        describe_worse_scores({"Ni": good, "SiC": good}, paper)
        == "None of these numbers is worse than the paper's."
    )
    said = describe_worse_scores({"Ni": good, "SiC": good | {"stretched_mae_mean": 0.08}}, paper)
    assert "the MAE of the stretched output: SiC (0.080 against 0.074)" in said
    assert "PSNR" not in said
    assert "Ni" not in said


def test_pairs_not_told_apart_are_named():
    entries = {"HDE, full": {"resolved": True}, "output, full": {"resolved": None}}
    said = describe_resolution(entries)
    assert "HDE, full: yes; output, full: refused." in said
    assert "Worse than the paper's" in said
    assert "Worse" not in describe_resolution(entries | {"output, paper": {"resolved": True}})


# ---- the measurements


def test_quick_measures_the_known_specimen(quick):
    lines = load(quick / "reproduction.json")["lines"]
    for line in ("A–B", "C–D"):
        for name, (value, se) in ((k, v) for k, v in lines[line]["HDE, full"].items() if k in lines["truth"]):
            assert value == pytest.approx(lines["truth"][name], abs=max(1.0, 4 * se))
    assert lines["C–D"]["HDE, full"]["resolved"] is True
    edge = lines["A–B"]["HDE, full"]
    assert edge["D"][0] - edge["d"][0] == pytest.approx(edge["D - d"][0], abs=1e-3)


def test_lines_of_the_specimen_cross_its_particles():
    scene = make_scene()
    *_, alone, first, second = scene.truth
    lines = place_lines(scene)
    a, b = np.array(lines["A–B"].start), np.array(lines["A–B"].stop)
    np.testing.assert_allclose((a + b) / 2, [alone["row_px"], alone["col_px"]], atol=1e-6)
    c, d = np.array(lines["C–D"].start), np.array(lines["C–D"].stop)
    for particle in (first, second):
        to = np.array([particle["row_px"], particle["col_px"]]) - c
        across = (to[0] * (d - c)[1] - to[1] * (d - c)[0]) / np.linalg.norm(d - c)
        assert abs(across) < 1e-6
        assert 0 < to @ (d - c) < (d - c) @ (d - c)
    assert np.linalg.norm([first["row_px"] - second["row_px"], first["col_px"] - second["col_px"]]) * 4.0 == (
        pytest.approx(78.4)
    )


def test_lines_are_found_where_nobody_gives_them():
    spheres = ((60.0, 70.0, 30.0), (150.0, 210.0, 22.0), (166.0, 234.0, 26.0))
    row, col = np.mgrid[:230, :310]
    thickness = np.zeros(row.shape)
    for r, c, d in spheres:
        thickness += np.sqrt(np.maximum(0, 1 - ((row - r) ** 2 + (col - c) ** 2) / (d / 2) ** 2))
    reference = 60_000 * np.exp(-0.5 * thickness)
    lines = find_lines(reference, (3.0, 3.0))
    middle = np.add(lines["A–B"].start, lines["A–B"].stop) / 2
    np.testing.assert_allclose(middle, spheres[0][:2], atol=1.5)
    start, stop = np.array(lines["C–D"].start), np.array(lines["C–D"].stop)
    for r, c, d in spheres[1:]:
        to = np.array([r, c]) - start
        along = to @ (stop - start) / np.linalg.norm(stop - start)
        assert np.sqrt(to @ to - along**2) < 2
        assert d / 2 < along < np.linalg.norm(stop - start) - d / 2
    assert find_lines(np.full((90, 130), 500.0), None) == {}


def test_training_log():
    values, curve = read_losses(STORED)
    assert len(curve) == values["epochs"] == 80
    assert curve[values["best_epoch"] - 1][2] == min(row[2] for row in curve)
    with pytest.raises(ValueError, match="no losses of a training"):
        read_losses(Path(__file__))
    falling = [(i, 1 / i, 1 / i - 0.01 if i <= 30 else 1 / 30) for i in range(1, 91)]
    assert 26 <= find_parting(falling) <= 35
    assert find_parting([(i, 1.0, 0.5) for i in range(1, 50)]) is None


# ---- recorded data, and parts that are kept


def test_recorded_data_is_counted_and_scored(recorded, tiny_model, tmp_path):
    job = ReproduceJob(tmp_path / "out", quick=True, data=recorded, model=tiny_model, device="cpu")
    numbers = reproduce(job)
    assert numbers["data"] == "zenodo"
    assert numbers["table1"] == {
        "FeNi": {"training": 4, "validation": 2},
        "clay": {"training": None, "validation": 2},
    }
    exact = choose_device("cpu", "float32")  # as all of the report but Table 3
    expected = evaluate(recorded / "validation", tiny_model, device=exact)
    for name, folder in (("FeNi", "feni"), ("clay", "clay")):
        assert numbers["table2"][name]["mae_mean"] == pytest.approx(expected.sets[folder].mae_mean, rel=1e-5)
    assert numbers["table2"]["all"]["psnr_mean"] == pytest.approx(expected.overall.psnr_mean, rel=1e-5)
    assert numbers["example"]["name"].startswith("clay, ")  # the first: there is no silicate
    page = (tmp_path / "out" / "reproduction.md").read_text("utf-8")
    assert "simulated" not in page.split("## Fig. 2")[0]
    assert "--data zenodo" in page
    assert str(recorded) not in page + (tmp_path / "out" / "reproduction.json").read_text("utf-8")


def test_finished_parts_are_kept(recorded, tiny_model, tmp_path, monkeypatch):
    job = ReproduceJob(tmp_path, quick=True, data=recorded, model=tiny_model, device="cpu")
    steps = iter_reproduce(job)
    for step in steps:  # stopped in the part after the scores
        if step.part == "example":
            break
    steps.close()
    assert not (tmp_path / "reproduction.md").exists()

    def fail(*_args, **_kwargs):
        raise AssertionError("scored twice")

    monkeypatch.setattr("napari_lowdose_tem.reproduce.job.iter_sets", fail)
    first = reproduce(job)
    with pytest.raises(AssertionError, match="scored twice"):
        reproduce(
            ReproduceJob(tmp_path, quick=True, data=recorded, model=tiny_model, device="cpu", again=True)
        )
    (tmp_path / "images" / "reproduction-fig3.png").unlink()
    with pytest.raises(AssertionError, match="scored twice"):
        reproduce(job)
    assert first["table2"]["all"]["n"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "nowhere"), "nowhere: no such folder"),
        (("--model", "nonesuch"), "nonesuch"),
        (("--training-log", "napari.yaml"), "no losses of a training"),
        (("--training-log", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_bad_input_ends_in_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    result = run("--out", tmp_path, "--quick", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert not (tmp_path / "reproduction.md").exists()


def test_training_without_validation_is_refused(recorded, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "training").symlink_to(recorded / "training", target_is_directory=True)
    result = run("--out", tmp_path / "out", "--data", tmp_path / "data")
    assert result.exit_code == 2
    assert "no folder validation" in result.stderr


def test_imports_wait_for_the_work():
    import subprocess
    import sys

    code = "import sys, napari_lowdose_tem.reproduce; print(*({'torch', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
