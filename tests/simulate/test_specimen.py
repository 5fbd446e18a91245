from dataclasses import replace

import numpy as np
import pytest

from napari_lowdose_tem.simulate import MATERIALS, draw_specimen, make_scene, render
from napari_lowdose_tem.simulate.pair import area_mean
from napari_lowdose_tem.simulate.specimen import Particles, Support, locate, render_film

FIELD = (1080.0, 1620.0)
SHAPE = (360, 540)
BARE = Support(thickness=np.ones((3, 3)), grain=0.0, falloff=0.0, film_transmission=1.0)


def spheres(centers, diameters, attenuation_nm=200.0):
    """Amorphous spheres on nothing."""
    count = len(diameters)
    particles = Particles(
        np.array(centers, float).reshape(-1, 2),
        np.array(diameters, float),
        np.full(count, attenuation_nm),
        np.full(count, np.inf),
        np.zeros(count),
        (None,) * count,
    )
    return replace(draw_specimen("silicate", FIELD, 0, n_particles=0), particles=particles, support=BARE)


def centroid(image):
    """Centre of the darkening (row, col) [px]."""
    weight = -np.log(image)
    return (np.indices(image.shape) * weight).sum(axis=(1, 2)) / weight.sum()


@pytest.mark.parametrize("attenuation_nm", [80.0, 200.0, 900.0])
def test_sphere_follows_exponential_contrast(attenuation_nm):
    specimen = spheres([(541.5, 601.5)], [150.0], attenuation_nm)  # on the centre of pixel (180, 200)
    scene = render(specimen, SHAPE, optics=False)
    assert scene.transmission.min() == pytest.approx(np.exp(-150 / attenuation_nm), rel=1e-3)
    assert scene.truth[0]["t_center"] == pytest.approx(np.exp(-150 / attenuation_nm))
    for offset_px in (5, 10, 20):
        chord = 2 * np.sqrt(75**2 - (3 * offset_px) ** 2)
        assert scene.transmission[180 + offset_px, 200] == pytest.approx(
            np.exp(-chord / attenuation_nm), rel=2e-3
        )
    # the projected mass of a sphere: the diameter is right in both directions
    mass = -np.log(scene.transmission.astype(float)).sum() * 9 * attenuation_nm
    assert mass == pytest.approx(np.pi / 6 * 150**3, rel=2e-3)


def test_overlapping_spheres_multiply():
    specimen = spheres([(541.5, 601.5), (541.5, 601.5)], [150.0, 90.0])
    assert render(specimen, SHAPE, optics=False).transmission.min() == pytest.approx(
        np.exp(-240 / 200), rel=1e-3
    )


@pytest.mark.parametrize("optics", [False, True])
def test_truth_positions_match_the_rendered_ones(optics):
    rng = np.random.default_rng(4)
    for _ in range(5):
        center = rng.uniform((200, 200), (880, 1420))
        specimen = spheres([center], [rng.uniform(40, 200)])
        shift = (float(rng.normal(0, 30)), float(rng.normal(0, 30)))
        scene = render(specimen, SHAPE, shift, optics=optics)
        truth = scene.truth[0]
        np.testing.assert_allclose(
            centroid(scene.transmission), (truth["row_px"], truth["col_px"]), atol=0.05
        )
        np.testing.assert_allclose((truth["row_nm"], truth["col_nm"]), center + shift)


def test_drift_moves_the_film_with_the_particles():
    specimen = draw_specimen("SiC", FIELD, 8, n_particles=20)
    support = replace(specimen.support, falloff=0.0, holes=((500.0, 700.0, 200.0),), veil=0.0)
    specimen = replace(specimen, support=support)
    still = render(specimen, SHAPE).transmission
    moved = render(specimen, SHAPE, (12.0, -21.0)).transmission  # 4 and -7 px
    np.testing.assert_allclose(moved[20:-20, 20:-20], still[16:-24, 27:-13], atol=2e-3)


def test_film_rendered_before_is_the_film_rendered_now():
    specimen = draw_specimen("Ni", FIELD, 1)
    film = render_film(specimen, SHAPE)
    assert (render(specimen, SHAPE, film=film).transmission == render(specimen, SHAPE).transmission).all()


