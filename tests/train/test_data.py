from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_lowdose_tem.network.scaling import RECIPES
from napari_lowdose_tem.pairs import find_fields, load_field
from napari_lowdose_tem.simulate import simulate_dataset
from napari_lowdose_tem.train import scenes
from napari_lowdose_tem.train.config import TRAIN_RECIPES
from napari_lowdose_tem.train.data import (
    Batches,
    Pairs,
    draw_validation,
    gather,
    normalise_pair,
    split,
)
from napari_lowdose_tem.train.scenes import ScenePool, draw_scene

CPU = torch.device("cpu")
SMALL = replace(TRAIN_RECIPES["default"], crop_px=64, large_crops=0.0, rims=0.0)


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    folder = simulate_dataset(
        tmp_path_factory.mktemp("pairs"), ("silicate", "Ni"), pairs=2, lde_px=96, hde_px=192
    )
    return [load_field(field) for field in find_fields(folder)]


def test_simulated_batches_pair_noisy_input_with_its_own_truth():
    inputs, targets = Batches(replace(SMALL, batch=6), None, 0, CPU).draw(0)
    assert inputs.shape == targets.shape == (6, 1, 64, 64)
    for noisy, clean in zip(inputs, targets, strict=True):
        # one level scales both: their means agree, and smoothed noise follows the truth
        assert abs(float(noisy.mean() - clean.mean())) < 0.02
    blocks = [torch.nn.functional.avg_pool2d(t, 16).flatten().numpy() for t in (inputs, targets)]
    assert np.corrcoef(*blocks)[0, 1] > 0.7


def test_a_batch_depends_on_seed_and_step_alone():
    batches = Batches(SMALL, None, 3, CPU)
    drawn = [batches.draw(step)[0] for step in range(3)]
    assert torch.equal(Batches(SMALL, None, 3, CPU).draw(2)[0], drawn[2])
    for other in (Batches(SMALL, None, 4, CPU).draw(2)[0], drawn[0], drawn[1]):
        assert not torch.equal(other, drawn[2])


def test_processes_see_together_what_one_would_see():
    alone = Batches(replace(SMALL, batch=4), None, 3, CPU).draw(5)
    apart = [Batches(replace(SMALL, batch=2), None, 3, CPU, rank, 2).draw(5) for rank in (0, 1)]
    for whole, *parts in zip(alone, *apart, strict=True):
        assert torch.equal(whole[0::2], parts[0]) and torch.equal(whole[1::2], parts[1])


def test_scenes_drawn_by_other_processes_are_the_same():
    with_workers, without = ScenePool(48, (5,), size=4, workers=1), ScenePool(48, (5,), size=4)
    try:
        for drawn in (0, 1, 30):
            chosen = (p.choose(drawn, np.random.default_rng(drawn)) for p in (with_workers, without))
            np.testing.assert_array_equal(*chosen)
    finally:
        with_workers.close()


def test_scenes_are_renewed():
    pool = ScenePool(48, (5,), size=2)
    seen = {pool.choose(drawn, np.random.default_rng(drawn)).tobytes() for drawn in range(60)}
    assert len(seen) >= 6
    assert len(pool._scenes) <= 2  # old ones are let go


def test_some_steps_show_a_quarter_of_the_frames_at_twice_the_side():
    recipe = replace(SMALL, batch=8, large_crops=0.5)
    shapes = [tuple(Batches(recipe, None, 2, CPU).draw(step)[0].shape) for step in range(8)]
    assert set(shapes) == {(8, 1, 64, 64), (2, 1, 128, 128)}


def test_rims_are_filled_as_frames_are_and_unknown_to_the_target():
    recipe = replace(SMALL, batch=4, rims=1.0)
    filled = 0
    for inputs, targets in (Batches(recipe, None, 2, CPU).draw(step) for step in range(3)):
        assert inputs.isfinite().all()
        for frame, known in zip(inputs[:, 0], targets[:, 0].isfinite(), strict=True):
            rows, cols = int(known[:, 0].sum()), int(known[0].sum())
            assert known[:rows, :cols].all() and int(known.sum()) == rows * cols
            counts = frame[:rows, :cols].numpy()
            pad = ((0, 64 - rows), (0, 64 - cols))
            np.testing.assert_array_equal(frame, np.pad(counts, pad, mode="reflect"))
            filled += rows < 64 and cols < 64
    assert filled >= 6


