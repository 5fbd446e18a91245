import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_lowdose_tem.network.model_file import find_model
from napari_lowdose_tem.train.config import SIMULATOR, TRAIN_RECIPES, TrainConfig
from napari_lowdose_tem.widgets.shared.layers import is_output, limits_of
from napari_lowdose_tem.widgets.train import control as train_control
from napari_lowdose_tem.widgets.train import run, saved
from napari_lowdose_tem.widgets.train.check import CheckResult
from napari_lowdose_tem.widgets.train.control import TrainControl
from napari_lowdose_tem.widgets.train.state import FindingRow

LONG = 120_000  # ms; the first job imports torch
SHAPE = (40, 56)


@dataclass(frozen=True)
class Epoch:
    epoch: int
    training: float
    validation: float


@dataclass(frozen=True, eq=False)
class Example:
    lde: np.ndarray
    output: np.ndarray
    hde: np.ndarray


@dataclass(frozen=True, eq=False)
class Progress:
    stage: str
    step: int
    steps: int
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    history: tuple = ()
    example: Example | None = None
    seconds_left: float | None = None
    device: str = "test"
    notes: tuple = ()


class FakeTraining:
    """Ten epochs of four steps; notes what it was told, its thread, and that it was closed."""

    epochs, steps_per_epoch = 10, 4

    def __init__(self, error=None, error_at=6, pause_s=0.0, error_on_close=None):
        self.error, self.error_at = error, error_at
        self.pause_s, self.error_on_close = pause_s, error_on_close
        self.ready = threading.Event()
        self.ready.set()
        self.configs, self.threads, self.made = [], [], 0

    def __call__(self, config):
        self.configs.append(config)
        self.threads.append(threading.current_thread())
        self.ready.wait(10)
        yield Progress("preparing", 1, 1)
        history, example, steps = (), None, self.epochs * self.steps_per_epoch
        config.output.parent.mkdir(parents=True, exist_ok=True)
        try:
            for step in range(1, steps + 1):
                time.sleep(self.pause_s)
                if step == self.error_at and self.error:
                    raise self.error
                if step % self.steps_per_epoch == 0:
                    epoch = step // self.steps_per_epoch
                    history = (*history, Epoch(epoch, 1 / epoch, 1.1 / epoch))
                    hde = np.linspace(0, 2, SHAPE[0] * SHAPE[1], dtype=np.float32).reshape(SHAPE)
                    example = Example(2 * hde, hde + epoch, hde)
                    config.output.write_bytes(b"weights")
                self.made = step
                yield Progress(
                    "training", step, steps, -(-step // self.steps_per_epoch), self.epochs, 1 / step,
                    history, example, 1.0, notes=("one pair left out",),
                )  # fmt: skip
        except GeneratorExit:
            if self.error_on_close:
                raise self.error_on_close from None
            saved.state_of(config.output).write_bytes(b"state")
            raise


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The user's models."""
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("LOWDOSE_TEM_MODELS", str(folder))
    return folder


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def make(viewer, qtbot):
    made = []

    def make(iter_train=None, **options):
        control = TrainControl(viewer, iter_train or FakeTraining(**options))
        made.append(control)
        return control

    yield make
    for control in made:
        control.close()
        qtbot.waitUntil(lambda control=control: not control.state.running, timeout=LONG)


def wait_end(qtbot, control):
    qtbot.waitUntil(lambda: not control.state.running, timeout=LONG)


def test_trains_as_chosen_and_shows_how_it_learns(qtbot, make, folder):
    fake = FakeTraining()
    control = make(fake)
    state = control.state
    assert Path(state.start).stem == "default"  # fine-tuning is the usual thing
    control.choose_name("mine")
    control.choose_recipe("paper")
    control.set_minutes(25)
    control.set_seed(7)
    control.set_batch(2)
    control.set_hde_factor(4)
    control.choose_device("cpu")
    control.train()
    assert state.running
    assert "mine" in state.summary_text
    wait_end(qtbot, control)
    (config,) = fake.configs
    assert config == TrainConfig(
        SIMULATOR, folder / "mine.safetensors", replace(TRAIN_RECIPES["paper"], batch=2),
        start="default", hde_factor=4, minutes=25.0, seed=7, device="cpu",
    )  # fmt: skip
    assert fake.threads[0] is not threading.main_thread()
    assert not state.is_error
    assert "best 0.11 in epoch 10" in state.message
    assert "mine" in state.message
    assert state.curves.epochs == tuple(range(1, 11))
    assert state.curves.step_epochs[-1] == 10
    assert state.notes == ("one pair left out",)
    assert state.validation.epoch == 10
    assert state.share_done == 1
    assert state.saved == folder / "mine.safetensors"
    assert not state.stopped  # it is complete


def test_epochs_replace_the_time(qtbot, make):
    fake = FakeTraining()
    control = make(fake)
    control.choose_start("")
    control.set_epochs(12)
    control.train()
    wait_end(qtbot, control)
    assert fake.configs[0].minutes is None
    assert fake.configs[0].recipe.epochs == 12
    assert fake.configs[0].start is None


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ValueError("no usable pair is left")])
@pytest.mark.filterwarnings("default")
def test_every_error_is_told(qtbot, make, error):
    control = make(error=error)
    control.train()
    wait_end(qtbot, control)
    assert control.state.is_error
    assert str(error) in control.state.message
    assert ("smaller batch" in control.state.message) == isinstance(error, RuntimeError)
    assert control.state.curves.epochs == (1,)  # what was learnt stays in sight


