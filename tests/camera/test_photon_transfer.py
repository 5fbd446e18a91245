import math
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

from napari_lowdose_tem.camera.photon_transfer import photon_transfer
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.simulate import IDEAL, Camera, expose, make_scene

COUNTING = replace(IDEAL, gain=50.0, clip=False)
DOSE = 20.0


@pytest.fixture(scope="module")
def transmission():
    return make_scene("FeNi", (390, 520), rng=5, n_particles=60, median_diameter_nm=110.0).transmission


def record(transmission, camera, dose=DOSE, n_frames=2, rng=1):
    return expose(np.stack([transmission * dose] * n_frames), camera, rng)


@pytest.mark.parametrize("gain", [1.0, 50.0])
@pytest.mark.parametrize("read_e", [1.5, 4.0])
def test_gain_read_noise_and_dose_of_a_counting_camera(transmission, gain, read_e):
    found = photon_transfer(record(transmission, replace(COUNTING, gain=gain, read_e=read_e)))
    assert found.method == "pixels"
    assert found.gain_counts_per_e == pytest.approx(gain, rel=0.05)
    assert abs(found.gain_counts_per_e - gain) < 4 * found.gain_se
    assert found.read_noise_e == pytest.approx(read_e, rel=0.08)
    assert found.dose_e_per_px == pytest.approx(DOSE * transmission.mean(), rel=0.05)
    assert "lower bound" in found.assumption


def test_standard_error_is_the_scatter(transmission):
    frames = [record(transmission, replace(COUNTING, read_e=2.0), rng=seed) for seed in range(30)]
    found = [photon_transfer(pair) for pair in frames]
    gains = np.array([one.gain_counts_per_e for one in found])
    assert gains.mean() == pytest.approx(50, abs=3 * gains.std() / np.sqrt(30) + 0.1)
    assert gains.std() == pytest.approx(np.mean([one.gain_se for one in found]), rel=0.5)


def test_shared_light_misleads_pixels_but_not_blocks(transmission):
    found = photon_transfer(record(transmission, replace(COUNTING, read_e=2.0, psf_px=0.43), n_frames=16))
    assert found.method == "blocks"
    assert found.pixels.gain < 0.7 * 50
    assert found.gain_counts_per_e == pytest.approx(50, rel=0.12)


def test_excess_noise_is_seen_once_the_gain_is_known(transmission):
    frames = record(transmission, Camera(gain=44.0, streak_e=0, row_e=0, read_e=0, psf_px=0, clip=False))
    assert photon_transfer(frames).gain_counts_per_e == pytest.approx(44 * 4 / 3, rel=0.05)
    for found in (
        photon_transfer(frames, counts_per_electron=44.0),
        photon_transfer(Image(frames, counts_per_electron=44.0)),
    ):
        assert found.method == "given"
        assert found.excess == pytest.approx(4 / 3, rel=0.05)
        assert found.dose_e_per_px == pytest.approx(DOSE * transmission.mean(), rel=0.01)


def test_real_frames(lde_pair):
    found = photon_transfer(*lde_pair)
    assert found.dose_e_per_px == pytest.approx(4.55, abs=0.02)
    assert found.pixels.ratio == pytest.approx(117, abs=2)
    assert 0.25 < 1 / found.excess < 0.4  # DQE
    assert "clipped" in found.assumption
    assert found.read_noise_e is None
    blind = photon_transfer(*(image.data for image in lde_pair))
    assert blind.gain_counts_per_e > 100
    assert blind.dose_e_per_px < 2  # effective quanta, far below the electrons


def test_clipping_is_told_from_counting(transmission):
    assert "clipped" not in photon_transfer(record(transmission, IDEAL, dose=2.0)).assumption
    clipped = photon_transfer(record(transmission, Camera(), dose=4.0))
    assert "clipped" in clipped.assumption
    assert clipped.read_noise_e is None
    assert 0.05 < clipped.zero_share < 0.4


def test_flat_field_cannot_separate_read_noise():
    found = photon_transfer(expose(np.full((2, 200, 300), 8.0), replace(COUNTING, read_e=1.0), 0))
    assert found.method == "ratio"
    assert found.read_noise_e is None
    assert found.gain_counts_per_e == pytest.approx(50 * (1 + 1 / 8), rel=0.05)
    assert "contrast" in found.assumption


def test_x_rays_and_dead_pixels_spoil_only_their_windows(transmission):
    frames = record(transmission, replace(COUNTING, read_e=2.0))
    clean = photon_transfer(frames)
    frames[0, 100, 130] = 1e6
    frames[1, 40, 300] = np.nan
    assert photon_transfer(frames).gain_counts_per_e == pytest.approx(clean.gain_counts_per_e, rel=0.03)


def test_drifting_brightness_is_no_noise(transmission):
    frames = record(transmission, replace(COUNTING, read_e=2.0))
    clean = photon_transfer(frames)
    frames[1] += 300
    assert photon_transfer(frames).gain_counts_per_e == pytest.approx(clean.gain_counts_per_e, rel=1e-3)


def test_stacks_are_read_in_pairs(transmission):
    stack = record(transmission, replace(COUNTING, read_e=2.0), n_frames=9)
    eager, lazy = photon_transfer(stack), photon_transfer(Image(da.from_array(stack, chunks=(1, -1, -1))))
    assert eager == lazy
    assert eager.gain_se < photon_transfer(stack[:2]).gain_se


def test_what_cannot_be_measured_is_refused():
    frame = np.random.default_rng(0).poisson(5.0, (80, 120)).astype(float)
    other = np.random.default_rng(1).poisson(5.0, (80, 120)).astype(float)
    for arguments, said in [
        ((frame,), "one frame"),
        ((frame, frame.copy()), "identical"),
        ((frame, other[:, :-1]), r"\(80, 120\) and \(80, 119\)"),
        ((frame[:40], other[:40]), "64 px a side"),
        ((frame - 50, other - 50), "no signal"),
    ]:
        with pytest.raises(ValueError, match=said):
            photon_transfer(*arguments)
    with pytest.raises(ValueError, match="not positive"):
        photon_transfer(frame, other, counts_per_electron=-1.0)
    assert math.isfinite(photon_transfer(frame, other).dose_e_per_px)
