import numpy as np
import pytest

from napari_lowdose_tem.judge.comparison import compare_frames
from napari_lowdose_tem.judge.evaluate import score_output
from napari_lowdose_tem.judge.metrics import fit_affine


@pytest.fixture
def frames(field):
    high = field[0].data.astype(float)
    rng = np.random.default_rng(1)
    return 0.7 * high + rng.normal(0, 5, high.shape), high + 12


def test_numbers_are_those_of_evaluate(frames):
    image, reference = frames
    reference[3:9, 4:30] = np.nan
    found, score = compare_frames(image, reference), score_output(image, reference)
    for name in ("mae", "psnr", "ssim", "affine_mae", "affine_psnr"):
        assert getattr(found, name) == pytest.approx(getattr(score, name), rel=1e-12)
    assert found.n_px == image.size - 6 * 26
    assert (found.slope, found.offset) == pytest.approx(fit_affine(image, reference))
    assert compare_frames(image, reference, with_ssim=False).ssim is None


def test_regions_add_up_to_the_whole(frames):
    image, reference = frames
    whole = compare_frames(image, reference, with_ssim=False)
    halves = [
        compare_frames(image, reference, (slice(None), part), with_ssim=False)
        for part in (slice(0, 200), slice(200, None))
    ]
    n = np.array([half.n_px for half in halves])
    assert n.sum() == whole.n_px
    for name in ("mae", "affine_mae"):
        assert n @ [getattr(half, name) for half in halves] / n.sum() == pytest.approx(getattr(whole, name))
    assert {half.slope for half in halves} == {whole.slope}


def test_small_and_empty_regions(frames):
    image, reference = frames
    small = compare_frames(image, reference, (slice(10, 15), slice(20, 60)))
    assert small.ssim is None
    assert small.n_px == 200
    reference[10:15, 20:60] = np.nan
    with pytest.raises(ValueError, match="region 10:15 × 20:60 holds no pixel"):
        compare_frames(image, reference, (slice(10, 15), slice(20, 60)))
    with pytest.raises(ValueError, match="all pixels of the reference are equal"):
        compare_frames(image, np.ones(image.shape))
    with pytest.raises(ValueError, match="shape"):
        compare_frames(image, reference[:-1])
