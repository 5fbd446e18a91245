import itertools
import json

import numpy as np
import pytest

from napari_lowdose_tem.measure import FitOptions, Line, fit_profile, sample_line, suggest_particles
from napari_lowdose_tem.measure.errors import bound_sphere
from napari_lowdose_tem.measure.thresholds import NETWORK_FACTOR

PX = 4.8  # nm
ONE = FitOptions(particles=1)


def cross(center, angle, reach, pixel=(1.0, 1.0), shift=(0.0, 1.5)):
    """Line through a centre [unit], `reach` to both sides, its ends shifted."""
    along = np.array([np.sin(angle), np.cos(angle)])
    ends = [
        np.asarray(center) + along * (sign * reach + move) for sign, move in zip((-1, 1), shift, strict=True)
    ]
    return Line(*(tuple(end / np.asarray(pixel)) for end in ends))


@pytest.mark.parametrize(
    ("diameter", "t_min", "sigma", "angle", "pixel"),
    [
        (8.3, 0.3, 0.7, 0.4, (1, 1)),
        (9.0, 0.95, 1.0, 2.0, (1, 1)),
        (20.4, 0.6, 2.0, 1.0, (1, 1)),
        (41.0, 0.9, 0.6, 0.0, (1, 1)),
        (79.0, 0.3, 1.5, 2.6, (1, 1)),
        (21.0, 0.5, 2.4, 1.2, (1, 2)),
        (40.0, 0.8, 2.0, 0.3, (1, 2)),
        (33.0, 0.4, 2.0, 2.2, (2, 1)),
    ],
)
def test_full_fit_of_a_blurred_sphere_is_exact(render, diameter, t_min, sigma, angle, pixel):
    side = 1.9 * diameter + 30
    shape = (int(side / pixel[0]), int(side / pixel[1]) + 3)
    center = (side / 2 + 0.3, side / 2 - 0.8)
    # a rim so near needs many points
    image = render(shape, [(*center, diameter, t_min)], sigma, pixel, over=16 if diameter < 30 else 6)
    reach = diameter / 2 + 3 * sigma + 5
    result = fit_profile(sample_line(image, cross(center, angle, reach, pixel), pixel), ONE)
    assert not result.refused
    (found,) = result.particles
    assert found.diameter == pytest.approx(diameter, rel=1e-3)
    assert found.center == pytest.approx(reach, abs=0.05)
    assert found.t_min == pytest.approx(t_min, abs=0.005)
    # with the pixel's own box
    assert found.edge_sigma == pytest.approx(
        np.hypot(sigma, np.sqrt(1 / 12) * np.sqrt(np.prod(pixel))), rel=0.1
    )


@pytest.mark.parametrize(
    ("model", "sigma", "expected"),
    [
        ("paper", 0.05, (97.4, 102.7, 107.0)),
        ("exponential", 0.05, (96.0, 96.0, 96.0)),
        ("exponential", 4.0, (94.4, 94.2, 94.0)),
        ("full", 4.0, (96.0, 96.0, 96.0)),
    ],
)
def test_known_biases_of_the_models(render, model, sigma, expected):
    for t_min, diameter in zip((0.90, 0.59, 0.41), expected, strict=True):
        image = render((130, 217), [(78.4, 130.2, 96.0, t_min)], sigma, (1.2, 1.2))
        line = Line((78.4 / 1.2, 2), (78.4 / 1.2, 214))
        result = fit_profile(sample_line(image, line, (1.2, 1.2)), FitOptions(model, particles=1))
        assert result.particles[0].diameter == pytest.approx(diameter, abs=0.3)