def test_many_crops_show_bare_film_and_some_are_crowded():
    covered = []
    for number in range(40):
        scene = draw_scene(512, (9, number))
        for row, col in ((0, 0), (0, 256), (256, 256)):
            crop = scene[row : row + 256, col : col + 256]
            covered.append(float(np.mean(crop < 0.9 * np.percentile(crop, 90))))
    assert 0.2 <= np.mean(np.array(covered) < 0.002) <= 0.5
    assert np.mean(np.array(covered) > 0.3) >= 0.08


def test_amorphous_specimens_darken_with_thickness_alone():
    rng = np.random.default_rng(4)
    for _ in range(30):
        particles = scenes._draw_specimen(192, 3.0, "amorphous", rng).particles
        assert not np.isfinite(particles.extinction_nm).any()
        assert all(facets is None for facets in particles.facets)
    crystals = [scenes._draw_specimen(192, 3.0, "crystalline", rng) for _ in range(30)]
    assert "silicate" not in {specimen.material for specimen in crystals}
    assert np.mean(np.isfinite(np.concatenate([s.particles.extinction_nm for s in crystals]))) > 0.3


def test_unknown_particles_are_refused():
    with pytest.raises(ValueError, match="unknown particles 'liquid'; choose any, amorphous, crystalline"):
        Batches(replace(SMALL, particles="liquid"), None, 0, CPU)


def test_paper_recipe_shows_every_pair_once_an_epoch_flipped_alike(fields):
    pairs = gather(fields)
    assert len(pairs.recorded) == 8
    recipe = replace(TRAIN_RECIPES["paper"], batch=3)
    batches = Batches(recipe, pairs, 1, CPU)
    assert batches.steps_per_epoch == 3
    orders = [[i for step in range(3) for i in batches._order(step + 3 * epoch)] for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(8))
    assert orders[0] != orders[1]
    flips = set()
    for step in range(18):
        inputs, targets = batches.draw(step)
        assert inputs.shape == (len(batches._order(step)), 1, 96, 96)
        for index, x, t in zip(batches._order(step), inputs[:, 0], targets[:, 0], strict=True):
            counts, reference = (torch.from_numpy(a.astype(np.float32)) for a in pairs.recorded[index])
            x0, t0 = normalise_pair(RECIPES["paper"], counts, reference)
            matches = [
                dims
                for dims in ((), (0,), (1,), (0, 1))
                if torch.equal(x, x0.flip(dims))
                and torch.allclose(t, t0.flip(dims), atol=1e-6, equal_nan=True)
            ]
            assert len(matches) == 1
            flips.add(matches[0])
    assert len(flips) == 4


def test_processes_share_an_epoch(fields):
    pairs, recipe = gather(fields), replace(TRAIN_RECIPES["paper"], batch=2)
    ranks = [Batches(recipe, pairs, 1, CPU, rank, 2) for rank in (0, 1)]
    assert ranks[0].steps_per_epoch == 2
    shown = [i for batches in ranks for step in range(2) for i in batches._order(step)]
    assert sorted(shown) == list(range(8))


def test_paper_normalisation_is_that_of_the_authors():
    counts = torch.arange(101, dtype=torch.float32).reshape(1, 101) * 3 + 7
    reference = torch.tensor([[4.0, 6.0, torch.nan, 12.0]])
    inputs, target = normalise_pair(RECIPES["paper"], counts, reference)
    # percentile 1 becomes 0, percentile 80 becomes 1, the rest is cut off
    np.testing.assert_allclose(inputs[0, [0, 1, 80, 100]], [0, 0, 1, 1], atol=1e-6)
    assert inputs[0, 40] == pytest.approx(39 / 79)
    np.testing.assert_allclose(target, [[0, 0.25, np.nan, 1]])


