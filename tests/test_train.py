import numpy as np
import torch

from napari_lowdose_tem.model import load_model
from napari_lowdose_tem.train import ScenePool, TrainConfig, draw_batch, iter_train


def test_batches_pair_noisy_input_with_its_own_truth():
    rng = np.random.default_rng(0)
    pool = ScenePool(3, 128, rng)
    inputs, targets = draw_batch(pool, 6, rng, torch.Generator().manual_seed(0), "cpu")
    assert inputs.shape == targets.shape == (6, 1, 128, 128)
    for noisy, clean in zip(inputs, targets, strict=True):
        # one level scales both: their means agree, and smoothed noise follows the truth
        assert abs(float(noisy.mean() - clean.mean())) < 0.02
    blocks = [torch.nn.functional.avg_pool2d(t, 16).flatten().numpy() for t in (inputs, targets)]
    assert np.corrcoef(*blocks)[0, 1] > 0.8


def test_no_two_draws_are_alike():
    rng = np.random.default_rng(0)
    pool = ScenePool(1, 64, rng, refresh=0.0)
    generator = torch.Generator().manual_seed(0)
    first, second = (draw_batch(pool, 1, rng, generator, "cpu")[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_training_learns_and_leaves_a_model(tmp_path):
    config = TrainConfig(
        tmp_path / "small.safetensors",
        {"name": "light-unet", "channels": [8, 8, 8, 8, 8]},
        minutes=0.15,
        crop_px=64,
        pool_scenes=8,
    )
    *_, last = iter_train(config)
    assert last.step > 20
    assert last.validation < 0.5  # an untrained network is off by the whole level, 1
    loaded = load_model(config.output)
    assert loaded.info.training["reached"]["step"] == last.step
