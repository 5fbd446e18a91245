"""What the Train dock shows; no Qt, no napari, no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_lowdose_tem.image import F32
from napari_lowdose_tem.train.config import SIMULATOR, Recipe
from napari_lowdose_tem.widgets.shared.durations import duration
from napari_lowdose_tem.widgets.shared.state import DockState

if TYPE_CHECKING:
    from napari_lowdose_tem.train.loop import TrainProgress
    from napari_lowdose_tem.train.record import EpochLosses

SIMULATED = "Simulated specimens (no files needed)"
NEW_WEIGHTS = ""
RECIPE_TEXTS = {
    "default": "Light network; new noise in every frame, your low-dose frames mixed in. The usual choice.",
    "fast": "Half the computing time of Default, slightly less accurate: for slow computers.",
    "paper": "As in Katsuno et al. 2021: recorded pairs, whole frames, ResNet-18 U-Net, 900 epochs. "
    "Slow without a GPU.",
}
_POINTS = 300
_NOTES = 6
_LOG_RATIO = 5.0


@dataclass(frozen=True)
class FindingRow:
    """What a check found, for display: "error", "warning" or "info", where, and what to do about it."""

    severity: str
    where: str
    text: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Curves:
    """Losses so far: those of steps, averaged, at fractions of an epoch, and those of whole epochs."""

    step_epochs: tuple[float, ...] = ()
    step_losses: tuple[float, ...] = ()
    epochs: tuple[int, ...] = ()
    training: tuple[float, ...] = ()
    validation: tuple[float, ...] = ()

    @property
    def best(self) -> int | None:
        """Index of the epoch of smallest validation loss, whose weights are the model."""
        known = [i for i, loss in enumerate(self.validation) if math.isfinite(loss)]
        return min(known, key=lambda i: self.validation[i]) if known else None

    @property
    def is_wide(self) -> bool:
        """Whether the losses span so much that a logarithmic axis shows them better."""
        positive = [v for v in (*self.step_losses, *self.training, *self.validation) if v > 0]
        return len(positive) > 1 and max(positive) > _LOG_RATIO * min(positive)


@dataclass(frozen=True, eq=False, kw_only=True)
class ValidationView:
    """A validation frame (rows, columns) low-dose, as the network makes it, and high-dose; one contrast."""

    lde: F32
    output: F32
    hde: F32
    limits: tuple[float, float]
    epoch: int


@dataclass
class TrainState(DockState):
    """State of the dock, changed by its control only.

    `epochs` and `batch` 0 are the recipe's; `hde_factor` is for high-dose frames alone; `start` "" is new
    weights; `stopped` lists trainings that can be resumed; `saved` is the latest model file of the running or
    last training.
    """

    theme: str = "dark"
    data: str = SIMULATOR
    data_text: str = ""
    checking: bool = False
    share_checked: float = 0.0
    findings: tuple[FindingRow, ...] = ()
    check_text: str = ""
    models: tuple[tuple[str, str], ...] = ()
    start: str = NEW_WEIGHTS
    start_text: str = ""
    recipe: str = "default"
    minutes: int = 60
    epochs: int = 0
    batch: int = 0
    seed: int = 1
    hde_factor: int = 8
    device: str = "auto"
    name: str = ""
    name_ok: bool = True
    output_text: str = ""
    stopped: tuple[tuple[str, str], ...] = ()
    chosen_stopped: str = ""
    running: bool = False
    waiting: bool = False
    stopping: bool = False
    share_done: float = 0.0
    summary_text: str = ""
    progress_text: str = ""
    notes: tuple[str, ...] = ()
    curves: Curves = field(default_factory=Curves)
    validation: ValidationView | None = None
    saved: Path | None = None

    @property
    def has_errors(self) -> bool:
        """Whether the check found what training would stumble over."""
        return any(finding.severity == "error" for finding in self.findings)


class StepLosses:
    """Losses of the steps, averaged so that a few hundred points remain however long the training."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []
        self._open: list[tuple[float, float]] = []
        self._size = 1

    def add(self, epoch: float, loss: float | None) -> None:
        """Add the loss of a step at a fraction of an epoch."""
        if loss is None or not math.isfinite(loss):
            return
        self._open.append((epoch, loss))
        if len(self._open) < self._size:
            return
        self._points.append(_mean(self._open))
        self._open.clear()
        if len(self._points) == 2 * _POINTS:
            self._points = [_mean(self._points[i : i + 2]) for i in range(0, 2 * _POINTS, 2)]
            self._size *= 2

    def curves(self, history: Iterable[EpochLosses] = ()) -> Curves:
        """Return all there is to draw."""
        epochs, losses = zip(*self._points, strict=True) if self._points else ((), ())
        history = list(history)
        return Curves(
            step_epochs=epochs,
            step_losses=losses,
            epochs=tuple(entry.epoch for entry in history),
            training=tuple(entry.training for entry in history),
            validation=tuple(entry.validation for entry in history),
        )


def describe_budget(recipe: Recipe, minutes: float | None) -> str:
    """Return `60 min` or `900 epochs`."""
    return duration(60 * minutes) if minutes is not None else f"{recipe.epochs} epochs"


def describe_data(data: str) -> str:
    """Name of a data source."""
    return "simulated specimens" if data == SIMULATOR else Path(data).name or data


def describe_progress(progress: TrainProgress) -> str:
    """Return `Epoch 3 of 40 · step 512 of 10,000 · 34 min left` and the processor below."""
    if progress.stage == "preparing":
        parts = [f"Reading field {progress.step} of {progress.steps}"]
    else:
        epoch = min(progress.epoch, progress.epochs)
        parts = [
            f"Epoch {epoch} of {progress.epochs}",
            f"step {progress.step:,} of {progress.steps:,}",
        ]
    if progress.seconds_left is not None and math.isfinite(progress.seconds_left):
        parts.append(f"{duration(progress.seconds_left)} left")
    return " · ".join(parts) + (f"\non {progress.device}" if progress.device else "")


def describe_losses(curves: Curves) -> str:
    """Return `Validation loss 0.0312, best 0.0308 in epoch 7`."""
    if curves.best is None:
        return ""
    last, best = curves.validation[-1], curves.validation[curves.best]
    return f"Validation loss {last:.3g}, best {best:.3g} in epoch {curves.epochs[curves.best]}"


def describe_notes(notes: Sequence[str]) -> str:
    """Return the first few notes, one a line, and how many more there are."""
    more = len(notes) - _NOTES
    return "\n".join((*notes[:_NOTES], *([f"… and {more} more"] if more > 0 else [])))


def explain(line: str) -> str:
    """Add to an error line what to do about it, for the errors usual in training."""
    low = line.lower()
    if "out of memory" in low or "memoryerror" in low or "not enough memory" in low:
        return (
            "The processor is out of memory. Choose a smaller batch under Advanced, or close other programs "
            f"that use it. ({line})"
        )
    if "no space left" in low or "disk is full" in low:
        return f"The disk is full. Make room, then resume or train again. ({line})"
    return line


def sort_findings(findings: Sequence[FindingRow]) -> tuple[FindingRow, ...]:
    """Put errors first and remarks last."""
    order = {"error": 0, "warning": 1}
    return tuple(sorted(findings, key=lambda finding: order.get(finding.severity, 2)))


def _mean(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    epochs, losses = zip(*points, strict=True)
    return sum(epochs) / len(epochs), sum(losses) / len(losses)
