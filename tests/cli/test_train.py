import signal
from contextlib import closing
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.network.model_file import load_model
from napari_lowdose_tem.simulate import simulate_dataset
from napari_lowdose_tem.train import config as train_config
from napari_lowdose_tem.train import loop
from napari_lowdose_tem.train.config import TRAIN_RECIPES
from napari_lowdose_tem.train.loop import iter_train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return simulate_dataset(folder, ("FeNi",), pairs=2, lde_px=96, hde_px=192)


@pytest.fixture
def tiny(monkeypatch):
    recipes = {
        "default": replace(
            TRAIN_RECIPES["default"], crop_px=64, steps_per_epoch=2,
            architecture={"name": "light-unet", "channels": [8, 8, 8, 8, 8]},
        ),
        "paper": TRAIN_RECIPES["paper"],
    }  # fmt: skip
    monkeypatch.setattr(train_config, "TRAIN_RECIPES", recipes)


def run(*words):
    return CliRunner().invoke(app, ["train", *map(str, words), "--device", "cpu"])


def test_training_says_what_it_wrote_and_what_to_do_next(tmp_path, dataset, tiny):
    output = tmp_path / "mine.safetensors"
    done = run(dataset, "-o", output, "--recipe", "default", "--epochs", 2)
    assert done.exit_code == 0, done.output
    for ending in ("safetensors", "last.safetensors", "losses.csv", "losses.png"):
        assert str(tmp_path / f"mine.{ending}") in done.output.replace("\n", "")
    assert f"--model {output}" in done.output.replace("\n", "")
    assert load_model(output).info.training["steps"] == 4


def test_paper_recipe_is_the_default_and_says_what_the_encoder_starts_from(tmp_path, dataset, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    done = run(dataset, "-o", tmp_path / "p.safetensors", "--epochs", 1)
    assert done.exit_code == 0, done.output
    assert "encoder starts from random weights" in done.output
    assert load_model(tmp_path / "p.safetensors").info.training["optimiser"] == "adam"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "-o", "x.safetensors"], "nowhere: no such folder"),
        (["simulator", "-o", "x.pth"], "should end in .safetensors"),
        (["simulator", "-o", "x.safetensors", "--recipe", "best"], "unknown recipe 'best'"),
        (["simulator", "-o", "x.safetensors", "--recipe", "paper"], "recorded low-dose frames"),
        (["simulator", "-o", "x.safetensors", "--resume"], "nothing to resume"),
        (["simulator", "-o", "x.safetensors", "--minutes", "5", "--epochs", "2"], "either --epochs"),
        (["simulator", "-o", "x.safetensors", "--minutes", "0"], "positive number of --minutes"),
        (["simulator", "-o", "x.safetensors", "--start", "nobody"], "no model 'nobody'"),
        (["simulator", "-o", "x.safetensors", "--start", "gone.safetensors"], "does not exist"),
    ],
)
def test_bad_settings_end_with_one_line(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not list(tmp_path.glob("*.safetensors"))


def test_ctrl_c_stops_between_two_steps_and_resume_goes_on(tmp_path, tiny, monkeypatch):
    def interrupted(config):
        with closing(iter_train(config)) as steps:
            for progress in steps:
                if progress.step == 3:
                    signal.raise_signal(signal.SIGINT)
                yield progress

    words = ["simulator", "-o", tmp_path / "s.safetensors", "--recipe", "default", "--epochs", 3]
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "iter_train", interrupted)
        stopped = run(*words)
    assert stopped.exit_code == 130
    assert "--resume goes on" in " ".join(stopped.output.split())
    assert load_model(tmp_path / "s.last.safetensors").info.training["steps"] == 3
    assert signal.getsignal(signal.SIGINT) is before
    done = run(*words, "--resume")
    assert done.exit_code == 0, done.output
    assert load_model(tmp_path / "s.safetensors").info.training["steps"] == 6


def test_only_the_first_of_several_processes_talks(tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    done = run("simulator", "-o", tmp_path / "r.safetensors", "--recipe", "default", "--epochs", 1)
    assert done.exit_code == 0
    assert done.output.strip() == ""
    assert not list(tmp_path.iterdir())