def test_pause_waits_and_goes_on(qtbot, make):
    fake = FakeTraining(pause_s=0.02)
    control = make(fake)
    control.train()
    qtbot.waitUntil(lambda: fake.made > 4)
    control.training.pause()
    assert control.state.waiting
    qtbot.wait(100)
    made = fake.made
    qtbot.wait(200)
    assert fake.made == made < 40
    control.training.pause()
    assert not control.state.waiting
    wait_end(qtbot, control)
    assert fake.made == 40


def test_stop_saves_the_state_and_resume_goes_on(qtbot, make, viewer):
    fake = FakeTraining(pause_s=0.02)
    control = make(fake)
    control.choose_name("mine")
    control.train()
    qtbot.waitUntil(lambda: fake.made > 4)
    control.training.pause()
    control.training.stop()  # also while it waits
    assert control.state.stopping
    wait_end(qtbot, control)
    state = control.state
    assert fake.made < 40
    assert "state is saved" in state.message
    assert f"after step {fake.made} " in state.message
    assert not state.waiting
    assert [Path(path).name for path, _ in state.stopped] == ["mine.safetensors"]
    control.close()

    again = FakeTraining()
    control = make(again)  # another day
    assert Path(control.state.chosen_stopped).name == "mine.safetensors"
    control.resume()
    wait_end(qtbot, control)
    assert again.configs[0].resume
    assert again.configs[0].output == fake.configs[0].output
    assert not control.state.stopped


def test_stop_too_late_is_finished(qtbot, make):
    fake = FakeTraining()
    control = make(fake)
    control.train()
    qtbot.waitUntil(lambda: fake.made > 30)
    control.training.pause()
    qtbot.waitUntil(lambda: control.training._last is not None)
    last = replace(control.training._last, step=40, steps=40)
    control.training._on_cancelled(last)  # as the job tells when its last step was made
    assert "Trained 10 epochs" in control.state.message


def test_state_that_cannot_be_saved_is_an_error(qtbot, make):
    fake = FakeTraining(pause_s=0.02, error_on_close=OSError(28, "No space left on device", "mine.state"))
    control = make(fake)
    control.train()
    qtbot.waitUntil(lambda: fake.made > 2)
    control.training.stop()
    wait_end(qtbot, control)
    assert control.state.is_error
    assert "Make room" in control.state.message


def test_stop_while_preparing_says_that_nothing_is_saved(qtbot, make):
    fake = FakeTraining()
    fake.ready.clear()
    control = make(fake)
    control.train()
    qtbot.waitUntil(lambda: bool(fake.configs))
    control.training.stop()
    fake.ready.set()
    wait_end(qtbot, control)
    assert "nothing new to save" in control.state.message
    assert not control.state.stopped


def test_closing_ends_the_training_and_saves_it(qtbot, make, folder):
    fake = FakeTraining(pause_s=0.02)
    control = make(fake)
    control.choose_name("mine")
    control.train()
    qtbot.waitUntil(lambda: fake.made > 1)
    control.close()
    wait_end(qtbot, control)
    assert (folder / "mine.state").exists()


def test_validation_frame_goes_into_layers_that_follow_the_training(qtbot, make, viewer):
    fake = FakeTraining(pause_s=0.02)
    control = make(fake)
    control.choose_name("mine")
    control.add_validation_layers()
    assert not viewer.layers  # there is none yet
    control.train()
    qtbot.waitUntil(lambda: control.state.validation is not None)
    control.add_validation_layers()
    hde, lde, output = viewer.layers
    assert [layer.name for layer in viewer.layers] == ["mine HDE", "mine LDE", "mine output"]
    assert control.state.validation.limits == limits_of(hde.data)
    assert hde.contrast_limits == lde.contrast_limits == output.contrast_limits
    assert is_output(output)
    assert not is_output(lde)
    viewer.layers.remove(hde)
    wait_end(qtbot, control)
    np.testing.assert_array_equal(output.data, control.state.validation.output)
    np.testing.assert_allclose(output.data - lde.data / 2, 10, atol=1e-5)
    assert output.metadata["lowdose_tem"]["provenance"]["enhanced"]["epoch"] == 10
    assert len(viewer.layers) == 2
    control.add_validation_layers()
    assert len(viewer.layers) == 3


