import json

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read, write
from napari_lowdose_tem.judge.evaluate import compare_particles, evaluate, iter_evaluate, score_output
from napari_lowdose_tem.judge.metrics import scale_to_unit
from napari_lowdose_tem.simulate.camera import IDEAL, expose
from napari_lowdose_tem.simulate.specimen import Particles, Specimen, Support, draw_specimen, render

FACTOR, LOW, PIXEL_NM = 4, (80, 112), 6.0
HIGH = (LOW[0] * FACTOR, LOW[1] * FACTOR)
KEYS = ["n", "mae_mean", "mae_sd", "psnr_mean", "psnr_sd"]
KEYS += ["stretched_mae_mean", "stretched_psnr_mean", "affine_mae_mean", "affine_psnr_mean", "ssim_mean"]
KEYS += ["invented_mean", "missed_mean"]


def write_field(folder, number, material, shift_px=(0.0, 0.0), repeats=2, dose_e_per_px=5.0):
    """Write a field in the authors' layout, its low-dose frames shifted."""
    folder.mkdir(exist_ok=True)
    field_nm = (LOW[0] * PIXEL_NM, LOW[1] * PIXEL_NM)
    specimen = draw_specimen(material, field_nm, number, pixel_size_nm=PIXEL_NM, n_particles=40)
    hde = expose(render(specimen, HIGH).transmission * 1000, IDEAL, number)
    write(Image(hde.astype(np.uint16)), folder / f"{material}_{number}.tif")
    moved = render(specimen, LOW, (shift_px[0] * PIXEL_NM, shift_px[1] * PIXEL_NM)).transmission
    for i in range(1, repeats + 1):
        lde = expose(moved * dose_e_per_px, IDEAL, number + i)
        write(Image(lde.astype(np.uint16)), folder / f"{material}_{number + i}.tif")


@pytest.fixture
def dataset(tmp_path):
    write_field(tmp_path / "FeNi", 8, "FeNi")
    write_field(tmp_path / "FeNi", 11, "FeNi")
    write_field(tmp_path / "Ni", 1, "Ni", repeats=1)
    return tmp_path


def test_report_has_the_documented_keys(dataset, tiny_model):
    steps = list(iter_evaluate(dataset, tiny_model, "cpu"))
    assert [(s.done, s.total) for s in steps] == [(i, 5) for i in range(1, 6)]
    assert [s.frame.path.name for s in steps[:2]] == ["FeNi_9.tif", "FeNi_10.tif"]
    assert [s.result is None for s in steps] == [True] * 4 + [False]
    report = json.loads(json.dumps(steps[-1].result.to_json(), allow_nan=False))
    assert list(report) == ["model", "sets", "all"]
    assert report["model"] == "tiny"
    assert list(report["sets"]) == ["FeNi", "Ni"]
    for entry in (*report["sets"].values(), report["all"]):
        assert list(entry) == KEYS
    assert [report["sets"][name]["n"] for name in ("FeNi", "Ni")] == [4, 1]
    assert report["sets"]["Ni"]["mae_sd"] is None
    scores = [s.frame.score for s in steps]
    assert report["all"]["psnr_mean"] == pytest.approx(np.mean([s.psnr for s in scores]))
    assert report["sets"]["FeNi"]["mae_sd"] == pytest.approx(np.std([s.mae for s in scores[:4]], ddof=1))


def test_score_is_that_of_the_models_output(dataset, tiny_model):
    *_, step = iter_evaluate(dataset / "Ni", tiny_model, "cpu", register=False)
    hde, lde = (read(dataset / "Ni" / f"Ni_{i}.tif").data for i in (1, 2))
    with Engine(tiny_model, "cpu") as engine:
        output = engine.enhance(lde)
    reference = np.asarray(hde).reshape(LOW[0], FACTOR, LOW[1], FACTOR).mean((1, 3))
    stretched = np.abs(scale_to_unit(output) - scale_to_unit(reference)).mean()
    assert step.frame.score.stretched_mae == pytest.approx(stretched, rel=1e-5)
    assert step.frame.score.mae == step.frame.score.stretched_mae  # an untrained network's mean is below zero


