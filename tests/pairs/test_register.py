import numpy as np
import pytest
from scipy import ndimage

from napari_lowdose_tem.pairs import find_shift, register_frame
from napari_lowdose_tem.simulate.camera import MEASURED, expose
from napari_lowdose_tem.simulate.specimen import draw_specimen, render

SHAPE, PIXEL_NM, DOSE = (256, 384), 3.0, 5.0


def draw(material, seed, n_particles=60):
    field_nm = (SHAPE[0] * PIXEL_NM, SHAPE[1] * PIXEL_NM)
    return draw_specimen(material, field_nm, seed, n_particles=n_particles)


def transmission(specimen, shift_px=(0.0, 0.0)):
    return render(specimen, SHAPE, (shift_px[0] * PIXEL_NM, shift_px[1] * PIXEL_NM)).transmission


@pytest.mark.parametrize("shift_px", [(0.0, 0.0), (2.6, -1.3), (-0.4, 7.2)])
def test_shift_of_a_low_dose_frame(shift_px):
    specimen = draw("FeNi", 3)
    reference = transmission(specimen) * 44_000
    reference[10, 20] = np.nan
    moved = transmission(specimen, shift_px)
    found = register_frame(reference, expose(moved * DOSE, MEASURED, 4))
    assert found.shift_px == pytest.approx(shift_px, abs=0.5)
    assert found.confidence > 0.9
    assert found.refused == ""
    assert find_shift(reference, expose(moved * 900, MEASURED, 4)) == pytest.approx(shift_px, abs=0.05)


def test_shift_is_right_to_half_a_pixel_and_unbiased():
    specimen, shift_px = draw("silicate", 5), (-3.4, 1.7)
    reference, moved = transmission(specimen), transmission(specimen, shift_px)
    errors = [np.subtract(find_shift(reference, expose(moved * DOSE, rng=i)), shift_px) for i in range(8)]
    assert np.std(errors) < 0.5
    assert np.abs(np.mean(errors, 0)).max() < 0.4


def test_read_out_streaks_are_no_structure():
    """They lie at the same place in both frames."""
    specimen, shift_px = draw("FeNi", 6), (3.0, 0.0)
    streaks = np.random.default_rng(1).normal(0, 2, (SHAPE[0], 1))
    reference = transmission(specimen) * DOSE + streaks / 8
    counts = expose(transmission(specimen, shift_px) * DOSE, MEASURED, 2) / 44 + streaks
    assert find_shift(reference, counts) == pytest.approx(shift_px, abs=0.5)
    assert find_shift(reference.T, counts.T) == pytest.approx(shift_px[::-1], abs=0.5)


def test_large_frames_are_registered_coarsely():
    specimen = draw("FeNi", 3)
    shift_px = (13.0, -11.0)
    fine = (SHAPE[0] * 4, SHAPE[1] * 4)
    reference = render(specimen, fine).transmission
    moved = np.roll(reference, (13, -11), (0, 1))
    found = register_frame(reference, expose(moved * DOSE, MEASURED, 1))
    assert found.shift_px == pytest.approx(shift_px, abs=0.7)


def test_nothing_is_made_up_from_noise_and_empty_films_are_not_refused():
    reference = transmission(draw("Ni", 5, n_particles=0))
    found = [register_frame(reference, expose(reference * DOSE, MEASURED, seed)) for seed in range(5)]
    assert [f.shift_px for f in found] == [(0, 0)] * 5
    assert max(f.confidence for f in found) < 0.2
    assert {f.refused for f in found} == {""}
    for nothing in (np.zeros(SHAPE), np.full(SHAPE, np.nan)):
        assert register_frame(nothing, reference).shift_px == (0, 0)
        assert register_frame(reference, nothing).shift_px == (0, 0)
    assert find_shift(reference[:40], reference[:40]) == (0, 0)


def test_weak_objects_are_not_refused():
    """An alumina sphere hardly seen at this dose is no other field."""
    specimen = draw("alumina", 2, n_particles=2)
    reference = transmission(specimen)
    for seed in range(4):
        assert register_frame(reference, expose(reference * 2, MEASURED, seed)).refused == ""


@pytest.mark.parametrize(("material", "dose"), [("Ni", 5), ("FeNi", 5), ("silicate", 40)])
def test_other_fields_are_refused(material, dose):
    reference, other = (transmission(draw(material, seed)) for seed in (3, 4))
    for image in (other, np.flip(reference), np.ones(SHAPE)):
        found = register_frame(reference, expose(image * dose, MEASURED, 1))
        assert "nothing of the high-dose frame" in found.refused
        assert found.shift_px == (0, 0)


def test_shifts_beyond_the_search_are_told():
    specimen = draw("Ni", 3)
    counts = expose(transmission(specimen, (4.0, -31.0)) * DOSE, MEASURED, 1)
    found = register_frame(transmission(specimen), counts)
    assert found.refused.startswith("lies 4 rows and 31 columns off, more than the 8 px")
    assert found.shift_px == (0, 0)


def test_a_dark_level_does_not_make_another_field():
    specimen = draw("FeNi", 3)
    counts = expose(transmission(specimen, (1.0, 2.0)) * DOSE, MEASURED, 1) + 3 * DOSE * 44
    found = register_frame(transmission(specimen), counts)
    assert found.refused == ""
    assert found.shift_px == pytest.approx((1.0, 2.0), abs=0.5)


def test_hits_by_x_rays_do_no_harm():
    specimen = draw("FeNi", 3)
    counts = expose(transmission(specimen, (1.0, 2.0)) * DOSE, MEASURED, 1)
    counts.ravel()[np.random.default_rng(2).integers(0, counts.size, 20)] = 60_000
    assert find_shift(transmission(specimen), counts) == pytest.approx((1.0, 2.0), abs=0.5)


def test_real_repeats_lie_on_each_other_and_not_on_their_mirror_image(lde_pair):
    first, second = (ndimage.gaussian_filter(image.data.astype(float), 3) for image in lde_pair)
    there = register_frame(first, lde_pair[1].data)
    back = register_frame(second, lde_pair[0].data)
    assert there.confidence > 0.8
    assert np.hypot(*there.shift_px) < 1
    assert there.shift_px == pytest.approx(np.negative(back.shift_px), abs=0.2)
    assert "nothing of the high-dose frame" in register_frame(first[::-1], lde_pair[1].data).refused
