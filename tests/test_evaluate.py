import json
from types import SimpleNamespace

import numpy as np
import pytest

import napari_lowdose_tem.engine
from napari_lowdose_tem.engine import Engine
from napari_lowdose_tem.evaluate import evaluate, iter_evaluate, score_output
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read, write
from napari_lowdose_tem.metrics import scale_to_unit
from napari_lowdose_tem.simulate.camera import IDEAL, expose
from napari_lowdose_tem.simulate.specimen import draw_specimen, render

FACTOR, LOW, PIXEL_NM = 4, (80, 112), 6.0
HIGH = (LOW[0] * FACTOR, LOW[1] * FACTOR)
KEYS = ["n", "mae_mean", "mae_sd", "psnr_mean", "psnr_sd", "affine_mae_mean", "affine_psnr_mean", "ssim_mean"]
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


@pytest.fixture
def no_op(monkeypatch):
    """An engine that returns the low-dose frame itself."""

    class NoOp:
        model = SimpleNamespace(file=SimpleNamespace(label="no-op"))

        def __init__(self, model, device):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            pass

        def measure(self, image):
            return None

        def enhance(self, counts, scaling):
            return counts.astype(np.float32)

    monkeypatch.setattr(napari_lowdose_tem.engine, "Engine", NoOp)


def test_report_has_the_documented_keys(dataset, tiny_model):
    steps = list(iter_evaluate(dataset, tiny_model, "cpu"))
    assert [(s.done, s.total) for s in steps] == [(i, 5) for i in range(1, 6)]
    assert [s.path.name for s in steps[:2]] == ["FeNi_9.tif", "FeNi_10.tif"]
    assert [s.result is None for s in steps] == [True] * 4 + [False]
    report = json.loads(json.dumps(steps[-1].result.to_json(), allow_nan=False))
    assert list(report) == ["model", "sets", "all"]
    assert report["model"] == "tiny"
    assert list(report["sets"]) == ["FeNi", "Ni"]
    for entry in (*report["sets"].values(), report["all"]):
        assert list(entry) == KEYS
    assert [report["sets"][name]["n"] for name in ("FeNi", "Ni")] == [4, 1]
    assert report["sets"]["Ni"]["mae_sd"] is None
    scores = [s.score for s in steps]
    assert report["all"]["psnr_mean"] == pytest.approx(np.mean([s.psnr for s in scores]))
    assert report["sets"]["FeNi"]["mae_sd"] == pytest.approx(np.std([s.mae for s in scores[:4]], ddof=1))


def test_score_is_that_of_the_models_output(dataset, tiny_model):
    *_, step = iter_evaluate(dataset / "Ni", tiny_model, "cpu", register=False)
    hde, lde = (read(dataset / "Ni" / f"Ni_{i}.tif").data for i in (1, 2))
    with Engine(tiny_model, "cpu") as engine:
        output = engine.enhance(lde)
    reference = np.asarray(hde).reshape(LOW[0], FACTOR, LOW[1], FACTOR).mean((1, 3))
    expected = np.abs(scale_to_unit(output) - scale_to_unit(reference)).mean()
    assert step.score.mae == pytest.approx(expected, rel=1e-5)


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
    assert score_output(hot, reference).mae > 0.3
    assert score_output(hot, reference).affine_mae < 0.3


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