def test_high_dose_noise_leaves_no_bias_and_is_told_honestly(render):
    rng = np.random.default_rng(11)
    errors, covered, spread = [], [], []
    for angle in (0.0, 0.6, 1.3, 2.4):
        center = (146 + 3 * angle, 175 - 2 * angle)
        mean = render((61, 73), [(*center, 96.0, 0.59)], 4.0, (PX, PX), level=64_000)
        line = cross(center, angle, 90, (PX, PX))
        for _ in range(40):
            result = fit_profile(sample_line(rng.poisson(mean).astype(float), line, (PX, PX)), ONE)
            found = result.particles[0]
            errors.append(found.diameter - 96)
            spread.append(found.diameter_se)
            covered.append(found.diameter_ci95[0] < 96 < found.diameter_ci95[1])
    assert abs(np.mean(errors)) < 0.05
    assert np.std(errors) < 0.25
    assert np.mean(spread) == pytest.approx(np.std(errors), rel=0.25)
    assert 0.90 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize(
    ("d1", "d2", "apart"),
    [
        (58.3, 73.0, 78.4),
        (90.0, 90.0, 90.0),
        (90.0, 80.0, 60.0),
        (96.0, 70.0, 33.0),
        (30.0, 90.0, 70.0),
        (40.0, 120.0, 45.0),
    ],
)
def test_two_particles(render, d1, d2, apart):
    rng = np.random.default_rng(5)
    col = 150.0
    mean = render((70, 92), [(160, col, d1, 0.6), (160, col + apart, d2, 0.6)], 4.0, (PX, PX), level=64_000)
    line = Line((160 / PX, (col - d1 / 2 - 40) / PX), (160 / PX, (col + apart + d2 / 2 + 45) / PX))
    profile = sample_line(rng.poisson(mean).astype(float), line, (PX, PX))
    result = fit_profile(profile, FitOptions(particles=2))
    first, second = result.particles
    for found, truth in ((first.diameter, d1), (second.diameter, d2), (result.separation, apart)):
        assert found == pytest.approx(truth, abs=0.9)
    assert result.margin == pytest.approx(apart - (d1 + d2) / 2, abs=1.5)
    assert result.resolved == (result.margin > 0)
    assert suggest_particles(profile) == 2
    assert 0.02 < result.separation_se < 1


def test_a_chain_of_touching_spheres(render):
    places = [110.0 + 80 * i for i in range(4)]
    mean = render((50, 100), [(120, x, 80, 0.6) for x in places], 4.0, (PX, PX), level=64_000)
    image = np.random.default_rng(2).poisson(mean).astype(float)
    line = Line((25, 4), (25, 96))
    result = fit_profile(sample_line(image, line, (PX, PX)))
    assert [p.diameter for p in result.particles] == pytest.approx([80] * 4, abs=1)
    steps = [b.center - a.center for a, b in itertools.pairwise(result.particles)]
    assert steps == pytest.approx([80] * 3, abs=1)


def test_a_line_that_misses_the_centre_shows_less(render):
    image = render((61, 73), [(146.0, 175.0, 96.0, 0.59)], 4.0, (PX, PX))
    for offset in (4.8, 14.4):
        line = Line(((146 + offset) / PX, 12), ((146 + offset) / PX, 62))
        found = fit_profile(sample_line(image, line, (PX, PX)), ONE).particles[0]
        assert found.diameter == pytest.approx(96 * np.sqrt(1 - (offset / 48) ** 2), rel=0.006)


def test_the_line_width_is_in_the_model(render):
    image = render((61, 73), [(146.0, 175.0, 96.0, 0.59)], 4.0, (PX, PX))
    for width in (3, 6, 9):
        line = Line((146 / PX, 12), (146 / PX, 62), width)
        found = fit_profile(sample_line(image, line, (PX, PX)), ONE).particles[0]
        assert found.diameter == pytest.approx(96, rel=3e-3)


def test_a_sloping_background_is_fitted(render):
    image = render((61, 73), [(146.0, 175.0, 96.0, 0.59)], 4.0, (PX, PX))
    image *= 1 + 0.004 * np.arange(73)
    found = fit_profile(sample_line(image, Line((146 / PX, 12), (146 / PX, 62)), (PX, PX)), ONE)
    assert found.particles[0].diameter == pytest.approx(96, rel=2e-3)
    middle = 1000 * (1 + 0.004 * 37)
    assert found.background.level == pytest.approx(middle, rel=2e-3)
    assert found.background.slope == pytest.approx(1000 * 0.004 / PX, rel=0.05)


def test_marked_background_leaves_neighbours_out(render):
    spheres = [(146.0, 175.0, 80.0, 0.6), (146.0, 290.0, 60.0, 0.4)]
    image = render((61, 76), spheres, 4.0, (PX, PX))
    profile = sample_line(image, Line((146 / PX, 8), (146 / PX, 64)), (PX, PX))
    offset = 8 * PX
    marks = ((20.0, 175 - 60 - offset), (175 + 55 - offset, 175 + 75 - offset))
    result = fit_profile(profile, FitOptions(particles=1, background=marks))
    assert result.particles[0].diameter == pytest.approx(80, abs=0.4)
    assert result.background.segments == marks


