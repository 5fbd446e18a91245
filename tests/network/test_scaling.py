import dask.array as da
import numpy as np
import pytest

from napari_lowdose_tem.camera.dark import subtract_dark
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.network.scaling import (
    RECIPES,
    check_recipe,
    fit_output,
    measure_scaling,
)


@pytest.fixture
def frame():
    return np.random.default_rng(2).poisson(200.0, (60, 90)).astype(np.uint16)


def test_level_divides_by_the_mean_of_the_whole_stack(frame):
    stack = np.stack([frame, 3 * frame])
    scaling = measure_scaling(RECIPES["level"], stack)
    assert scaling.scale == pytest.approx(2 * frame.mean())
    np.testing.assert_allclose(scaling.normalise(stack), stack / (2 * frame.mean()), rtol=1e-5)
    np.testing.assert_allclose(scaling.to_counts(scaling.normalise(stack)), stack, rtol=1e-5)


def test_level_clips_where_the_recipe_says(frame):
    scaling = measure_scaling(RECIPES["level"], frame)
    wild = frame.astype(float)
    wild[3, 5], wild[7, 1] = 1e9, -1e9
    normal = scaling.normalise(wild)
    assert (normal[3, 5], normal[7, 1]) == (16, -4)


@pytest.mark.parametrize(("name", "low", "high"), [("paper", 1, 80), ("followup", 0.1, 99.9)])
def test_percentiles_become_0_and_1(frame, name, low, high):
    scaling = measure_scaling(RECIPES[name], frame)
    normal = scaling.normalise(frame)
    bounds = np.percentile(frame, [low, high])
    assert (normal.min(), normal.max()) == (0, 1)
    np.testing.assert_allclose(scaling.normalise(bounds), [0, 1], atol=1e-6)
    np.testing.assert_allclose(scaling.to_counts(np.array([0.0, 1.0])), bounds, rtol=1e-6)


def test_paper_recipe_is_the_authors_min_max_then_percentiles(frame):
    x = (frame - frame.min()) / np.ptp(frame)
    low, high = np.percentile(x, [1, 80])
    expected = np.clip((x - low) / (high - low), 0, 1)
    scaling = measure_scaling(RECIPES["paper"], frame)
    np.testing.assert_allclose(scaling.normalise(frame), expected, atol=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_pixels_that_are_not_finite_are_left_out_and_made_neutral(frame, name):
    holed = frame.astype(np.float32)
    holed[10, 20], holed[11, 20], holed[12, 20] = np.nan, np.inf, -np.inf
    scaling = measure_scaling(RECIPES[name], holed)
    assert scaling.scale == pytest.approx(measure_scaling(RECIPES[name], frame).scale, rel=0.01)
    normal = scaling.normalise(holed)
    assert np.isfinite(normal).all()
    assert normal.dtype == np.float32
    assert holed[10, 20] != holed[10, 20]  # the input keeps its NaN


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_frames_without_signal_give_a_constant_and_say_so(name, value):
    blank = np.full((20, 30), value, np.float32)
    scaling = measure_scaling(RECIPES[name], blank)
    assert np.unique(scaling.normalise(blank)).size == 1
    assert np.isfinite(scaling.to_counts(scaling.normalise(blank))).all()
    if name == "level":
        assert not scaling.has_signal


@pytest.mark.parametrize("name", RECIPES)
def test_saturated_frames_stay_finite(name):
    saturated = np.full((20, 30), 65535, np.uint16)
    scaling = measure_scaling(RECIPES[name], saturated)
    np.testing.assert_allclose(scaling.to_counts(scaling.normalise(saturated)), 65535)


def test_output_is_fitted_to_the_counts(frame):
    truth = np.linspace(0, 1, 60)[:, None] * np.ones(90)
    counts = 40 + 300 * truth + np.random.default_rng(0).normal(0, 30, truth.shape)
    scaling = measure_scaling(RECIPES["paper"], counts)
    fitted = fit_output(scaling, counts, truth)
    assert fitted.output_scale == pytest.approx(300, rel=0.02)
    assert fitted.output_offset == pytest.approx(40, abs=4)
    assert (fitted.offset, fitted.scale) == (scaling.offset, scaling.scale)


@pytest.mark.parametrize("output", [np.zeros((60, 90)), -np.ones((60, 90)), np.full((60, 90), np.nan)])
def test_output_without_contrast_keeps_the_inputs_scale(frame, output):
    scaling = measure_scaling(RECIPES["paper"], frame)
    assert fit_output(scaling, frame, output) == scaling


def test_inverted_output_keeps_the_inputs_scale():
    truth = np.linspace(0, 1, 60)[:, None] * np.ones(90)
    scaling = measure_scaling(RECIPES["paper"], 100 * truth)
    assert fit_output(scaling, 100 * truth, -truth) == scaling


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"name": "wavelets", "per": "frame"}, "unknown preprocessing recipe"),
        ({"name": "level", "per": "stack", "output": "counts"}, "lacks 'clip'"),
        ({"name": "percentiles", "per": "frame", "low": 1, "output": "unit"}, "lacks 'high'"),
        ({"name": "level", "per": "stack", "clip": [0, 1]}, "lacks 'output'"),
    ],
)
def test_recipes_that_cannot_be_applied_are_refused(recipe, said):
    with pytest.raises(ValueError, match=said):
        check_recipe(recipe)


