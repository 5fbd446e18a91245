import csv
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.network.model_file import load_model
from napari_lowdose_tem.simulate import simulate_dataset
from napari_lowdose_tem.train.config import TRAIN_RECIPES, TrainConfig
from napari_lowdose_tem.train.loop import iter_train
from napari_lowdose_tem.train.losses import (
    log_mean_square,
    mean_absolute,
    root_mean_square,
    root_mean_square_and_spots,
)
from napari_lowdose_tem.train.record import Files

TINY = {"name": "light-unet", "channels": [8, 8, 8, 8, 8]}
SMALL = replace(
    TRAIN_RECIPES["default"], architecture=TINY, crop_px=64, epochs=3, steps_per_epoch=4, warm_up_steps=4
)


def configure(path, recipe=SMALL, **options):
    return TrainConfig(str(options.pop("data", "simulator")), path, recipe, device="cpu", **options)


def losses_of(history):
    return [(entry.epoch, entry.training, entry.validation, entry.learning_rate) for entry in history]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return simulate_dataset(folder, ("FeNi", "silicate"), pairs=2, lde_px=96, hde_px=192)


def test_training_learns_and_leaves_models_that_enhance_takes(tmp_path):
    recipe = replace(SMALL, epochs=4, steps_per_epoch=40, learning_rate=5e-3, averaging=0.9)
    config = configure(tmp_path / "small.safetensors", recipe)
    *_, last = iter_train(config)
    assert last.step == last.steps == 160
    # an untrained network is off by the whole level, 1
    assert last.history[-1].validation < last.history[0].validation < 0.5
    files = Files(config.output)
    for path in (files.best, files.last):
        info = load_model(path).info
        assert info.training["reached"]["validation"] == last.history[-1].validation
        with Engine(path, "cpu") as engine:
            output = engine.enhance(np.random.default_rng(0).poisson(5, (70, 90)).astype(np.float32))
        assert output.shape == (70, 90)
    rows = list(csv.DictReader(files.table.read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert float(rows[2]["validation"]) == pytest.approx(last.history[2].validation, rel=1e-5)
    assert files.figure.stat().st_size > 5000
    assert last.example.lde.shape == last.example.output.shape == last.example.hde.shape == (64, 64)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("stop_after", [2, 4, 7, 11])
def test_resumed_training_repeats_the_uninterrupted_one(tmp_path, stop_after):
    *_, whole = iter_train(configure(tmp_path / "whole.safetensors"))
    stopped = configure(tmp_path / "stopped.safetensors")
    steps = iter_train(stopped)
    for progress in steps:
        if progress.step == stop_after:
            break
    steps.close()
    resumed = list(iter_train(replace(stopped, resume=True)))
    assert resumed[0].step == stop_after + 1
    assert losses_of(resumed[-1].history) == losses_of(whole.history)
    for ending in ("", ".last"):
        first, second = (
            load_model(tmp_path / f"{name}{ending}.safetensors").network.state_dict()
            for name in ("whole", "stopped")
        )
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_finished_training_has_nothing_left_to_do(tmp_path):
    config = configure(tmp_path / "done.safetensors", replace(SMALL, epochs=1))
    list(iter_train(config))
    before = config.output.read_bytes()
    assert not Files(config.output).state.exists()
    with pytest.raises(ValueError, match="finished or never begun"):
        next(iter_train(replace(config, resume=True)))
    assert config.output.read_bytes() == before


def test_paper_recipe_runs_on_the_authors_layout(tmp_path, dataset):
    recipe = replace(TRAIN_RECIPES["paper"], epochs=2, pretrained_encoder=False)
    *first, last = iter_train(configure(tmp_path / "paper.safetensors", recipe, data=dataset))
    assert [p.stage for p in first].count("preparing") == 4
    assert last.epochs == 2 and last.steps == 4  # 3 fields with 2 frames each, 4 a batch
    info = load_model(tmp_path / "paper.safetensors").info
    assert info.architecture == {"name": "smp-unet", "encoder": "resnet18"}
    assert info.recipe["name"] == "percentiles"
    assert info.dose_e_per_px is None


def test_high_dose_frames_alone_are_exposed_by_the_camera_model(tmp_path, dataset):
    folder = tmp_path / "hde"
    folder.mkdir()
    for path in dataset.glob("*/*_000[14].tif"):
        shutil.copy(path, folder)
    recipe = replace(SMALL, epochs=1)
    config = configure(tmp_path / "h.safetensors", recipe, data=folder, hde_factor=2)
    *_, last = iter_train(config)
    assert any("3 high-dose frames alone" in note for note in last.notes)  # one field is validated on
    assert last.history[0].validation > 0
    with pytest.raises(ValueError, match="HDE factor"):
        next(iter_train(replace(config, output=tmp_path / "i.safetensors", hde_factor=None)))


def test_two_trainings_do_not_write_the_same_files(tmp_path):
    first = iter_train(configure(tmp_path / "x.safetensors"))
    next(first)
    with pytest.raises(ValueError, match="another training is writing"):
        next(iter_train(configure(tmp_path / "x.safetensors")))
    first.close()
    assert not (tmp_path / "x.lock").exists()
    *_, last = iter_train(configure(tmp_path / "x.safetensors", replace(SMALL, epochs=1), overwrite=True))
    assert last.step == 4


def test_fine_tuning_starts_from_the_model_and_its_architecture(tmp_path):
    start = tmp_path / "start.safetensors"
    list(iter_train(configure(start, replace(SMALL, epochs=1))))
    recipe = replace(
        SMALL, architecture={"name": "light-unet"}, epochs=1, steps_per_epoch=1, learning_rate=1e-9
    )
    *_, last = iter_train(configure(tmp_path / "on.safetensors", recipe, start=str(start)))
    assert last.notes == ("starts from model start",)
    first, second = (load_model(tmp_path / f"{n}.safetensors").network.state_dict() for n in ("start", "on"))
    assert all(torch.allclose(first[key], second[key], atol=1e-5) for key in first)


def test_budget_in_minutes_sets_the_number_of_steps(tmp_path):
    recipe = replace(SMALL, steps_per_epoch=100_000)
    steps = iter_train(configure(tmp_path / "m.safetensors", recipe, minutes=0.05))
    first = next(steps)
    steps.close()
    assert first.epochs == 1
    assert 1 <= first.steps < 2000  # 3 s
    assert load_model(tmp_path / "m.last.safetensors").info.training["steps_per_epoch"] == first.steps


def test_diverging_training_says_so_and_keeps_the_last_good_state(tmp_path):
    recipe = replace(SMALL, learning_rate=1e30, clip_norm=None, warm_up_steps=0)
    config = configure(tmp_path / "wild.safetensors", recipe)
    with pytest.raises(ValueError, match="not finite at step"):
        list(iter_train(config))
    assert not config.output.exists()


def test_an_earlier_training_is_not_destroyed_by_accident(tmp_path):
    config = configure(tmp_path / "once.safetensors", replace(SMALL, epochs=1))
    list(iter_train(config))
    with pytest.raises(ValueError, match=r"exists already; resume or overwrite"):
        next(iter_train(config))
    config = replace(config, overwrite=True)
    steps = iter_train(config)
    next(steps)
    steps.close()
    config = replace(config, overwrite=False)
    with pytest.raises(ValueError, match="was trained with seed 1, not 2"):
        next(iter_train(replace(config, resume=True, seed=2)))
    Files(config.output).state.write_bytes(b"no state")
    with pytest.raises(ValueError, match=r"no training state|damaged"):
        next(iter_train(replace(config, resume=True)))
    with pytest.raises(ValueError, match="nothing to resume"):
        next(iter_train(configure(tmp_path / "never.safetensors", resume=True)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "l3"}, "unknown loss 'l3'"),
        ({"optimiser": "sgd"}, "unknown optimiser"),
        ({"schedule": "steps"}, "unknown schedule"),
    ],
)
def test_unknown_settings_are_refused_before_anything_is_drawn(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        next(iter_train(configure(tmp_path / "x.safetensors", replace(SMALL, **change))))


def test_losses_leave_unknown_pixels_out():
    target = torch.tensor([[[[1.0, torch.nan], [3.0, 5.0]]], [[[2.0, 2.0], [2.0, torch.nan]]]])
    output = torch.full_like(target, 2.0)
    assert float(mean_absolute(output, target)) == pytest.approx((1 + 1 + 3 + 0 + 0 + 0) / 6)
    expected = 0.01 * (np.log(11 / 3 + 1e-6) + np.log(1e-6)) / 2
    assert float(log_mean_square(output, target)) == pytest.approx(expected, rel=1e-5)
    for loss in (mean_absolute, log_mean_square, root_mean_square, root_mean_square_and_spots):
        adjustable = output.clone().requires_grad_()
        loss(adjustable, target).backward()
        assert torch.equal(adjustable.grad.sign(), (output - target).sign().nan_to_num())


def test_a_dark_spot_costs_extra_on_bare_film_alone():
    film = torch.full((1, 1, 48, 80), 0.98)
    film[..., 40:, :] = torch.nan
    with_particle = film.clone()
    with_particle[..., 2:12, 2:12] = 0.5
    spot = torch.zeros_like(film)
    spot[..., 20:26, 30:40] = 0.08
    for target, darker, extra in (
        (film, spot, 2 * 0.05 * (60 / (40 * 80)) ** 0.5),
        (film, -spot, 0.0),
        (film, spot / 4, 0.0),
        (with_particle, spot, 0.0),
    ):
        output = torch.nan_to_num(target, nan=1.0) - darker
        cost = root_mean_square_and_spots(output, target) - root_mean_square(output, target)
        assert float(cost) == pytest.approx(extra, rel=0.15, abs=1e-6)
        deepest = float(darker.abs().max())
        assert float(root_mean_square(output, target)) == pytest.approx(
            deepest * (60 / (40 * 80)) ** 0.5, rel=0.1
        )


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    # a mean over two processes is the mean over both only where the target is known alike
    recipe = replace(SMALL, batch=1, mixed_precision=False, large_crops=0.0, rims=0.0)
    script = tmp_path / "both.py"
    script.write_text(
        f"""
import os
from pathlib import Path
from napari_lowdose_tem.train.config import Recipe, TrainConfig
from napari_lowdose_tem.train.loop import iter_train

config = TrainConfig("simulator", Path({str(tmp_path / "both.safetensors")!r}), {recipe!r}, device="cpu")
*_, last = iter_train(config)
print(os.environ["RANK"], last.step, last.steps)
"""
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, str(script)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n"))[-2:] == ["0 12 12", "1 12 12"]
    *_, alone = iter_train(configure(tmp_path / "alone.safetensors", replace(recipe, batch=2)))
    rows = list(csv.DictReader(Files(tmp_path / "both.safetensors").table.read_text().splitlines()))
    for row, entry in zip(rows, alone.history, strict=True):
        assert float(row["training"]) == pytest.approx(entry.training, rel=1e-3)
        assert float(row["validation"]) == pytest.approx(entry.validation, rel=1e-3)
