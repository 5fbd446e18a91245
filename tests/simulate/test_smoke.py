import numpy as np
import pytest
from scipy import ndimage

from napari_lowdose_tem.simulate.smoke import ATTENUATION_NM, draw_smoke

FIELD_NM = (900.0, 1500.0)


def draw(count=120, seed=1, **options):
    return draw_smoke(count, 60.0, FIELD_NM, np.random.default_rng(seed), **options)


def cover(particles, pixel_nm=5.0):
    """Layers of spheres over a grid that holds them all."""
    low = (particles.center_nm - particles.diameter_nm[:, None] / 2).min(0) - pixel_nm
    high = (particles.center_nm + particles.diameter_nm[:, None] / 2).max(0) + pixel_nm
    rows, cols = (np.arange(a, b, pixel_nm) for a, b in zip(low, high, strict=True))
    layers = np.zeros((len(rows), len(cols)), int)
    for (row, col), diameter in zip(particles.center_nm, particles.diameter_nm, strict=True):
        layers += np.hypot(rows[:, None] - row, cols - col) < diameter / 2
    return layers


def test_an_aggregate_hangs_together_and_is_many_layers_deep():
    deepest = []
    for seed in range(6):
        particles = draw(seed=seed)
        assert len(particles) == 120
        layers = cover(particles)
        pieces, n = ndimage.label(layers > 0, np.ones((3, 3)))
        # necks seen from the side may be narrower than the grid, no more than that
        assert np.bincount(pieces.ravel())[1:].max() > 0.97 * np.count_nonzero(layers), n
        deepest.append(layers.max())
    assert np.median(deepest) >= 4


def test_aggregates_begin_all_over_the_field():
    starts = np.array([draw(6, seed).center_nm.mean(0) for seed in range(200)])
    np.testing.assert_allclose(starts.mean(0), np.array(FIELD_NM) / 2, rtol=0.15)
    assert (starts.std(0) > 0.2 * np.array(FIELD_NM)).all()


def test_spheres_have_one_substance_or_several_within_the_bounds():
    particles = [draw(50, seed) for seed in range(40)]
    medians = [np.median(p.attenuation_nm) for p in particles]
    assert 0.5 * ATTENUATION_NM[0] < min(medians) < 120 and 400 < max(medians) < 2 * ATTENUATION_NM[1]
    sizes = np.concatenate([p.diameter_nm for p in particles])
    assert sizes.min() >= 24 - 1e-9 and sizes.max() <= 180 + 1e-9
    assert np.median(sizes) == pytest.approx(60, rel=0.05)


def test_a_share_diffracts():
    assert not np.isfinite(draw().extinction_nm).any()
    crystals = np.isfinite(draw(400, crystalline_share=0.3).extinction_nm)
    assert np.mean(crystals) == pytest.approx(0.3, abs=0.08)


def test_clusters_share_the_spheres():
    particles = draw(90, 3, clusters=3)
    assert len(particles) == 90 and np.isfinite(particles.center_nm).all()
    assert len(draw(0, clusters=2)) == 0