def test_outputs_are_compared_at_the_references_level(dataset, no_op):
    *_, step = iter_evaluate(dataset / "Ni", "no-op", register=False)
    hde, lde = (np.asarray(read(dataset / "Ni" / f"Ni_{i}.tif").data, float) for i in (1, 2))
    reference = hde.reshape(LOW[0], FACTOR, LOW[1], FACTOR).mean((1, 3))
    level = np.abs(lde * (reference.mean() / lde.mean()) - reference).mean() / np.ptp(reference)
    assert step.frame.score.mae == pytest.approx(level, rel=1e-5)


def test_drift_is_undone(tmp_path, no_op):
    write_field(tmp_path, 1, "FeNi", (2.25, -1.5), dose_e_per_px=20_000.0)
    registered = evaluate(tmp_path, "no-op").overall
    left = evaluate(tmp_path, "no-op", register=False).overall
    assert registered.affine_psnr_mean > 32
    assert left.affine_psnr_mean < registered.affine_psnr_mean - 8
    assert registered.ssim_mean > left.ssim_mean


def test_paper_reduction_is_noisier(tmp_path, no_op):
    write_field(tmp_path, 1, "Ni", dose_e_per_px=20_000.0)
    psnr = {how: evaluate(tmp_path, reduction=how).overall.affine_psnr_mean for how in ("area", "paper")}
    assert psnr["area"] > psnr["paper"] + 1


def test_affine_scores_forget_the_outputs_scale_but_raw_scores_an_outlier():
    reference = np.add.outer(np.arange(20.0), np.sin(np.arange(30.0)))
    same = score_output(7 - 3 * reference, reference)
    assert same.affine_mae == pytest.approx(0, abs=1e-12)
    assert same.ssim == pytest.approx(1)
    hot = reference.copy()
    hot[3, 4] += 100
    assert score_output(hot, reference).stretched_mae > 0.3
    assert score_output(hot, reference).affine_mae < 0.3
    # the same image at another dose is the same; with an offset it is not
    assert score_output(3 * reference, reference).mae == pytest.approx(0, abs=1e-12)
    assert score_output(3 * reference + 5, reference).mae > 0.02
    # without a level above zero
    below = score_output(-reference, reference)
    assert below.mae == below.stretched_mae > 0.1


def test_reference_without_contrast_is_named(tmp_path, tiny_model):
    write_field(tmp_path, 1, "Ni")
    write(Image(np.full(HIGH, 9, np.uint16)), tmp_path / "Ni_1.tif", overwrite=True)
    with pytest.raises(ValueError, match=r"Ni_1\.tif: all pixels are equal"):
        evaluate(tmp_path, tiny_model, device="cpu")


def test_frames_without_signal_are_named(tmp_path, tiny_model):
    write_field(tmp_path, 1, "Ni")
    write(Image(np.zeros(LOW, np.uint16)), tmp_path / "Ni_3.tif", overwrite=True)
    with pytest.raises(ValueError, match="Ni_3: no signal"):
        evaluate(tmp_path, tiny_model, device="cpu")


def test_layout_is_checked_before_anything_is_loaded(tmp_path):
    with pytest.raises(ValueError, match="no TIFF frames"):
        next(iter_evaluate(tmp_path, "no such model"))


def write_spheres(folder, spheres, pixel_nm=3.0, hidden=()):
    """Write a field of isolated spheres (row_px, col_px, diameter_nm, t_center), some hidden in the LDE."""
    free = np.full(len(spheres), np.inf)
    row, col, diameter, t_center = np.array(spheres, float).T
    center = (np.stack([row, col], 1) + 0.5) * pixel_nm
    support = Support(np.ones((3, 3)), grain=0.002, falloff=0.0, film_transmission=1.0)
    field_nm = (160 * pixel_nm, 224 * pixel_nm)
    images = []
    for kept in (np.ones(len(spheres), bool), ~np.isin(np.arange(len(spheres)), hidden)):
        parts = (center, diameter, -diameter / np.log(t_center), free, np.zeros(len(free)))
        particles = Particles(*(part[kept] for part in parts), (None,) * int(kept.sum()))
        images.append(render(Specimen("FeNi", field_nm, particles, support), (160, 224)).transmission)
    folder.mkdir(exist_ok=True)
    hde = np.kron(images[0], np.ones((2, 2))) * 1000
    for name, counts, nm in (("a_1", hde, pixel_nm / 2), ("a_2", images[1] * 1000, pixel_nm)):
        write(Image(counts.astype(np.uint16), pixel_size_nm=(nm, nm)), folder / f"{name}.tif")


