import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_lowdose_tem.judge.metrics import fit_affine, mae, match_affine, psnr, scale_to_unit, ssim

SLOPE = st.floats(0.01, 100) | st.floats(-100, -0.01)
OFFSET = st.floats(-1000, 1000)


@pytest.fixture
def reference():
    """A frame that is neither square nor symmetric, from 3 to 11."""
    frame = np.add.outer(np.arange(31.0), np.sin(np.arange(43.0)))
    return 3 + 8 * scale_to_unit(frame)


@given(offset=st.floats(0.01, 100))
def test_offset_is_the_error(offset):
    reference = np.arange(12.0).reshape(3, 4)
    assert mae(reference - offset, reference) == pytest.approx(offset)
    assert psnr(reference + offset, reference, 1.0) == pytest.approx(-20 * math.log10(offset), abs=1e-6)
    assert psnr(reference + offset, reference) == pytest.approx(20 * math.log10(11 / offset), abs=1e-6)


def test_mean_absolute_is_not_root_mean_square():
    image = np.array([[3.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    assert mae(image, np.zeros((2, 3))) == 1.0
    assert psnr(image, np.zeros((2, 3)), 3.0) == pytest.approx(10 * math.log10(3))


def test_equal_images(reference):
    assert mae(reference, reference) == 0
    assert psnr(reference, reference) == math.inf
    assert ssim(reference, reference) == pytest.approx(1)


def test_ssim_formula_on_constants():
    # without contrast SSIM is (2ab + c) / (a² + b² + c), c = (0.01 · range)²
    a, b, c = 0.3, 0.5, 1e-4
    value = ssim(np.full((9, 14), a), np.full((9, 14), b), 1.0)
    assert value == pytest.approx((2 * a * b + c) / (a * a + b * b + c))


def test_ssim_falls_with_noise(reference):
    noise = np.random.default_rng(1).standard_normal(reference.shape)
    values = [ssim(reference + sigma * noise, reference) for sigma in (0.1, 0.5, 2.0)]
    assert 1 > values[0] > values[1] > values[2]


@given(slope=SLOPE, offset=OFFSET)
def test_affine_fit_undoes_any_line(slope, offset):
    reference = np.add.outer(np.arange(5.0) ** 2, np.arange(7.0))
    found = fit_affine((reference - offset) / slope, reference)
    assert found == pytest.approx((slope, offset), rel=1e-6, abs=1e-6)


@given(slope=SLOPE, offset=OFFSET)
def test_affine_psnr_ignores_the_scale_of_the_output(slope, offset):
    rng = np.random.default_rng(2)
    reference = np.add.outer(np.arange(5.0) ** 2, np.arange(7.0))
    output = reference + rng.standard_normal(reference.shape)
    expected = psnr(match_affine(output, reference), reference)
    assert psnr(match_affine(slope * output + offset, reference), reference) == pytest.approx(expected)
    assert expected >= psnr(output, reference)


def test_constant_output_fits_the_mean(reference):
    assert fit_affine(np.full(reference.shape, 7.0), reference) == (0, pytest.approx(reference.mean()))


@given(slope=st.floats(0.01, 100), offset=OFFSET)
def test_unit_scale_forgets_scale_and_offset(slope, offset):
    frame = np.array([[0.0, 0.25, 0.5], [1.0, 0.75, 0.125]])
    np.testing.assert_allclose(scale_to_unit(slope * frame + offset), frame, atol=1e-6)


def test_unit_scale_of_a_constant_is_zero():
    assert not scale_to_unit(np.full((3, 5), 9)).any()


def test_pixels_that_are_not_finite_are_left_out(reference):
    image = reference + 2
    image[3, 5], image[20, 40] = np.nan, np.inf
    assert mae(image, reference) == pytest.approx(2)
    assert psnr(image, reference, 2.0) == pytest.approx(0, abs=1e-9)
    assert fit_affine(image, reference) == pytest.approx((1, -2))
    assert np.nanmax(scale_to_unit(np.where(np.isinf(image), np.nan, image))) == 1
    assert ssim(image - 2, reference) == pytest.approx(1)


def test_unsigned_counts_do_not_wrap():
    assert mae(np.array([[1, 2, 3]], np.uint16), np.array([[3, 2, 1]], np.uint16)) == pytest.approx(4 / 3)


@pytest.mark.parametrize("metric", [mae, psnr, ssim, fit_affine])
def test_shapes_must_agree(metric):
    with pytest.raises(ValueError, match=r"\(8, 9\).*\(9, 8\)"):
        metric(np.eye(8, 9), np.eye(9, 8))


@pytest.mark.parametrize(
    ("metric", "frame", "message"),
    [
        (mae, np.full((8, 9), np.nan), "no pixel is finite"),
        (scale_to_unit, np.full((8, 9), np.nan), "no finite pixels"),
        (psnr, np.ones((8, 9)), "not positive"),
        (ssim, np.eye(6, 9), "at least 7 × 7"),
        (ssim, np.where(np.eye(8, 9), np.nan, np.mgrid[:8, :9][0]), "no 7 × 7 px window"),
    ],
)
def test_errors_say_what_is_wrong(metric, frame, message):
    with pytest.raises(ValueError, match=message):
        metric(frame) if metric is scale_to_unit else metric(frame, frame)
