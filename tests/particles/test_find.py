from dataclasses import replace

import numpy as np
import pytest

from napari_lowdose_tem.particles.find import (
    Detection,
    divide_by_background,
    find_particles,
)
from napari_lowdose_tem.particles.match import match_particles, read_truth
from napari_lowdose_tem.simulate.specimen import Particles, Specimen, Support, make_scene, render

FLAT = Support(np.ones((3, 3)), grain=0.0, falloff=0.0, film_transmission=1.0)
SHAPE = (200, 288)


def render_spheres(spheres, pixel_size_nm, support=FLAT, shape=SHAPE):
    """Render spheres (row_px, col_px, diameter_nm, t_center)."""
    row, col, diameter, t_center = np.array(spheres, float).T
    center = (np.stack([row, col], 1) + 0.5) * pixel_size_nm
    free = np.full(len(diameter), np.inf)
    particles = Particles(
        center, diameter, -diameter / np.log(t_center), free, np.zeros(len(free)), (None,) * len(free)
    )
    field_nm = (shape[0] * pixel_size_nm, shape[1] * pixel_size_nm)
    return render(Specimen("silicate", field_nm, particles, support), shape)


@pytest.mark.parametrize("pixel_size_nm", [3.0, 4.8])
@pytest.mark.parametrize("t_center", [0.3, 0.6, 0.9])
def test_isolated_spheres_are_found_where_they_are(pixel_size_nm, t_center):
    spheres = [(45, 60, 30, t_center), (140.3, 90.6, 60, t_center), (60, 190, 200, t_center)]
    spheres += [(150, 220, 120, t_center)]
    scene = render_spheres(spheres, pixel_size_nm, replace(FLAT, blur_nm=pixel_size_nm, grain=0.004))
    found = find_particles(44 * 5 * scene.transmission, pixel_size_nm)
    assert len(found) == 4
    for row, col, diameter, _ in spheres:
        nearest = min(found, key=lambda d: np.hypot(d.row_px - row, d.col_px - col))
        assert (nearest.row_px, nearest.col_px) == pytest.approx((row, col), abs=0.6)
        assert nearest.diameter_px * pixel_size_nm == pytest.approx(diameter, rel=0.12)
        assert nearest.depth == pytest.approx(1 - t_center, rel=0.3)


def test_nothing_on_empty_films():
    """Grain, slow thickness, falloff and a dark corner; also with the rim of a hole across the frame."""
    for seed in range(12):
        scene = make_scene("Ni", (256, 384), 3.0, seed, n_particles=0, liquid_cell=seed % 2 == 0)
        assert find_particles(scene.transmission, 3.0) == []
    support = replace(FLAT, holes=((900.0, 380.0, 700.0),), film_transmission=0.8, grain=0.006)
    nothing = Particles(np.zeros((0, 2)), *(np.zeros(0) for _ in range(4)), ())
    scene = render(Specimen("Ni", (600.0, 864.0), nothing, support), SHAPE)
    assert np.ptp(scene.transmission) > 0.15
    assert find_particles(scene.transmission, 3.0) == []


def test_faint_blobs_are_left_out_by_their_depth():
    scene = render_spheres([(100, 80, 90, 0.96), (90, 200, 90, 0.93)], 3.0)
    assert [round(d.col_px) for d in find_particles(scene.transmission, 3.0)] == [200]
    assert len(find_particles(scene.transmission, 3.0, least_depth=0.03)) == 2


def test_unit_and_slow_background_do_not_matter():
    scene = render_spheres([(100, 80, 90, 0.8), (60, 220, 60, 0.7)], 3.0)
    ramp = np.linspace(0.7, 1.3, SHAPE[0])[:, None] * np.linspace(1.2, 0.8, SHAPE[1])
    plain, ramped = (
        find_particles(image, 3.0) for image in (scene.transmission, 9000 * ramp * scene.transmission)
    )
    assert [(round(d.row_px), round(d.col_px)) for d in ramped] == [
        (round(d.row_px), round(d.col_px)) for d in plain
    ]
    assert divide_by_background(9000 * ramp)[20:-20, 20:-20] == pytest.approx(1, abs=0.08)


def test_dead_and_meaningless_pixels():
    image = render_spheres([(100, 80, 90, 0.6)], 3.0).transmission.copy()
    image[20:40, 150:190] = np.nan
    assert [round(d.col_px) for d in find_particles(image, 3.0)] == [80]
    assert find_particles(np.full((40, 64), np.nan)) == []
    assert find_particles(-image, 3.0) == []
    assert find_particles(np.zeros((7, 3))) == []
    with pytest.raises(ValueError, match=r"one frame .* shape \(2, 40, 64\)"):
        find_particles(np.ones((2, 40, 64)))


def test_hits_misses_and_inventions():
    truth = [
        Detection(50, 60, 20, 0.4),
        Detection(50, 75, 20, 0.4),  # touches the first
        Detection(120, 30, 12, 0.3),
        Detection(20, 200, 30, 0.02),  # too faint to be asked for
        Detection(-9, 100, 40, 0.5),  # centre out of the frame
    ]
    first, inside, far = Detection(52, 61, 14, 0.3), Detection(46, 79, 4, 0.1), Detection(120, 60, 12, 0.2)
    at_faint, at_cut = Detection(24, 204, 8, 0.06), Detection(5, 101, 9, 0.1)
    match = match_particles([first, inside, far, at_faint, at_cut], truth, (150, 250))
    assert match.hits == (first, inside, at_faint, at_cut)
    assert match.invented == (far,)
    assert match.missed == (truth[2],)
    # one blob over both of a touching pair misses neither
    assert match_particles([Detection(50, 67, 34, 0.4)], truth[:2], (150, 250)).missed == ()
    assert match_particles([], truth, (150, 250)).missed == tuple(truth[:3])
    assert match_particles([], truth, (100, 250)).missed == tuple(truth[:2])
    assert match_particles([far], [], (150, 250)).invented == (far,)


def test_truth_of_the_simulator():
    scene = render_spheres([(100, 80, 90, 0.8)], 3.0)
    (particle,) = read_truth(scene.truth, 3.0)
    assert (particle.row_px, particle.col_px) == pytest.approx((100, 80))
    assert (particle.diameter_px, particle.depth) == pytest.approx((30, 0.2))
    assert match_particles(find_particles(scene.transmission, 3.0), [particle], SHAPE).missed == ()


def test_what_the_counts_do_not_support_is_left_out():
    rng = np.random.default_rng(3)
    rows, cols = np.mgrid[:160, :200]
    discs = [np.hypot(rows - row, cols - col) < 12 for row, col in ((40, 50), (110, 150))]
    drawn = 5.0 * (1 - 0.3 * (discs[0] | discs[1]))
    counts = rng.poisson(5.0 * (1 - 0.3 * discs[0])).astype(float)
    assert len(find_particles(drawn)) == 2
    (real,) = find_particles(drawn, counts=counts)
    assert (round(real.row_px), round(real.col_px)) == (40, 50)
    # the disc takes 0.3 of 5 e- from each of its pixels, whose noise is the root of 5 e-
    assert 0.5 < real.significance / (0.3 * np.sqrt(5 * np.pi * 12**2)) < 1.05
    (scaled,) = find_particles(drawn, counts=44 * counts)
    assert scaled.significance == pytest.approx(real.significance, rel=1e-4)
    with pytest.raises(ValueError, match="counts of"):
        find_particles(drawn, counts=counts[:-1])