def test_widths_have_their_names(render):
    image = render((61, 73), [(146.0, 175.0, 96.0, 0.59)], 4.0, (PX, PX))
    profile = sample_line(image, Line((146 / PX, 8), (146 / PX, 66)), (PX, PX))
    found = fit_profile(profile, ONE).particles[0]
    assert found.edge_total == pytest.approx(found.pseudo_diameter - found.diameter)
    assert found.edge_per_side == pytest.approx(found.edge_total / 2)
    assert found.edge_sigma == pytest.approx(np.hypot(4, PX / np.sqrt(12)), rel=0.05)
    # where the blurred dip is a tenth and nine tenths deep
    row = image[round(146 / PX)]
    assert 10 < found.edge_10_90 < 48
    assert found.diameter_ci95[0] < 96 < found.diameter_ci95[1] or found.diameter_se < 0.05
    by_crossing = fit_profile(profile, FitOptions("paper", 1, rule="first_crossing"))
    assert by_crossing.rule == "first_crossing"
    assert row.min() < 0.65 * row.max()


@pytest.mark.parametrize("apart", [45.0, 56.0, 63.0, 72.0, 81.0])
@pytest.mark.parametrize("swapped", [False, True])
def test_unequal_spheres_that_overlap_are_told_apart(render, apart, swapped):
    sizes = (100.0, 80.0) if swapped else (80.0, 100.0)
    places = (170.0, 170.0 + apart)
    image = render((63, 90), [(150.0, x, d, 0.5) for x, d in zip(places, sizes, strict=True)], 5.0, (PX, PX))
    profile = sample_line(image, Line((150 / PX, 16), (150 / PX, 74)), (PX, PX))
    result = fit_profile(profile, FitOptions(particles=2))
    assert result.separation == pytest.approx(apart, abs=0.1)
    assert [p.diameter for p in result.particles] == pytest.approx(sizes, abs=0.2)


def test_stretched_images_are_fitted_with_an_offset(render):
    image = render((61, 73), [(146.0, 175.0, 96.0, 0.45)], 4.0, (PX, PX))
    unit = (image - image.min()) / (image.max() - image.min())
    profile = sample_line(unit, Line((146 / PX, 8), (146 / PX, 66)), (PX, PX))
    found = fit_profile(profile, FitOptions(particles=1, offset_known=False))
    assert found.particles[0].diameter == pytest.approx(96, abs=0.5)
    wrong = fit_profile(profile, ONE)
    assert wrong.refused or abs(wrong.particles[0].diameter - 96) > 0.5


def test_enhanced_frames_get_the_error_of_their_electrons(render):
    image = render((61, 73), [(146.0, 175.0, 96.0, 0.59)], 4.0, (PX, PX))
    profile = sample_line(image, Line((146 / PX, 8), (146 / PX, 66)), (PX, PX))
    known = fit_profile(profile, FitOptions(particles=1, is_enhanced=True), raw_noise=0.46)
    # a multiple of the bound of some 5 nm for that noise, the same on and beside the particle
    bound = bound_sphere(48.0, -np.log(0.59), np.hypot(4, PX / np.sqrt(12)), PX, 0.46)
    assert 4.05 < bound.diameter < 6
    assert known.particles[0].diameter_se == pytest.approx(NETWORK_FACTOR * bound.diameter, rel=0.1)
    half = fit_profile(profile, FitOptions(particles=1, is_enhanced=True), raw_noise=0.23)
    assert half.particles[0].diameter_se == pytest.approx(known.particles[0].diameter_se / 2, rel=0.05)
    unknown = fit_profile(profile, FitOptions(particles=1, is_enhanced=True))
    assert "raw frame" in unknown.notes[0]


def test_json_names_units_and_absent_things(render):
    image = render((61, 73), [(30.0, 36.0, 20.0, 0.59)], 1.0)
    result = fit_profile(sample_line(image, Line((30, 10), (30, 64))), ONE)
    report = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert report["unit"] == "px"
    assert report["separation_px"] is None and report["resolved"] is None and report["refused"] is None
    particle = report["particles"][0]
    assert set(particle) == {
        "center_px", "center_se_px", "diameter_px", "diameter_se_px", "diameter_ci95_px",
        "pseudo_diameter_px", "edge_total_px", "edge_per_side_px", "edge_sigma_px", "edge_10_90_px", "t_min",
        "t_min_se",
    }  # fmt: skip
    assert particle["diameter_px"] == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [{"model": "parabola"}, {"rule": "half"}, {"particles": 0}, {"particles": 99}, {"background": ((5, 5),)}],
)
def test_unknown_choices_are_errors(wrong):
    with pytest.raises(ValueError):
        FitOptions(**wrong)
