import json

import numpy as np
import pytest
from scipy import ndimage

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import write
from napari_lowdose_tem.judge.repeats import (
    _remove_row_offsets,
    compare_scores,
    find_film,
    iter_score_repeats,
    load_repeats,
    measure_streak_ratio,
    score_repeats,
)
from napari_lowdose_tem.simulate.camera import IDEAL, MEASURED, expose
from napari_lowdose_tem.simulate.specimen import make_scene

SHAPE = (256, 384)


@pytest.fixture(scope="module")
def scene():
    return make_scene("silicate", SHAPE, 3.0, 5, n_particles=30, median_diameter_nm=90).transmission


@pytest.fixture(scope="module")
def repeats(scene):
    return np.stack([expose(scene * np.float32(5), MEASURED, seed) for seed in (1, 2)])


def test_error_is_the_squared_distance_from_the_truth_less_that_of_a_blur(scene, repeats):
    """Known to within the standard error, although the frames' noise is a hundred times larger."""
    level = float(repeats.mean() / scene.mean())
    for sigma in (0.0, 2.0, 4.0):
        output = ndimage.gaussian_filter(scene.astype(float), sigma)
        score = score_repeats(repeats, [output, output])
        expected = []
        for frame in repeats.astype(float):
            blur = ndimage.gaussian_filter(frame, 7)
            slope, offset = np.polyfit(blur.ravel(), level * scene.ravel(), 1)
            expected.append(-np.mean((slope * blur + offset - level * scene) ** 2))
        slope, offset = np.polyfit(output.ravel(), level * scene.ravel(), 1)
        expected = np.mean(expected) + np.mean((slope * output + offset - level * scene) ** 2)
        assert expected < -100
        assert abs(score.error - expected) < 4 * score.error_se
        assert score.error_se < 0.01 * repeats.var()
        assert score.error == pytest.approx(np.mean(score.directions))
        assert score.error == pytest.approx(np.mean(score.block_errors))


def test_a_better_output_lies_below_in_every_unit(scene, repeats):
    good, worse = scene, ndimage.gaussian_filter(scene, 8)
    score = score_repeats(repeats, np.stack([good, good]))
    blurred = score_repeats(repeats, np.stack([worse, worse]))
    assert score.error < min(blurred.error, 0)
    gain, gain_se = compare_scores(score, blurred)
    assert gain == pytest.approx(blurred.error - score.error)
    # what both share cancels
    assert gain > 3 * gain_se
    assert gain_se < score.error_se
    scaled = score_repeats(repeats, np.stack([7 - 3 * good, 0.01 * good]))
    assert scaled.error == pytest.approx(score.error)


def test_the_reference_itself_scores_zero_in_both_directions(repeats):
    score = score_repeats(repeats, lambda frame: ndimage.gaussian_filter(frame, 7.0))
    assert score.directions == pytest.approx((0, 0), abs=1e-6)


def test_the_output_of_a_frame_is_never_compared_with_that_frame(repeats):
    """A copy of its noise would be perfect there."""
    assert score_repeats(repeats, repeats).error > 0


def test_directions_name_the_frame_that_was_enhanced(scene, repeats):
    noise = np.random.default_rng(3).normal(0, 0.2, SHAPE)
    forward, backward = score_repeats(repeats, np.stack([scene + noise, scene])).directions
    assert forward > backward + 100


def test_offsets_of_rows_are_removed_but_not_structure(scene):
    frame = expose(scene * np.float32(500), IDEAL, 1).astype(float)
    offset = np.where(np.arange(SHAPE[0]) % 2, 30.0, -30.0)[:, None]
    plain, freed = (_remove_row_offsets(f) for f in (frame, frame + offset))
    assert np.abs((freed - plain).mean(1))[12:-12].max() < 0.5
    assert np.abs((plain - frame).mean(1)).std() < 3
    assert np.ptp(frame.mean(1)) > 40


def test_dead_pixels_are_left_out(scene, repeats):
    outputs = np.stack([scene, scene])
    frames = repeats.astype(float)
    frames[0, 30:34, 40:60] = np.nan
    assert score_repeats(frames, outputs).error == pytest.approx(
        score_repeats(repeats, outputs).error, rel=0.1
    )


