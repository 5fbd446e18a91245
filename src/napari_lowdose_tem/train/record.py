"""What a training leaves behind: two models, the state to go on from, losses as table and figure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from napari_lowdose_tem.io.output import OutputLock, replacing, write_text
from napari_lowdose_tem.network.model_file import SUFFIX
from napari_lowdose_tem.train.config import TrainConfig


@dataclass(frozen=True)
class EpochLosses:
    """Mean absolute errors of an epoch, in units of the network's output, its step size, and time so far."""

    epoch: int
    training: float
    validation: float
    learning_rate: float
    minutes: float


@dataclass(frozen=True)
class Files:
    """Where a training saves; all begin with the model's name."""

    best: Path

    @property
    def last(self) -> Path:
        """Weights of the last step saved."""
        return self._beside(f".last{SUFFIX}")

    @property
    def state(self) -> Path:
        """What is needed to go on."""
        return self._beside(".state")

    @property
    def table(self) -> Path:
        """Losses per epoch."""
        return self._beside(".losses.csv")

    @property
    def figure(self) -> Path:
        """Losses per epoch, drawn."""
        return self._beside(".losses.png")

    def _beside(self, ending: str) -> Path:
        return self.best.with_name(self.best.name.removesuffix(SUFFIX) + ending)

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Keep other trainings from these files.

        Raises
        ------
        ValueError
            When another training holds them.
        """
        with closing(OutputLock(self.best, self._beside(".lock"), writer="training")):
            yield

    def check(self, config: TrainConfig) -> None:
        """Refuse to start where that would fail later or destroy an earlier training."""
        if self.best.suffix != SUFFIX:
            raise ValueError(f"model file {self.best} should end in {SUFFIX}")
        if config.resume:
            if not self.state.is_file():
                raise ValueError(
                    f"{self.state} does not exist: finished or never begun, so there is nothing to resume"
                )
        elif not config.overwrite:
            for path in (self.best, self.state):
                if path.exists():
                    raise ValueError(f"{path} exists already; resume or overwrite it, or choose another name")
        self.best.parent.mkdir(parents=True, exist_ok=True)


def save_state(path: Path, config: TrainConfig, **state: Any) -> None:
    """Save tensors and plain values to go on from."""
    with replacing(path) as partial:
        torch.save({"config": _fingerprint(config), **state}, partial)


def load_state(path: Path, config: TrainConfig) -> dict[str, Any]:
    """Load a saved state.

    Raises
    ------
    ValueError
        When it is damaged, or was saved by a training told otherwise.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        saved, wanted = json.loads(state["config"]), json.loads(_fingerprint(config))
    except (RuntimeError, KeyError, TypeError, ValueError, EOFError, OSError) as err:
        raise ValueError(f"{path} is damaged or no training state; start the training anew") from err
    except Exception as err:
        raise ValueError(f"{path} is no training state of this program") from err
    for key in wanted:
        if saved.get(key) != wanted[key]:
            raise ValueError(
                f"{path.stem} was trained with {key} {_short(saved.get(key))}, not {_short(wanted[key])}; "
                "resume it with the same settings, or choose another name"
            )
    return state


def _fingerprint(config: TrainConfig) -> str:
    """Describe, as JSON, what makes two trainings the same."""
    return json.dumps(
        {k: asdict(config)[k] for k in ("data", "recipe", "validation", "start", "hde_factor", "seed")}
    )


def _short(value: Any) -> str:
    return json.dumps(value)[:200]


def save_losses(files: Files, history: Sequence[EpochLosses]) -> None:
    """Save the losses as CSV and as a figure like Fig. 2 of Katsuno et al. 2021."""
    if not history:
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [f.name for f in fields(EpochLosses)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rounded(asdict(entry)) for entry in history)
    write_text(files.table, text.getvalue())
    with replacing(files.figure) as partial:
        _draw_losses(partial, history)


def _rounded(row: Mapping[str, float]) -> dict[str, float]:
    return {key: value if isinstance(value, int) else float(f"{value:.6g}") for key, value in row.items()}


def _draw_losses(path: Path, history: Sequence[EpochLosses]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    epochs = [entry.epoch for entry in history]
    marker = "o" if len(history) < 3 else ""
    axes.plot(epochs, [entry.training for entry in history], marker=marker, label="training")
    axes.plot(epochs, [entry.validation for entry in history], marker=marker, label="validation")
    axes.set(xlabel="epoch", ylabel="mean absolute error", yscale="log")
    for write in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        write("{x:g}")  # 0.06, not 6 × 10⁻²
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, format="png")