def test_dark_is_subtracted_without_clipping(frame):
    image = Image(frame, (0.3, 0.5), 44.0, name="movie", provenance={"source": "a.dm4"})
    dark = np.linspace(0, 400, frame.size).reshape(frame.shape)
    result = subtract_dark(image, dark)
    np.testing.assert_allclose(result.data, frame - dark, rtol=1e-4, atol=1e-3)
    assert result.data.min() < 0
    assert result.data.dtype == np.float32
    assert (result.pixel_size_nm, result.counts_per_electron, result.name) == ((0.3, 0.5), 44.0, "movie")
    assert result.provenance["source"] == "a.dm4"
    assert result.provenance["dark"]["mean_counts"] == pytest.approx(200)


def test_dark_stack_is_averaged_and_lazy_stacks_stay_lazy(frame):
    stack = np.stack([frame, frame + 1, frame + 2])
    image = Image(da.from_array(stack, chunks=(1, -1, -1)))
    darks = Image(np.stack([np.full(frame.shape, v, np.uint16) for v in (10, 20, 60)]), name="darks")
    result = subtract_dark(image, darks)
    assert result.is_lazy
    np.testing.assert_allclose(result.frames(1, 2)[0], frame + 1.0 - 30)
    note = result.provenance["dark"]
    assert (note["name"], note["frames"], note["mean_counts"]) == ("darks", 3, 30.0)
    other = subtract_dark(image, darks.with_data(darks.data[::-1, ::-1] + np.arange(90, dtype=np.uint16)))
    assert other.provenance["dark"]["sha256"] != note["sha256"]


def test_dark_of_another_shape_is_refused(frame):
    with pytest.raises(ValueError, match=r"\(60, 89\) px for frames of \(60, 90\) px"):
        subtract_dark(Image(frame), np.zeros((60, 89)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
@pytest.mark.parametrize("brightest", [9, 250])
def test_level_of_short_counts_is_exactly_that_of_their_floats(dtype, brightest):
    counts = np.random.default_rng(brightest).poisson(5.3, (2, 37, 91)).astype(dtype)
    counts[1, 3, 5] = brightest  # the larger one is held down
    expected = measure_scaling(RECIPES["level"], counts.astype(np.float64))
    assert measure_scaling(RECIPES["level"], counts) == expected
    assert measure_scaling(RECIPES["level"], counts[:0]).has_signal is False