@pytest.mark.parametrize("material", MATERIALS)
def test_grids_agree_after_area_averaging(material):
    specimen = draw_specimen(material, (360.0, 540.0), 3, n_particles=12, median_diameter_nm=60.0)
    fine = area_mean(render(specimen, (960, 1440)).transmission, 8)
    off = np.abs(area_mean(render(specimen, (240, 360)).transmission, 2) - fine)
    assert off.max() < 0.06
    off = np.abs(render(specimen, (120, 180)).transmission - fine)
    assert np.percentile(off, 99) < 0.05  # thickness fringes are narrower than a pixel of the coarse grid
    assert off.mean() < 0.003
    for a, b in zip(locate(specimen, 3.0), locate(specimen, 0.375), strict=True):
        assert (b["row_px"] + 0.5) / 8 - 0.5 == pytest.approx(a["row_px"])
        assert (b["col_px"] + 0.5) / 8 - 0.5 == pytest.approx(a["col_px"])


@pytest.mark.parametrize(
    ("material", "low", "high"), [("FeNi", 0.15, 0.5), ("silicate", 0.45, 0.85), ("alumina", 0.7, 0.95)]
)
def test_contrast_of_100_nm_spheres_is_the_papers(material, low, high):
    found = []
    for seed in range(40):
        particles = draw_specimen(material, FIELD, seed, n_particles=5).particles
        absorbing = replace(particles, extinction_nm=np.full(len(particles), np.inf))
        found += [absorbing.transmission(i, np.array([100.0]))[0] for i in range(len(particles))]
    assert low < np.median(found) < high


def test_crystals_show_diffraction_and_amorphous_spheres_do_not():
    for material, kind in MATERIALS.items():
        particles = draw_specimen(material, FIELD, 2, n_particles=200).particles
        share = np.isfinite(particles.extinction_nm).mean()
        assert share == pytest.approx(kind.crystalline_share, abs=0.1)
        assert all((facets is not None) == kind.faceted for facets in particles.facets)


def test_crystals_cover_the_area_of_their_diameter():
    for seed in range(8):
        specimen = draw_specimen("Ni", (600.0, 750.0), seed, n_particles=1, median_diameter_nm=120.0)
        particles = replace(specimen.particles, center_nm=np.array([[300.0, 375.0]]))
        scene = render(replace(specimen, particles=particles, support=BARE), (600, 750), optics=False)
        covered_nm2 = (scene.transmission < 0.995).sum()
        diameter = specimen.particles.diameter_nm[0]
        assert covered_nm2 == pytest.approx(np.pi / 4 * diameter**2, rel=0.08)


def test_particles_touch_in_chains_and_clusters():
    touching = []
    for seed in range(10):
        particles = draw_specimen("silicate", FIELD, seed, n_particles=60).particles
        apart = np.linalg.norm(particles.center_nm[:, None] - particles.center_nm[None], axis=-1)
        radius = particles.diameter_nm / 2
        touching.append((apart < radius[:, None] + radius[None]).sum(axis=1).mean() - 1)
    assert 1 < np.mean(touching) < 8


def test_no_particles():
    scene = make_scene("silicate", (40, 60), n_particles=0)
    assert scene.truth == []
    assert scene.transmission.shape == (40, 60)


def test_seed_decides():
    a, b, c = (make_scene("Ni", (60, 90), rng=seed).transmission for seed in (1, 1, 2))
    assert (a == b).all()
    assert (a != c).any()


def test_liquid_cell_lowers_contrast():
    def contrast(liquid_cell):
        scenes = [
            make_scene("FeNi", (128, 192), rng=s, n_particles=20, liquid_cell=liquid_cell) for s in range(6)
        ]
        return np.mean([s.transmission.min() / np.median(s.transmission) for s in scenes])

    assert contrast(True) > contrast(False) + 0.1


def test_unknown_material_is_refused():
    with pytest.raises(ValueError, match="unknown material 'gold'; choose one of Ni"):
        make_scene("gold")


def test_oblong_pixels_are_refused():
    with pytest.raises(ValueError, match="not square"):
        render(draw_specimen("Ni", (300.0, 300.0)), (100, 150))
