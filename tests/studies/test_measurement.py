"""The script that fills the tables of docs/measurement.md."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    return importlib.import_module("measurement")


def test_line_crosses_the_sphere_where_asked(script):
    cell = script.replace(script.HDE, offset=0.5)
    image, line = script.draw_sphere(cell, np.random.default_rng(5))
    full = script.measure_one("full", image, line, cell.pixel_nm)[0]
    assert full == pytest.approx(96 * np.sqrt(1 - 0.5**2), abs=1)
    assert script.measure_one("sphere", image, line, cell.pixel_nm)[0] == pytest.approx(96, abs=0.1)


def test_summary_counts_what_it_says(script):
    rows = [[10, 1, 8, 12, np.nan], [13, 1, 11, 15, np.nan], [9, 1, 7, 11, np.nan], [np.nan] * 5]
    summary = script.summarise([10, 10, 10, 10], rows)
    assert summary["n"] == 3
    assert summary["refused"] == 0.25
    assert summary["bias"] == pytest.approx(2 / 3)
    assert summary["coverage"] == pytest.approx(2 / 3)


def test_ideal_counts_come_with_their_bound(script):
    cell = script.replace(script.LDE, dose_e_per_px=200.0)
    rng = np.random.default_rng(8)
    image, line = script.draw_sphere(cell, rng)
    diameter, se, low, high, bound = script.measure_one("ideal", rng.poisson(200 * image), line, 4.8)
    assert abs(diameter - 96) < 4 * bound
    assert 0.7 * bound < se < 1.5 * bound
    assert low < diameter < high


def test_script_fills_page_and_measures_nothing_twice(script, tmp_path, monkeypatch):
    cells, enhanced = (importlib.import_module(f"measurement_{name}") for name in ("cells", "enhanced"))
    monkeypatch.setattr(script, "HDE_AXES", {"diameter_nm": (80, 96), "dose_e_per_px": (32_000, 64_000)})
    monkeypatch.setattr(cells, "FINE", 4)
    monkeypatch.setattr(enhanced, "ENHANCED_T_MIN", (0.45,))
    monkeypatch.setattr(enhanced, "ENHANCED_DOSES", (50.0,))
    monkeypatch.setattr(enhanced, "ENHANCED_PIXELS_NM", (3.0,))
    monkeypatch.setattr(enhanced, "PAIRS_T_MIN", (0.45,))
    monkeypatch.setattr(enhanced, "APART", (0.6, 1.6))
    settings = script.Settings(4, 3, frames=1, frames_main=0, frames_pairs=2)
    sections = ["bias", "hde", "enhanced", "pairs"]
    script.main([*sections, "--out", str(tmp_path)], settings)
    page = (tmp_path / "measurement.md").read_text("utf-8")
    assert "| full, blur 4 nm | 96.0" in page
    template = (ROOT / "docs" / "measurement.md").read_text("utf-8")
    assert page.count("<!-- end -->") == template.count("<!-- end -->")
    for name in ("hde", "enhanced"):
        assert (tmp_path / "images" / f"measurement-{name}.png").stat().st_size < 250_000
    stored = json.loads((tmp_path / "measurement.json").read_text("utf-8"))
    assert abs(stored["hde"]["main"]["full"]["bias"]) < 0.5
    assert stored["enhanced"]["all"]["sphere"]["n"] >= 3
    pairs = stored["pairs"]["all"]["separation"]
    assert pairs["n"] == pytest.approx(18 * (1 - pairs["refused"]))
    assert abs(pairs["bias"]) < 4 * pairs["sd"] < 20
    overlapping, apart = (row["separation"]["refused"] for _, row in stored["pairs"]["axes"]["apart"])
    assert overlapping > apart

    def fail(_settings):
        raise AssertionError("measured twice")

    monkeypatch.setattr(script, "SECTIONS", dict.fromkeys(sections, fail))
    script.main(["--out", str(tmp_path)], settings)


def test_unknown_section_is_refused(script, tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.main(["heights", "--out", str(tmp_path)])
    assert "no section heights" in capsys.readouterr().err
