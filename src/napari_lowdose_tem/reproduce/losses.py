"""Fig. 2: training and validation loss, from the log of a training."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("losses.csv")
"""Log of the recipe `paper` on a reduced set, made by `COMMANDS` and stopped after epoch 80."""

COMMANDS = (
    "lowdose-tem simulate -o set --preset paper --fraction 0.05 --lde-size 128 --hde-size 512",
    "lowdose-tem train set/training --validation set/validation -o paper.safetensors --recipe paper",
)
_SHOWN = (1, 2, 5, 10, 20, 50, 80, 100, 200, 500, 900)


def read_losses(path: Path) -> tuple[dict[str, Any], list[list[float]]]:
    """Read the log of a training, as `lowdose-tem train` writes it.

    Returns
    -------
    values
        JSON values: `rows` of epoch, training and validation loss for some epochs, the one of the lowest
        validation loss, and the one from which on the validation loss stays above the training loss.
    curve
        All rows.

    Raises
    ------
    ValueError
        For a file that is no such log.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                (int(row["epoch"]), float(row["training"]), float(row["validation"]))
                for row in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError):
        rows = []
    if not rows:
        raise ValueError(
            f"{path}: no losses of a training; give the MODEL.losses.csv that lowdose-tem train writes"
        )
    best = min(rows, key=lambda row: row[2])
    values = {
        "epochs": len(rows),
        "best_epoch": best[0],
        "parting_epoch": find_parting(rows),
        "rows": [list(row) for row in rows if row[0] in _SHOWN or row in (rows[-1], best)],
    }
    return values, [list(row) for row in rows]


def find_parting(curve: Sequence[Sequence[float]], window: int = 10) -> int | None:
    """Return the epoch from which on the validation loss stays above the training loss, in moving means."""
    gaps = [row[2] - row[1] for row in curve]
    means = [sum(gaps[i : i + window]) / len(gaps[i : i + window]) for i in range(len(gaps))]
    behind = [i for i, gap in enumerate(means) if gap <= 0]
    first = behind[-1] + 1 if behind else 0
    return int(curve[first][0]) if first < len(curve) - window else None
