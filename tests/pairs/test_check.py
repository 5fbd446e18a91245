import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read, write
from napari_lowdose_tem.pairs import check, iter_check
from napari_lowdose_tem.simulate.camera import MEASURED, expose
from napari_lowdose_tem.simulate.specimen import draw_specimen, render

FACTOR, LOW, PIXEL_NM, DOSE = 2, (96, 144), 4.0, 12.0


def write_field(folder, number, seed, shift_px=(1.0, -2.0), pixel_nm=PIXEL_NM):
    """Write a field in the authors' layout; its two low-dose frames are shifted."""
    folder.mkdir(exist_ok=True)
    field_nm = (LOW[0] * PIXEL_NM, LOW[1] * PIXEL_NM)
    specimen = draw_specimen("Ni", field_nm, seed, pixel_size_nm=PIXEL_NM, n_particles=30)
    high = render(specimen, (LOW[0] * FACTOR, LOW[1] * FACTOR)).transmission * 20_000
    hde = np.random.default_rng(seed).poisson(high).astype(np.uint16)
    fine_nm = PIXEL_NM / FACTOR
    write(Image(hde, (fine_nm, fine_nm), 10.0), folder / f"frame_{number}.tif")
    moved = render(specimen, LOW, (shift_px[0] * PIXEL_NM, shift_px[1] * PIXEL_NM)).transmission
    for i in (1, 2):
        lde = expose(moved * DOSE, MEASURED, seed + 100 * i).astype(np.uint16)
        write(Image(lde, (pixel_nm, pixel_nm), 44.0), folder / f"frame_{number + i}.tif")


@pytest.fixture
def data(tmp_path):
    for k in range(2):
        write_field(tmp_path / "Ni", 1 + 3 * k, 3 + k)
    return tmp_path / "Ni"


def replace(path, pixels=None, **changes):
    image = read(path)
    write(image.with_data(image.data if pixels is None else pixels, **changes), path, overwrite=True)


def found(progress):
    return [(f.severity, f.path.name, f.what) for f in progress.findings if "learns them" not in f.what]


def test_a_good_set_is_summed_up(data):
    steps = list(iter_check(data))
    assert [(s.done, s.total, s.summary is None) for s in steps] == [(1, 2, True), (2, 2, False)]
    assert found(steps[-1]) == []
    assert [f.what.split(";")[0] for f in steps[-1].findings] == ["2 fields of view"]
    summary = steps[-1].summary
    assert (summary.fields, summary.usable, summary.refused, summary.ok) == (2, 4, 0, True)
    assert summary.median_shift_px == pytest.approx(np.hypot(1, 2), abs=0.3)
    assert summary.median_shift_nm == pytest.approx(summary.median_shift_px * PIXEL_NM, rel=0.01)
    mean = np.median([read(data / f"frame_{i}.tif").data.mean() / 44 for i in (2, 3, 5, 6)])
    assert summary.median_dose_e_per_px == pytest.approx(mean)


def test_frames_of_other_fields(data):
    (data / "frame_2.tif").rename(data / "keep")
    (data / "frame_5.tif").rename(data / "frame_2.tif")
    (data / "keep").rename(data / "frame_5.tif")
    last = check(data)
    assert [(f[0], f[1]) for f in found(last)] == [("warning", "frame_2.tif"), ("warning", "frame_5.tif")]
    assert "frame_1.tif" in last.findings[1].what
    assert "training leaves it out" in last.findings[1].what
    assert (last.summary.usable, last.summary.refused, last.summary.ok) == (2, 2, True)
    for i in (3, 6):
        (data / f"frame_{i}.tif").unlink()
    last = check(data)
    assert ("error", data.name) in [(f[0], f[1]) for f in found(last)]
    assert (last.summary.usable, last.summary.refused, last.summary.ok) == (0, 2, False)


def test_drift_beyond_the_search(data):
    write_field(data, 7, 9, shift_px=(3.0, -14.0))
    told = [f for f in found(check(data)) if f[1] == "frame_8.tif"]
    assert [f[0] for f in told] == ["warning"]
    assert "more than the 8 px searched" in told[0][2]


