"""What the default model must do on real and simulated frames, whatever its weights."""

import numpy as np
import pytest
from scipy import ndimage

from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.enhancement import enhance
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.judge.metrics import match_affine, psnr
from napari_lowdose_tem.particles.find import find_particles
from napari_lowdose_tem.simulate import MATERIALS, MEASURED, expose, make_scene


@pytest.fixture(scope="module")
def engine():
    with Engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def repeats(lde_pair):
    """Both real frames of one field, enhanced apart."""
    return tuple(enhance(frame) for frame in lde_pair)


def test_two_exposures_of_one_field_agree(repeats):
    first, second = (image.data for image in repeats)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.85
    background = np.median(first)
    assert np.std(first - second) < 0.08 * background  # 1.08 in the raw frames


def test_real_background_is_smooth_and_without_streaks(repeats, lde_pair):
    empty = (slice(350, 450), slice(20, 250))
    for enhanced, raw in zip(repeats, lde_pair, strict=True):
        patch, noisy = enhanced.data[empty], raw.data[empty].astype(float)
        assert patch.std() / patch.mean() < 0.05
        # streaks run along rows: what row means scatter beyond the smooth background
        rows, raw_rows = patch.mean(axis=1), noisy.mean(axis=1)
        assert np.std(rows - ndimage.gaussian_filter1d(rows, 8)) < 0.1 * np.std(raw_rows)


def test_real_particles_are_separated_from_the_film(repeats):
    for enhanced in repeats:
        smooth = ndimage.gaussian_filter(enhanced.data, 1)
        dark = ndimage.label(smooth < 0.8 * np.median(smooth))[0]
        sizes = np.bincount(dark.ravel())[1:]
        assert (
            5 <= np.sum(sizes > 100) <= 20
        )  # clusters and single particles seen in the average of both frames
        # particle cores carry clearly less light than the film around
        assert np.percentile(smooth, 1) < 0.6 * np.median(smooth)


def test_calibration_and_level_of_the_real_frame_are_kept(repeats, lde_pair):
    assert repeats[0].pixel_size_nm == pytest.approx((2.98846, 2.98846), abs=1e-5)
    assert repeats[0].counts_per_electron == pytest.approx(44, rel=1e-4)
    assert repeats[0].data.mean() == pytest.approx(lde_pair[0].data.mean(), rel=0.01)


def test_hardly_any_particles_are_invented_on_empty_film(engine):
    invented = 0
    for seed in range(6):
        film = make_scene("silicate", (384, 512), 3.0, 900 + seed, n_particles=0).transmission
        counts = expose(5 * film, MEASURED, seed)
        invented += len(find_particles(engine.enhance(counts), 3.0, counts=counts))
    assert invented <= 1  # 0.02 a frame on 200 films (docs/reliability.md)


def test_a_still_stack_does_not_flicker_more_than_its_electrons(engine):
    scene = make_scene("silicate", (256, 384), 3.0, 17, n_particles=6).transmission
    stack = Image(expose(np.stack([5 * scene] * 50), MEASURED, 1))
    scaling = engine.measure(stack)
    output = np.concatenate([engine.enhance(stack.frames(i, i + 1), scaling) for i in range(50)])
    # the emptiest 64 × 64 patch
    corners = [(r, c) for r in range(0, 193, 32) for c in range(0, 321, 32)]
    row, col = max(corners, key=lambda at: scene[at[0] : at[0] + 64, at[1] : at[1] + 64].min())
    patch = (slice(None), slice(row, row + 64), slice(col, col + 64))
    assert output[patch].mean(axis=(1, 2)).std() <= 1.1 * stack.data[patch].mean(axis=(1, 2)).std()


@pytest.mark.parametrize("material", MATERIALS)
def test_frames_of_every_material_gain(engine, material):
    gains = []
    for seed in (501, 502):
        scene = make_scene(material, (384, 512), 3.0, seed, n_particles=30).transmission
        counts = expose(5 * scene, MEASURED, seed)
        smoothed = ndimage.gaussian_filter(counts, 3.0)
        output = engine.enhance(counts)
        gains.append(psnr(match_affine(output, scene), scene) - psnr(match_affine(smoothed, scene), scene))
    assert np.mean(gains) > 0.5  # dB above a Gaussian filter of 3 px


def test_other_cameras_and_doses(engine):
    scene = make_scene("FeNi", (256, 384), 3.0, 5, n_particles=20).transmission
    from dataclasses import replace

    for dose, gain in ((2.0, 1.0), (5.0, 150.0), (30.0, 20.0)):
        counts = expose(dose * scene, replace(MEASURED, gain=gain), 3)
        before, after = (psnr(match_affine(x, scene), scene) for x in (counts, engine.enhance(counts)))
        assert after > before + 3
