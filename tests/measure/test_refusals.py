"""Everything the data cannot support is refused with a reason, by every model, and nothing is raised."""

import numpy as np
import pytest

from napari_lowdose_tem.measure import (
    FitOptions,
    Line,
    Profile,
    fit_counts,
    fit_profile,
    fit_sphere,
    sample_line,
    snap_to_center,
)
from napari_lowdose_tem.measure.measurement import MODELS

SHAPE = (61, 73)
ACROSS = Line((30, 6), (30, 66))


def flat(render):
    return np.full(SHAPE, 1000.0)


def noise_only(render):
    return np.random.default_rng(1).poisson(np.full(SHAPE, 1000.0)).astype(float)


def bright(render):
    return 2000 - render(SHAPE, [(30, 36, 20, 0.6)], 1.0)


def beyond_the_line(render):
    return render(SHAPE, [(30, 36, 66, 0.6)], 1.0)


def half_on_the_line(render):
    return render(SHAPE, [(30, 4, 24, 0.6)], 1.0)


def dark_frame(render):
    return np.zeros(SHAPE)


def negative(render):
    return render(SHAPE, [(30, 36, 20, 0.6)], 1.0) - 1500


def all_missing(render):
    return np.full(SHAPE, np.nan)


def mostly_missing(render):
    image = render(SHAPE, [(30, 36, 20, 0.6)], 1.0)
    image[:, 12:62] = np.nan
    return image


def infinite(render):
    return np.full(SHAPE, np.inf)


def step(render):
    image = np.full(SHAPE, 1000.0)
    image[:, 36:] = 500
    return image


def speck(render):
    image = np.full(SHAPE, 1000.0)
    image[30, 36] = 400
    return image


def few_electrons(render):
    return np.random.default_rng(3).poisson(render(SHAPE, [(30, 36, 12, 0.9)], 1.0, level=5.0)).astype(float)


CASES = [
    flat, noise_only, bright, beyond_the_line, half_on_the_line, dark_frame, negative, all_missing,
    mostly_missing, infinite, step, speck, few_electrons,
]  # fmt: skip


@pytest.mark.parametrize("particles", [1, 2, None])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("case", CASES)
def test_lines(render, case, model, particles):
    result = fit_profile(sample_line(case(render), ACROSS), FitOptions(model, particles))
    assert len(result.refused) > 15
    assert result.particles == ()
    assert result.to_json()["refused"] == result.refused


@pytest.mark.parametrize("case", [case for case in CASES if case not in (beyond_the_line, half_on_the_line)])
def test_spheres(render, case):
    image = case(render)
    found = fit_sphere(image, ACROSS)
    assert found.refused, found
    assert found.to_json()["diameter_px"] is None
    with pytest.raises(ValueError, match="no particle to snap to"):
        snap_to_center(image, ACROSS)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case not in (step, beyond_the_line, half_on_the_line)]
)
def test_counts(render, case):
    image = case(render)
    found = fit_counts(image / 200 if case is not few_electrons else image, ACROSS)
    assert found.refused, found


def test_cut_by_the_rim(render):
    image = render(SHAPE, [(5, 36, 20, 0.6)], 1.0)
    result = fit_profile(sample_line(image, Line((5, 6), (5, 66))), FitOptions(particles=1))
    assert "cut off by the frame edge" in result.refused
    assert "frame edge" in fit_sphere(image, Line((5, 6), (5, 66))).refused


def test_too_few_samples():
    profile = sample_line(np.ones(SHAPE), Line((30, 6), (30, 15)))
    short = Profile(
        profile.position,
        np.where(profile.position > 4, np.nan, 1.0),
        "px",
        0.0,
        profile.line,
        (1.0, 1.0),
        SHAPE,
    )
    assert "8 needed" in fit_profile(short).refused


def test_too_little_marked_background(render):
    image = render(SHAPE, [(30, 36, 20, 0.6)], 1.0)
    marks = ((0.0, 0.5), (59.5, 60.0))
    assert "mark at least 3" in fit_profile(sample_line(image, ACROSS), FitOptions(background=marks)).refused


def test_the_reason_says_what_to_do(render):
    reached = fit_profile(sample_line(half_on_the_line(render), ACROSS), FitOptions(particles=1)).refused
    assert "from background to background" in reached
    hidden = fit_profile(sample_line(few_electrons(render), ACROSS), FitOptions(particles=1)).refused
    assert "average frames" in hidden or "draw" in hidden or "not a sphere" in hidden


def test_overlapping_spheres_may_be_one_crystal(render):
    image = render((70, 90), [(35.0, 34.0, 26.0, 0.6), (35.0, 52.0, 26.0, 0.6)], 1.0)
    line = Line((35, 8), (35, 80))
    found = fit_profile(sample_line(image, line))
    assert len(found.particles) == 2 and "single crystal" in found.notes[-1]
    asked = fit_profile(sample_line(image, line), FitOptions(particles=2))
    assert not asked.notes


def test_a_square_is_no_sphere_and_the_notes_say_so():
    image = np.full((80, 80), 1000.0)
    image[25:55, 25:55] = 600
    found = fit_sphere(image, Line((40, 8), (40, 72)))
    assert found.refused or "not quite a sphere" in found.notes[0]