def test_streaks_are_told_from_other_noise():
    rng = np.random.default_rng(1)
    film = np.ones((320, 448), bool)
    film[100:180, 60:400] = False
    noise = ndimage.gaussian_filter(rng.normal(0, 30, film.shape), 2)
    streaks = ndimage.gaussian_filter(rng.normal(0, 30, film.shape), (2, 16))
    assert measure_streak_ratio(1000 + noise, film) == pytest.approx(1, abs=0.25)
    assert measure_streak_ratio(1000 + noise + streaks, film) > 1.5
    assert measure_streak_ratio((1000 + noise + streaks).T, film.T) < 1 / 1.5
    assert measure_streak_ratio(1000 + noise, film & False) is None


def test_film_excludes_particles_and_their_edges(scene):
    film = find_film(scene)
    assert 0.2 < film.mean() < 0.95
    flat = scene / np.percentile(scene, 75)
    assert flat[film].min() > 0.9
    assert flat[~film].min() < 0.7


def test_shapes_are_checked(repeats):
    with pytest.raises(ValueError, match="two or more frames"):
        score_repeats(repeats[:1], repeats[:1])
    with pytest.raises(ValueError, match="do not go with"):
        score_repeats(repeats, repeats[:, :-1])
    with pytest.raises(ValueError, match="100 × 140 px hold 4 blocks"):
        score_repeats(repeats[:, :100, :140], repeats[:, :100, :140])
    with pytest.raises(ValueError, match="different frames"):
        compare_scores(score_repeats(repeats, repeats), score_repeats(repeats[:, :128], repeats[:, :128]))


def test_stacks_folders_and_files_are_repeats(tmp_path, repeats):
    stack = repeats.astype(np.uint16)
    folder = tmp_path / "frames"
    folder.mkdir()
    files = [folder / f"frame_{i}.tif" for i in range(2)]
    for path, frame in zip(files, stack, strict=True):
        write(Image(frame), path)
    write(Image(np.concatenate([stack, stack])), tmp_path / "stack.tif")
    for sources in (files, [folder], [tmp_path / "stack.tif"]):
        assert np.array_equal(load_repeats(sources, 2).data, stack)
    assert load_repeats([tmp_path / "stack.tif"]).n_frames == 4
    write(Image(stack[0, :-1]), tmp_path / "other.tif")
    with pytest.raises(ValueError, match="255 × 384 px, 256 × 384 px"):
        load_repeats([files[0], tmp_path / "other.tif"])
    with pytest.raises(ValueError, match=r"frame_0\.tif: one frame"):
        load_repeats(files[:1])


def test_a_model_is_scored_frame_by_frame(tmp_path, repeats, tiny_model):
    write(Image(repeats.astype(np.uint16)), tmp_path / "stack.tif")
    steps = list(iter_score_repeats([tmp_path / "stack.tif"], tiny_model, "cpu"))
    assert [(s.done, s.total, s.result is None) for s in steps] == [(1, 2, True), (2, 2, False)]
    report = json.loads(json.dumps(steps[-1].result.to_json(), allow_nan=False))
    keys = "model n drift_px error error_se directions streak_ratio background_ratio level"
    assert list(report) == keys.split()
    assert (report["model"], report["n"]) == ("tiny", 2)
    assert report["level"] == pytest.approx(repeats.mean())


def test_drift_between_the_frames_is_told(tmp_path, no_op):
    wide = make_scene("FeNi", (300, 420), 3.0, 8, n_particles=40, median_diameter_nm=80).transmission
    frames = [expose(np.roll(wide, shift, (0, 1)) * np.float32(200), IDEAL, 1) for shift in ((0, 0), (3, -4))]
    write(Image(np.stack(frames).astype(np.uint16)), tmp_path / "stack.tif")
    *_, step = iter_score_repeats([tmp_path / "stack.tif"], "no-op")
    assert step.result.drift_px == pytest.approx(5, abs=0.3)


@pytest.mark.slow
def test_the_shipped_model_beats_a_blur_on_real_repeats(lde_pair):
    from napari_lowdose_tem.engine.engine import Engine

    with Engine("default", "cpu") as engine:
        score = score_repeats(np.stack([image.frames(0, 1)[0] for image in lde_pair]), engine.enhance)
    assert score.error < -5 * score.error_se
    # classical methods leave 1.4
    assert score.streak_ratio <= 1.2
