"""What careless users do: too wide, too long, off the frame, the wrong file."""

import numpy as np
import pytest
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import write
from napari_lowdose_tem.measure import FitOptions, Line, fit_counts, fit_profile, sample_line, sphere

ACROSS = (60.3, 28.0), (60.3, 113.0)


@pytest.fixture(scope="module")
def image(render):
    return render((121, 143), [(60.3, 70.7, 24, 0.6)], 1.2)


def test_a_line_wider_than_the_particle_is_refused_rather_than_wrong(image):
    assert "narrow the line" in fit_profile(sample_line(image, Line(*ACROSS, 60.0))).refused
    (found,) = fit_profile(sample_line(image, Line(*ACROSS, 20.0))).particles
    assert found.diameter == pytest.approx(24, abs=0.02)


def test_a_line_wider_than_the_frame_costs_no_memory(image):
    with pytest.raises(ValueError, match="narrow the line"):
        sample_line(image, Line(*ACROSS, 1e9))


def test_a_line_wide_beyond_the_rim_is_told_to_be_narrower(render):
    row = render((3, 143), [(1, 70.7, 24, 0.6)], 1.2)
    assert "narrower" in fit_profile(sample_line(row, Line((1, 28), (1, 113), 30.0))).refused


def test_background_marked_off_the_line_is_told_where_the_line_is(image):
    result = fit_profile(sample_line(image, Line(*ACROSS)), FitOptions(background=((900.0, 950.0),)))
    assert "between 0 and 85.0 px" in result.refused


@pytest.mark.parametrize("size", [(0.0, 1.0), (-1.0, -1.0), (np.nan, 1.0)])
def test_pixel_sizes_are_positive(image, size):
    with pytest.raises(ValueError, match="give more than 0"):
        sample_line(image, Line(*ACROSS), size)


def test_complex_pixels_lose_no_half(image):
    with pytest.raises(ValueError, match="modulus"):
        sample_line(image + 1j, Line(*ACROSS))


def test_counts_are_fitted_on_a_low_frame_and_on_lines_from_rim_to_rim(render):
    low = render((9, 200), [(4, 99.3, 7, 0.5)], 1.2)
    found = fit_counts(low, Line((4, 2), (4, 196)))
    assert found.diameter == pytest.approx(7, abs=0.2), found.refused


def test_counts_of_an_opaque_particle_are_refused(render):
    black = render((121, 143), [(60.3, 70.7, 24, 1e-6)], 1.2)
    assert "no electrons pass through" in fit_counts(black, Line(*ACROSS)).refused


def test_wide_blurs_are_summed_alike_by_both_ways(monkeypatch):
    position = np.arange(400.0)
    both = []
    for longest in (10, 10**6):
        monkeypatch.setattr(sphere, "_LONG", longest)
        both.append(sphere.model_line(position, (180.0,), (60.0,), (0.5,), 25.0))
    np.testing.assert_allclose(both[0], both[1], atol=1e-12)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--raw", "out.tif"], "an enhanced frame"),
        (["--figure", "none/x.png"], "no such folder"),
        (["--over-time", "none/x.csv"], "no such folder"),
        (["--over-time", "x.csv", "--figure", "x.png"], "give one of them"),
    ],
)
def test_wrong_files_are_told_before_anything_is_measured(image, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    made = Image(image.astype(np.float32), provenance={"enhanced": {"model": "default"}})
    write(made, tmp_path / "out.tif")
    done = CliRunner().invoke(app, ["measure", "out.tif", "--line", "60.3,28,60.3,113", *words])
    assert (done.exit_code, said in " ".join(done.output.split())) == (2, True), done.output
    assert [path.name for path in tmp_path.iterdir()] == ["out.tif"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kept", [slice(20, 70), slice(40, 46), slice(0, 90, 8)])
@pytest.mark.parametrize("particles", [None, 1, 2])
def test_lines_with_few_samples_are_measured_or_refused_without_a_warning(render, kept, particles):
    image = render((63, 90), [(150.0, 170.0, 80.0, 0.5), (150.0, 260.0, 100.0, 0.5)], 5.0, (4.8, 4.8))
    holey = np.full(image.shape, np.nan)
    holey[:, kept] = image[:, kept]
    profile = sample_line(holey, Line((31, 5), (31, 85)), (4.8, 4.8))
    for is_enhanced in (False, True):
        found = fit_profile(profile, FitOptions(particles=particles, is_enhanced=is_enhanced), 0.1)
        assert found.refused or all(30 < p.diameter < 300 for p in found.particles)