def test_swapped_order(data):
    (data / "frame_1.tif").rename(data / "frame_7.tif")
    (finding,) = check(data).findings
    assert (finding.severity, finding.path) == ("error", data)
    assert "before any high-dose frame" in finding.what
    assert "each high-dose frame comes first" in finding.remedy


def test_a_reference_noisier_than_its_low_dose_frame(data):
    hde, lde = (read(data / f"frame_{i}.tif").data for i in (1, 2))
    replace(data / "frame_1.tif", np.kron(lde, np.ones((FACTOR, FACTOR), np.uint16)))
    for i in (2, 3):
        area = hde.reshape(LOW[0], FACTOR, LOW[1], FACTOR).mean((1, 3)) + i
        replace(data / f"frame_{i}.tif", area.astype(np.uint16))
    assert any(name == "frame_1.tif" and "noisier" in what for _, name, what in found(check(data)))


@pytest.mark.parametrize(
    ("spoil", "name", "severity", "said"),
    [
        (lambda a: np.minimum(a, int(np.median(a))), "frame_1.tif", "error", "saturated: "),
        (lambda a: np.full_like(a, 7), "frame_3.tif", "error", "all pixels are equal"),
        (lambda a: np.full(a.shape, np.nan, np.float32), "frame_3.tif", "error", "not finite"),
        (
            lambda a: np.where(np.arange(a.shape[1]) < 20, np.nan, a).astype(np.float32),
            "frame_3.tif",
            "warning",
            "of the pixels are not finite",
        ),
        (lambda a: (a // 40).astype(a.dtype), "frame_6.tif", "warning", "dose 0."),
    ],
)
def test_spoilt_frames(data, spoil, name, severity, said):
    replace(data / name, spoil(read(data / name).data))
    assert any(f[:2] == (severity, name) and said in f[2] for f in found(check(data)))


def test_calibrations(data):
    replace(data / "frame_2.tif", pixel_size_nm=(PIXEL_NM * 1.05, PIXEL_NM * 1.05))
    for i in (5, 6):
        replace(data / f"frame_{i}.tif", counts_per_electron=None)
    sizes = "pixels of 4 nm once reduced 2 times, but of 4.2 nm in frame_2.tif: the fields of view differ"
    assert found(check(data)) == [
        ("warning", "frame_1.tif", sizes),
        ("warning", "frame_5.tif", "no gain, so no dose"),
        ("warning", "frame_6.tif", "no gain, so no dose"),
    ]


def test_copies_and_validation_data(data, tmp_path):
    write_field(tmp_path / "SiC", 1, 20)
    assert found(check(data, validation=tmp_path / "SiC")) == []
    shutil.copy(data / "frame_2.tif", data / "frame_3.tif")
    assert [f[2] for f in found(check(data))] == [f"the same bytes as {data / 'frame_2.tif'}"]
    table = tmp_path / "pairs.csv"
    table.write_text("hde,lde\nNi/frame_1.tif,Ni/frame_2.tif\nSiC/frame_1.tif,SiC/frame_2.tif\n")
    both = found(check(table, validation=tmp_path / "SiC"))
    assert both == [("error", f"frame_{i}.tif", "in training and in validation") for i in (1, 2)]


def test_high_dose_frames_alone(data):
    for i in (2, 3, 5, 6):
        (data / f"frame_{i}.tif").unlink()
    assert not check(data).summary.ok
    last = check(data, hde_only_factor=2)
    assert found(last) == []
    assert (last.summary.fields, last.summary.usable, last.summary.ok) == (2, 0, True)


def test_command(data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, ["check", str(data)])
    assert result.exit_code == 0, result.output
    assert "2 fields, 4 pairs usable, 0 refused; median shift 2." in result.stdout
    assert "2 fields of view; a network" in result.stdout
    replace(data / "frame_3.tif", np.full(LOW, 7, np.uint16))
    result = CliRunner().invoke(app, ["check", str(data), "--json"])
    assert result.exit_code == 2
    report = json.loads(result.stdout)
    assert report["summary"]["ok"] is False
    assert {"severity", "path", "what", "remedy"} == set(report["findings"][0])
    assert "frame_3.tif: all pixels are equal" in result.stderr
    result = CliRunner().invoke(app, ["check", str(data / "nowhere")])
    assert result.exit_code == 2
    assert "nowhere: no such folder" in result.stderr