def test_names_are_proposed_and_checked(make, folder, tmp_path):
    control = make()
    state = control.state
    assert state.name == "simulated"
    control.choose_data(str(tmp_path / "gold & copper"))
    assert state.name == "gold-copper"
    (folder / "gold-copper.state").write_bytes(b"")
    control.choose_data(SIMULATOR)
    control.choose_data(str(tmp_path / "gold & copper"))
    assert state.name == "gold-copper-2"
    for name in ("default", "a/b", "x.last", "../x"):
        control.choose_name(name)
        assert not state.name_ok, name
        assert control.why_not() == state.output_text
        control.train()
        assert not state.running
        assert state.is_error
    control.choose_name("gold-copper")
    assert state.name_ok
    assert control.would_overwrite()
    assert "earlier training" in state.output_text
    control.choose_data(SIMULATOR)
    assert state.name == "gold-copper"  # the user's own
    control.choose_name("")
    assert state.name == "simulated"


def check(findings, pause_s=0.0):
    def iter_check(data, factor):
        for done in range(1, 4):
            time.sleep(pause_s)
            yield CheckResult(done / 3, tuple(findings), f"{done} fields")

    return iter_check


@pytest.mark.parametrize("severity", ["error", "warning"])
def test_errors_of_the_data_forbid_training_warnings_do_not(qtbot, make, tmp_path, severity):
    control = make()
    state = control.state
    control.choose_data(str(tmp_path))
    control.data_check._iter_check = check([FindingRow(severity, "a.tif", "too small")])
    control.data_check.start()
    assert state.checking
    qtbot.waitUntil(lambda: not state.checking)
    assert state.check_text == "3 fields"
    assert state.findings == (FindingRow(severity, "a.tif", "too small"),)
    control.train()
    assert state.running == (severity == "warning")
    wait_end(qtbot, control)
    control.choose_data(SIMULATOR)
    assert not state.findings
    assert not control.why_not()


def test_a_check_that_fails_is_an_error_and_one_of_other_data_is_forgotten(qtbot, make, tmp_path):
    control = make()
    state = control.state

    def fails(data, factor):
        raise ValueError(f"{data}: no such folder")
        yield

    control.choose_data("elsewhere")
    control.data_check._iter_check = fails
    control.data_check.start()
    qtbot.waitUntil(lambda: not state.checking)
    assert state.findings == (FindingRow("error", "", "elsewhere: no such folder"),)
    control.data_check._iter_check = check([FindingRow("error", "", "old")], pause_s=0.05)
    control.data_check.start()
    control.choose_data(str(tmp_path))
    qtbot.wait(300)
    assert not state.findings
    assert not state.checking


def test_models_of_a_running_training_are_not_listed_twice(make, folder, tiny_model):
    for name in ("mine", "mine.last"):
        (folder / f"{name}.safetensors").write_bytes(tiny_model.read_bytes())
    labels = [label for _, label in make().state.models]
    assert "mine" in labels
    assert "mine.last" not in labels


def test_a_start_with_another_network_says_which_is_kept(make):
    control = make()
    control.choose_recipe("paper")
    assert "network of this model is kept" in control.state.start_text
    control.choose_recipe("default")
    assert "network of this model is kept" not in control.state.start_text
    control.choose_start("nonesuch.safetensors")
    assert control.state.is_error
    assert Path(control.state.start).stem == "default"


def test_choosing_a_model_finds_its_stopped_training(make, tmp_path, tiny_model):
    path = tmp_path / "elsewhere" / "mine.safetensors"
    path.parent.mkdir()
    path.write_bytes(tiny_model.read_bytes())
    (path.parent / "mine.state").write_bytes(b"")
    control = make()
    assert not control.state.stopped
    control.choose_start(str(path))
    assert control.state.chosen_stopped == str(path)
    control.reload_models()
    control.choose_recipe("paper")  # it is still known
    assert control._start() == str(path)


@pytest.mark.slow
def test_real_training_is_stopped_and_resumed(qtbot, make, folder, monkeypatch):
    small = {"name": "light-unet", "channels": [8, 8, 8, 8, 8]}
    recipe = replace(TRAIN_RECIPES["default"], architecture=small, crop_px=64, epochs=2, steps_per_epoch=3)
    monkeypatch.setitem(train_control.TRAIN_RECIPES, "default", recipe)
    control = make(run.iter_steps)
    control.choose_start("")
    control.choose_name("mine")
    control.set_epochs(2)
    control.set_batch(2)
    control.choose_device("cpu")
    control.train()
    qtbot.waitUntil(lambda: control.state.share_done > 0 or control.state.is_error, timeout=LONG)
    control.training.stop()
    wait_end(qtbot, control)
    assert "state is saved" in control.state.message, control.state.message
    control.close()

    control = make(run.iter_steps)
    control.resume()
    wait_end(qtbot, control)
    state = control.state
    assert not state.is_error, state.message
    assert state.curves.epochs == (1, 2)
    assert state.validation.hde.shape == (64, 64)
    assert find_model("mine").info.training["batch"] == 2


def test_a_damaged_state_is_told_in_one_line(qtbot, make, folder):
    (folder / "mine.state").write_bytes(b"not a state")
    control = make(run.iter_steps)
    control.resume()
    wait_end(qtbot, control)
    assert control.state.is_error
    assert "damaged" in control.state.message