SPHERES = [(40, 60, 60, 0.6), (110, 50, 60, 0.6), (60, 160, 60, 0.6)]


def test_particles_are_counted_against_the_high_dose_frame(tmp_path, no_op):
    write_spheres(tmp_path / "set", SPHERES, hidden=[1])
    *_, step = iter_evaluate(tmp_path / "set", register=False)
    assert (step.result.overall.invented_mean, step.result.overall.missed_mean) == (0, 1)
    (missed,) = step.frame.match.missed
    assert (missed.row_px, missed.col_px) == pytest.approx((110, 50), abs=0.5)
    assert step.frame.pixel_size_nm == pytest.approx(3.0)
    assert step.frame.set_name == "set"
    assert np.array_equal(step.frame.output, step.frame.lde)


def test_the_simulators_truth_goes_first(tmp_path, no_op):
    """It lists a sphere that nobody sees and lacks one; in the low-dose frame they are shifted."""
    write_spheres(tmp_path / "set", SPHERES)
    known = [(110 - 6, 50 + 4), (60 - 6, 160 + 4), (140, 200), (20, 190)]
    particles = [
        {"row_px": row, "col_px": col, "diameter_nm": 60.0, "t_center": 0.99 if row == 20 else 0.6}
        for row, col in known
    ]
    field = {"hde": {"file": "a_1.tif"}, "lde": [{"file": "a_2.tif", "shift_px": [6.0, -4.0]}]}
    truth = {"lde": {"pixel_size_nm": 3.0}, "fields": [{**field, "particles": particles}]}
    (tmp_path / "set" / "truth.json").write_text(json.dumps(truth))
    *_, step = iter_evaluate(tmp_path / "set", register=False)
    match = step.frame.match
    assert [(p.row_px, p.col_px) for p in match.missed] == [(146, 196)]
    assert [(round(p.row_px), round(p.col_px)) for p in match.invented] == [(40, 60)]
    assert sorted((round(p.row_px), round(p.col_px)) for p in match.hits) == [(60, 160), (110, 50)]


@pytest.mark.parametrize("text", ["no JSON", "[1, 2]", '{"fields": 3}', '{"lde": {"pixel_size_nm": 3}}'])
def test_another_programs_truth_is_left_alone(tmp_path, no_op, text):
    write_spheres(tmp_path / "set", SPHERES, hidden=[0])
    (tmp_path / "set" / "truth.json").write_text(text)
    assert evaluate(tmp_path / "set", register=False).overall.missed_mean == 1


def test_what_the_high_dose_frame_does_not_cover_is_not_invented():
    output = np.ones((100, 160))
    row, col = np.mgrid[:100, :160]
    for at in (30, 120):
        output[np.hypot(row - 50, col - at) < 10] = 0.5
    reference = output * 500
    reference[np.hypot(row - 50, col - 120) < 20] = 500
    assert len(compare_particles(output, reference).invented) == 1
    reference[:, 90:] = np.nan
    assert compare_particles(output, reference).invented == ()


@pytest.fixture
def run(monkeypatch):
    def call(*arguments):
        result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
        return result.exit_code, result.stdout, " ".join(result.stderr.split())

    return call


def test_figure_from_the_command_line(tmp_path, dataset, tiny_model, run):
    code, out, err = run(
        dataset, "-m", tiny_model, "--device", "cpu", "--figure", tmp_path / "sheet.png", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["all"]["n"] == 5
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"
    assert run(dataset, "-m", tiny_model, "--figure", tmp_path / "sheet.gif")[0] == 2


def test_repeats_from_the_command_line(tmp_path, tiny_model, run):
    frames = np.random.default_rng(2).poisson(5, (2, 256, 320)).astype(np.uint16) * 44
    write(Image(frames), tmp_path / "stack.tif")
    code, out, err = run(tmp_path / "stack.tif", "-m", tiny_model, "--device", "cpu", "--repeats", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["model"], report["n"]) == ("tiny", 2)
    code, out, _ = run(tmp_path / "stack.tif", "-m", tiny_model, "--device", "cpu", "--repeats")
    assert f"{report['error']:.1f} ±" in out
    code, _, err = run(tmp_path, tmp_path, "-m", tiny_model)
    assert code == 2
    assert "several data sets" in err
    code, _, err = run(tmp_path / "stack.tif", "--repeats", "--figure", tmp_path / "sheet.png")
    assert code == 2
    assert "--figure needs high-dose frames" in err
