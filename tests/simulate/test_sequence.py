from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest

from napari_lowdose_tem.simulate import IDEAL, MEASURED, Motion, iter_frames, make_sequence
from napari_lowdose_tem.simulate.specimen import draw_specimen

from .test_specimen import BARE, FIELD, SHAPE, centroid, spheres

STILL = Motion(drift_nm=0, brownian_nm=0)


def play(specimen, n_frames, motion, rng=1, shape=SHAPE, **options):
    return [f.scene for f in iter_frames(specimen, n_frames, shape, rng=rng, motion=motion, **options)]


def volume(scene):
    return sum(entry["diameter_nm"] ** 3 for entry in scene.truth)


def position(entry):
    return np.array([entry["row_nm"], entry["col_nm"]])


def test_drift_is_a_random_walk_that_truth_follows():
    scenes = play(spheres([(540, 500)], [120.0]), 30, Motion(drift_nm=4.0, brownian_nm=0))
    steps = np.array([position(b.truth[0]) - position(a.truth[0]) for a, b in pairwise(scenes)])
    assert steps.std() == pytest.approx(4.0, rel=0.3)
    for scene in scenes:
        truth = scene.truth[0]
        np.testing.assert_allclose(
            centroid(scene.transmission), (truth["row_px"], truth["col_px"]), atol=0.05
        )
        np.testing.assert_allclose(position(truth), np.add(scene.shift_nm, (540, 500)))


def test_brownian_steps_go_with_the_root_of_the_diameter():
    specimen = spheres([(250, 300), (800, 1200)], [25.0, 100.0])
    scenes = play(specimen, 400, Motion(drift_nm=0, brownian_nm=2.0), shape=(36, 54))
    steps = np.array(
        [
            [position(q) - position(p) for p, q in zip(a.truth, b.truth, strict=True)]
            for a, b in pairwise(scenes)
        ]
    )
    np.testing.assert_allclose(steps.std(axis=(0, 2)), [4.0, 2.0], rtol=0.1)


def test_particles_that_touch_move_as_one():
    specimen = spheres([(400, 500), (460, 500), (800, 1000)], [80.0, 80.0, 80.0])
    scenes = play(specimen, 10, Motion(drift_nm=0, brownian_nm=5.0), shape=(36, 54))
    first, last = scenes[0].truth, scenes[-1].truth
    moved = [position(b) - position(a) for a, b in zip(first, last, strict=True)]
    np.testing.assert_allclose(moved[0], moved[1])
    assert np.abs(moved[0] - moved[2]).min() > 1


@pytest.mark.parametrize("material", ["silicate", "Ni"])
def test_growth_in_truth_and_picture(material):
    start = draw_specimen(material, FIELD, 3, n_particles=1, median_diameter_nm=90.0)
    particles = replace(start.particles, center_nm=np.array([[540.0, 700.0]]))
    specimen = replace(start, particles=particles, support=BARE)
    scenes = play(specimen, 3, replace(STILL, growth_nm=20.0), shape=(720, 1080))
    first, last = (scene.truth[0]["diameter_nm"] for scene in (scenes[0], scenes[-1]))
    assert last - first == pytest.approx(40)
    covered = [
        np.sqrt((scene.transmission < 0.99).sum() * 1.5**2 * 4 / np.pi) for scene in (scenes[0], scenes[-1])
    ]
    assert covered[1] - covered[0] == pytest.approx(40, rel=0.15)


def test_growth_ends_at_the_largest_particles():
    scenes = play(spheres([(540, 700)], [210.0]), 20, replace(STILL, growth_nm=3.0), shape=(36, 54))
    assert scenes[-1].truth[0]["diameter_nm"] == pytest.approx(220)


def test_nuclei_appear_at_their_rate_with_new_ids():
    scenes = play(spheres([], []), 60, replace(STILL, nucleation=0.8, coalesce=False), shape=(36, 54))
    assert len(scenes[-1].truth) == pytest.approx(0.8 * 59, rel=0.4)
    for a, b in pairwise(scenes):
        ids = [entry["id"] for entry in b.truth]
        assert len(set(ids)) == len(ids)
        assert {entry["id"] for entry in a.truth} <= set(ids)


def test_meeting_particles_fuse_keeping_volume_and_the_larger_ones_id():
    specimen = spheres([(500, 594), (500, 700)], [90.0, 120.0])  # 1 nm apart
    scenes = play(specimen, 60, Motion(drift_nm=0, brownian_nm=1.5), rng=5, shape=(108, 162))
    count = [len(scene.truth) for scene in scenes]
    assert count[0] == 2
    assert count[-1] == 1
    assert scenes[-1].truth[0]["id"] == 1
    for scene in scenes:
        assert volume(scene) == pytest.approx(volume(scenes[0]))
    for a, b in pairwise(scenes):  # nothing jumps
        by_id = {entry["id"]: entry for entry in a.truth}
        for entry in b.truth:
            assert np.linalg.norm(position(entry) - position(by_id[entry["id"]])) < 15


def test_many_particles_fuse_without_losing_volume():
    rng = np.random.default_rng(0)
    specimen = spheres(rng.uniform((100, 100), (980, 1500), (40, 2)), rng.uniform(30, 90, 40))
    scenes = play(specimen, 80, Motion(drift_nm=0, brownian_nm=15.0), shape=(36, 54))
    assert len(scenes[-1].truth) < 30
    assert volume(scenes[-1]) == pytest.approx(volume(scenes[0]))


def test_noise_is_fresh_and_motion_does_not_depend_on_the_camera():
    frames = list(iter_frames("silicate", 3, (60, 90), rng=2, motion=STILL))
    assert (frames[0].scene.transmission == frames[1].scene.transmission).all()
    assert (frames[0].counts != frames[1].counts).any()
    for camera in (IDEAL, MEASURED):
        *_, last = iter_frames("silicate", 5, (60, 90), camera=camera, rng=2)
        *_, again = iter_frames("silicate", 5, (60, 90), rng=2)
        assert last.scene.truth == again.scene.truth


def test_same_seed_same_movie():
    motion = Motion(nucleation=0.5, growth_nm=0.5)
    a, b = (make_sequence("Ni", 6, (60, 90), rng=3, motion=motion) for _ in range(2))
    assert (a[1].data == b[1].data).all()
    assert a[2] == b[2]
    assert (a[1].data != make_sequence("Ni", 6, (60, 90), rng=4)[1].data).any()


def test_frames_are_made_one_at_a_time():
    assert len(list(islice(iter_frames("silicate", 10**9, (30, 40)), 2))) == 2


def test_movie_and_reference_are_calibrated_and_of_one_level():
    reference, movie, truth = make_sequence("silicate", 4, (120, 180), 2.5, 6.0, rng=1)
    assert movie.data.shape == reference.data.shape == (4, 120, 180)
    assert len(truth) == 4
    for image in (reference, movie):
        assert image.data.dtype == np.float32
        assert (image.pixel_size_nm, image.counts_per_electron) == ((2.5, 2.5), 44.0)
        assert image.provenance["simulation"]["dose_e_per_px"] == 6.0
    assert reference.data.mean() == pytest.approx(movie.data.mean(), rel=0.01)


@pytest.mark.parametrize(("frames", "dose", "said"), [(0, 5.0, "at least one"), (3, 0.0, "not positive")])
def test_nothing_to_simulate_is_refused(frames, dose, said):
    with pytest.raises(ValueError, match=said):
        make_sequence("Ni", frames, (30, 40), dose_e_per_px=dose)


def test_impossible_motion_is_refused():
    with pytest.raises(ValueError, match="negative"):
        Motion(growth_nm=-1)