def test_level_normalisation_keeps_transmission():
    reference = torch.tensor([[1.0, 3.0]])
    inputs, target = normalise_pair(RECIPES["level"], 10 * reference, reference, jitter=1.25)
    np.testing.assert_allclose(inputs, [[0.4, 1.2]], rtol=1e-6)
    np.testing.assert_allclose(target, [[0.4, 1.2]], rtol=1e-6)


def test_default_recipe_mixes_recorded_and_fresh_frames(fields):
    # recorded frames of one value, references of another: where a batch comes from can be seen
    recorded = [(np.full((80, 72), 9, np.uint16), np.full((80, 72), 2, np.float32))]
    marked = np.full((80, 72), 5, np.float32)
    marked[:, :36] = 3
    batches = Batches(replace(SMALL, batch=300, crop_px=32), Pairs(recorded, [marked]), 0, CPU)
    inputs, targets = batches.draw(0)
    is_recorded = inputs.flatten(1).std(1) == 0
    assert 0.2 < is_recorded.float().mean() < 0.4
    values = [len(np.unique(t.numpy().round(6))) for t in targets]
    assert 60 < sum(v <= 2 for v in values) - int(is_recorded.sum()) < 150  # high-dose frames exposed anew
    assert sum(v > 2 for v in values) > 60  # simulated specimens


def test_fresh_frames_of_high_dose_images_have_the_reference_as_mean(fields):
    pairs = Pairs([], [f.reference for f in fields])
    recipe = replace(SMALL, batch=64, crop_px=96)
    inputs, targets = Batches(recipe, pairs, 1, CPU).draw(0)
    assert torch.isfinite(inputs).all()
    error = (inputs - targets).mean(0)
    assert float(error.abs().mean()) < 0.5 * float((inputs[0] - targets[0]).abs().mean())
    assert abs(float(error.mean())) < 0.02


def test_frames_of_other_sizes_are_filled_up_and_not_learnt_from():
    recorded = [
        (np.ones((40, 70), np.uint16), np.arange(2800, dtype=np.float32).reshape(40, 70)),
        (np.ones((33, 64), np.uint16), np.arange(2112, dtype=np.float32).reshape(33, 64)),
    ]
    recipe = replace(TRAIN_RECIPES["paper"], batch=2)
    inputs, targets = Batches(recipe, Pairs(recorded, [r for _, r in recorded]), 1, CPU).draw(0)
    assert inputs.shape == (2, 1, 64, 96)
    assert sorted(int(t.isfinite().sum()) for t in targets) == [33 * 64, 40 * 70]


def test_refused_pairs_are_left_out_and_named(fields):
    first = fields[0]
    refused = replace(first.pairs[0], refused="another field")
    changed = replace(first, pairs=(refused, *first.pairs[1:]))
    pairs = gather([changed, *fields[1:]])
    assert len(pairs.recorded) == 7
    assert pairs.notes == (f"{refused.path.name} left out: another field",)


def test_fields_are_validated_on_or_trained_on_never_both(fields):
    trained, validated = split(fields, seed=1)
    assert len(trained) == 3 and len(validated) == 1
    assert not {id(f) for f in trained} & {id(f) for f in validated}
    with pytest.raises(ValueError, match="one field"):
        split(fields[:1], seed=1)


def test_paper_recipe_needs_recorded_frames(fields):
    with pytest.raises(ValueError, match="recorded low-dose frames"):
        Batches(TRAIN_RECIPES["paper"], Pairs([], [fields[0].reference]), 1, CPU)
    with pytest.raises(ValueError, match="no usable pair"):
        Batches(TRAIN_RECIPES["default"], Pairs(), 1, CPU)


def test_validation_frames_are_always_the_same(fields):
    for pairs in (None, gather(fields), Pairs([], [f.reference for f in fields])):
        first, second = (draw_validation(SMALL, pairs, CPU) for _ in range(2))
        assert len(first) == (8 if pairs and pairs.recorded else 24)
        for (x, t), (x2, t2) in zip(first, second, strict=True):
            assert torch.equal(x, x2) and torch.equal(t.nan_to_num(), t2.nan_to_num())
