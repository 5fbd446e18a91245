import numpy as np
import pytest

from napari_lowdose_tem.pairs import Similarity, register_similarity
from napari_lowdose_tem.simulate.camera import MEASURED, expose
from napari_lowdose_tem.simulate.specimen import draw_specimen, render

SHAPE, PIXEL_NM, DOSE, FINER = (256, 352), 3.0, 8.0, 2


def transmission(seed, n_particles=60, material="Ni"):
    field_nm = (SHAPE[0] * PIXEL_NM, SHAPE[1] * PIXEL_NM)
    specimen = draw_specimen(material, field_nm, seed, n_particles=n_particles)
    return render(specimen, (SHAPE[0] * FINER, SHAPE[1] * FINER)).transmission


def area(fine):
    return fine.reshape(SHAPE[0], FINER, SHAPE[1], FINER).mean((1, 3))


def low_dose(fine, truth, seed, dose=DOSE):
    moved = truth.apply(fine)
    return expose(area(np.where(np.isfinite(moved), moved, 0.95)) * dose, MEASURED, seed)


def test_apply_turns_counter_clockwise_on_the_screen_magnifies_and_shifts():
    """The definition, by hand: a spot right of the middle goes up, away from it, and then down and right."""
    spot = np.zeros((41, 61))
    spot[20, 42] = 1.0  # 12 right of the middle
    found = Similarity((3.0, 4.0), 20.0, 1.25, shape=(41, 61)).apply(spot)
    row, col = np.unravel_index(np.nanargmax(found), found.shape)
    radius, angle = 12 * 1.25, np.radians(20)
    assert (row, col) == (round(20 + 3 - radius * np.sin(angle)), round(30 + 4 + radius * np.cos(angle)))
    assert np.isnan(found[0, 0])  # not covered
    # the same field on a grid twice as fine
    fine = Similarity((3.0, 4.0), 20.0, 1.25, shape=(41, 61)).apply(np.kron(spot, np.ones((2, 2))))
    high = np.argwhere(fine > 0.5).mean(0)
    np.testing.assert_allclose((high - 0.5) / 2, (row, col), atol=0.6)


@pytest.mark.parametrize(
    "truth",
    [
        Similarity((6.3, -9.2), 3.7, 1.037, shape=SHAPE),
        Similarity((-2.4, 1.1), -4.6, 0.957, shape=SHAPE),
        Similarity((0.0, 0.0), 0.0, 1.0, shape=SHAPE),
    ],
)
def test_shift_rotation_and_scale_of_a_low_dose_frame(truth):
    fine = transmission(3)
    found = register_similarity(area(fine), low_dose(fine, truth, 4))
    assert found.refused == ""
    assert found.confidence > 0.9
    assert found.shift_px == pytest.approx(truth.shift_px, abs=0.4)
    assert found.rotation_deg == pytest.approx(truth.rotation_deg, abs=0.15)
    assert found.scale == pytest.approx(truth.scale, rel=0.003)


def test_errors_are_those_predicted():
    fine, truth = transmission(5), Similarity((3.4, -1.7), 1.3, 0.981, shape=SHAPE)
    found = [register_similarity(area(fine), low_dose(fine, truth, seed)) for seed in range(6)]
    for value, error in (("rotation_deg", "rotation_se_deg"), ("scale", "scale_se")):
        misses = [(getattr(f, value) - getattr(truth, value)) / getattr(f, error) for f in found]
        assert 0.2 < np.sqrt(np.mean(np.square(misses))) < 2.5
    assert np.hypot(*np.mean([np.subtract(f.shift_px, truth.shift_px) for f in found], 0)) < 0.3


def test_nearly_noise_free_frames_are_registered_far_finer():
    fine, truth = transmission(7), Similarity((-4.25, 5.5), -2.2, 1.013, shape=SHAPE)
    found = register_similarity(area(fine), low_dose(fine, truth, 1, dose=1000.0))
    assert found.shift_px == pytest.approx(truth.shift_px, abs=0.06)
    assert found.rotation_deg == pytest.approx(truth.rotation_deg, abs=0.04)
    assert found.scale == pytest.approx(truth.scale, rel=5e-4)
    left = low_dose(fine, truth, 1, dose=1000.0) / (1000 * 44) - found.apply(area(fine))
    inside = left[30:-30, 30:-30]
    assert np.nanstd(inside) < 0.25 * np.std(area(fine))


def test_what_is_not_sought_stays():
    fine = transmission(3)
    counts = low_dose(fine, Similarity((4.0, -2.0), 1.0, 1.0, shape=SHAPE), 4)
    found = register_similarity(area(fine), counts, scale=False)
    assert found.scale == 1.0
    assert found.rotation_deg == pytest.approx(1.0, abs=0.15)
    found = register_similarity(area(fine), counts, rotation=False, scale=False)
    assert (found.rotation_deg, found.scale) == (0.0, 1.0)


@pytest.mark.parametrize("seed", range(4))
def test_other_fields_are_refused(seed):
    reference, other = area(transmission(3)), area(transmission(20 + seed))
    found = register_similarity(reference, expose(other * DOSE, MEASURED, seed))
    assert "cannot be told from noise" in found.refused or "would be known to" in found.refused
    assert (found.shift_px, found.rotation_deg, found.scale) == ((0.0, 0.0), 0.0, 1.0)
    np.testing.assert_array_equal(found.apply(reference)[5:-5, 5:-5], reference[5:-5, 5:-5].astype("f4"))


def test_nothing_is_made_up_from_empty_films():
    film = area(transmission(5, n_particles=0))
    for seed in range(3):
        assert register_similarity(film, expose(film * DOSE, MEASURED, seed)).refused
    for nothing in (np.zeros(SHAPE), np.full(SHAPE, np.nan)):
        assert register_similarity(nothing, film).refused
        assert register_similarity(film, nothing).refused
    assert "64 px" in register_similarity(film[:40], film[:40]).refused


def test_frames_of_two_grids_are_named():
    with pytest.raises(ValueError, match=r"\(256, 352\), frame \(128, 352\)"):
        register_similarity(np.ones(SHAPE), np.ones((128, 352)))
