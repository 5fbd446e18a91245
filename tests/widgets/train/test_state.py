import math
from dataclasses import dataclass

import pytest

from napari_lowdose_tem.train.config import TRAIN_RECIPES
from napari_lowdose_tem.widgets.train.state import (
    RECIPE_TEXTS,
    Curves,
    FindingRow,
    StepLosses,
    TrainState,
    describe_losses,
    describe_notes,
    describe_progress,
    explain,
    sort_findings,
)


@dataclass(frozen=True)
class Progress:
    stage: str = "training"
    step: int = 512
    steps: int = 10_000
    epoch: int = 3
    epochs: int = 40
    seconds_left: float | None = 2040.0
    device: str = "Card (cuda, float16)"


def test_every_recipe_is_explained():
    assert set(RECIPE_TEXTS) == set(TRAIN_RECIPES)


def test_progress_reads_as_a_sentence():
    text = describe_progress(Progress())
    assert text == "Epoch 3 of 40 · step 512 of 10,000 · 34 min left\non Card (cuda, float16)"
    assert describe_progress(Progress(seconds_left=math.nan, device="")).endswith("of 10,000")
    assert (
        describe_progress(Progress("preparing", 2, 9, seconds_left=None, device="")) == "Reading field 2 of 9"
    )


def test_step_losses_stay_few_and_keep_their_mean():
    losses = StepLosses()
    n = 40_000
    for step in range(n):
        losses.add(step / 1000, float(step))
    curves = losses.curves()
    assert 100 < len(curves.step_losses) < 700
    # a straight line stays one: means of equal numbers of neighbours
    for epoch, loss in zip(curves.step_epochs, curves.step_losses, strict=True):
        assert loss == pytest.approx(1000 * epoch)
    assert curves.step_epochs[-1] > 0.99 * n / 1000


def test_losses_that_are_none_or_not_finite_are_left_out():
    losses = StepLosses()
    for loss in (None, math.nan, math.inf, 0.25):
        losses.add(1.0, loss)
    assert losses.curves().step_losses == (0.25,)


def test_best_epoch_and_the_axis():
    curves = Curves(epochs=(1, 2, 3, 4), training=(0.4, 0.3, 0.2, 0.1), validation=(0.5, math.nan, 0.3, 0.35))
    assert curves.best == 2
    assert describe_losses(curves) == "Validation loss 0.35, best 0.3 in epoch 3"
    assert not curves.is_wide
    assert Curves(step_epochs=(0.1, 0.2), step_losses=(1.0, 0.1)).is_wide
    assert Curves().best is None
    assert describe_losses(Curves()) == ""


def test_errors_come_first_and_forbid_training():
    findings = [FindingRow(severity, "", "") for severity in ("info", "warning", "error", "warning")]
    assert [f.severity for f in sort_findings(findings)] == ["error", "warning", "warning", "info"]
    state = TrainState(findings=tuple(findings[:2]))
    assert not state.has_errors
    state.findings = tuple(findings)
    assert state.has_errors


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "smaller batch"),
        ("x.state: No space left on device", "Make room"),
        ("no signal", ""),
    ],
)
def test_errors_of_training_say_what_to_do(line, remedy):
    told = explain(line)
    assert line in told
    assert remedy in told
    assert remedy or told == line


def test_many_notes_do_not_fill_the_dock():
    assert describe_notes([f"note {i}" for i in range(20)]).splitlines()[-1] == "… and 14 more"
    assert describe_notes(["one"]) == "one"
