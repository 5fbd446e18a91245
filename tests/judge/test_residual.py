import numpy as np
import pytest
from scipy import ndimage

from napari_lowdose_tem.judge.residual import measure_residual
from napari_lowdose_tem.simulate.camera import MEASURED, expose

DOSE = 8.0


@pytest.fixture(scope="module")
def low(field):
    return field[1].data


@pytest.fixture(scope="module")
def true(field):
    return field[0].data


@pytest.fixture(scope="module")
def repeat(field):
    return expose(field[2].transmission * np.float32(DOSE), MEASURED, 77)


def test_true_image_leaves_nothing_but_noise(field, true):
    for seed in range(6):
        low = expose(field[2].transmission * np.float32(DOSE), MEASURED, seed)
        found = measure_residual(low, true)
        assert found.is_white, found.verdict
        assert found.verdict.startswith("Nothing but noise is left")
        assert found.rms == pytest.approx(found.expected_rms, rel=0.05)
        np.testing.assert_array_equal(found.map, low - true)


@pytest.mark.parametrize("sigma_px", [2.5, 4.0])
def test_blurred_image_leaves_structure(low, true, repeat, sigma_px):
    blurred = ndimage.gaussian_filter(true, sigma_px)
    alone, with_repeat = measure_residual(low, blurred), measure_residual(low, blurred, repeat)
    assert not alone.is_white
    assert "edges" in alone.verdict
    assert not with_repeat.is_white
    assert "their edges are smoothed" in with_repeat.verdict
    # what is lost in the band of 1 to 4 px, by the truth
    band = [
        ndimage.gaussian_filter(x, 1.0) - ndimage.gaussian_filter(x, 4.0) for x in (blurred, true - blurred)
    ]
    kept = np.vdot(band[0], band[0])
    assert with_repeat.edges_lost == pytest.approx(
        np.vdot(band[0], true - blurred) / (kept + np.vdot(band[0], true - blurred)), abs=0.12
    )


def test_smoothed_low_dose_frame_has_lost_contrast(low):
    found = measure_residual(low, ndimage.gaussian_filter(low, 5.0))
    assert not found.is_white
    assert "of their contrast was smoothed away" in found.verdict
    assert 0.02 < found.contrast_lost < 0.2


def test_noise_that_is_followed_is_no_structure_for_a_second_frame(low, true, repeat):
    """An output that sharpens its edges by the noise of its own frame."""
    edge = np.abs(ndimage.gaussian_laplace(true, 3.0))
    edge = np.clip(edge / np.percentile(edge, 98), 0, 1)
    output = true + edge * ndimage.gaussian_filter(low - true, 2.0)
    assert not measure_residual(low, output).is_white
    assert "follows the noise" in measure_residual(low, output).verdict
    assert measure_residual(low, output, repeat).is_white


def test_particles_that_are_missing_are_seen(low, true):
    film = np.full_like(true, np.percentile(true, 80))
    found = measure_residual(low, film)
    assert not found.is_white
    assert "missing from the output" in found.verdict
    assert found.contrast_lost is None


def test_one_missing_particle_is_found_where_it_is(true):
    rows, cols = np.mgrid[: true.shape[0], : true.shape[1]]
    output = np.full_like(true, 350.0)
    output[40:80, 300:400] = 200.0
    there = output.copy()
    there[(rows - 250) ** 2 + (cols - 170) ** 2 < 14**2] = 200.0
    found = measure_residual(expose(there / 44, MEASURED, 2), output)
    where = [int(word.strip(",")) for word in found.verdict.split() if word.strip(",").isdigit()]
    np.testing.assert_allclose(where, (250, 170), atol=10)


def test_noise_left_in_the_output_is_told(low):
    found = measure_residual(low, ndimage.gaussian_filter(low, 1.0))
    assert "of the noise is still in the output" in found.verdict
    assert found.rms < 0.95 * found.expected_rms


def test_streaks_are_correlated_along_rows_but_no_structure(true):
    rng = np.random.default_rng(0)
    streaks = ndimage.gaussian_filter1d(rng.normal(0, 1, true.shape), 12, axis=1)
    noise = rng.normal(0, 100, true.shape) + 50 * streaks / streaks.std()
    noise += rng.normal(0, 20, (len(true), 1))
    found = measure_residual(true + noise, true)
    assert found.is_white, found.verdict
    assert found.correlation[2, 2] == 1
    assert found.correlation[2, 4] > 0.15
    assert abs(found.correlation[4, 2]) < 0.02
    np.testing.assert_allclose(found.correlation, found.correlation[::-1, ::-1])
    turned = measure_residual((true + noise).T, true.T)
    assert turned.is_white
    np.testing.assert_allclose(turned.correlation, found.correlation.T, atol=1e-4)


def test_what_is_not_covered_is_left_out(low, true):
    part = true.copy()
    part[:, :60] = np.nan
    found = measure_residual(low, part)
    assert np.isnan(found.map[:, :60]).all()
    assert found.mean == pytest.approx(float((low - true)[:, 60:].mean()), abs=1e-2)
    assert found.rms == pytest.approx(float((low - true)[:, 60:].std()), rel=1e-3)
    assert found.is_white


def test_careless_input(low, true):
    with pytest.raises(ValueError, match="bring all to one grid"):
        measure_residual(low, true[:-1])
    with pytest.raises(ValueError, match="no pixel is finite"):
        measure_residual(low, np.full_like(low, np.nan))
    assert measure_residual(low, low).verdict == "The output is the low-dose frame itself."
    small = measure_residual(low[:5, :9], true[:5, :9])
    assert "Too small" in small.verdict
    assert not small.is_white


def test_real_frames_and_their_shipped_output(lde_pair):
    from napari_lowdose_tem.engine.engine import Engine

    first, second = (image.data.astype(np.float32) for image in lde_pair)
    with Engine("default", "cpu") as engine:
        output = engine.enhance(first, engine.measure(lde_pair[0]))
    found = measure_residual(first, output, second)
    assert found.is_white, found.verdict
    assert not measure_residual(first, np.full_like(first, first.mean())).is_white
