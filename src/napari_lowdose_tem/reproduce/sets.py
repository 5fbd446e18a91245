"""Tables 1 and 2 and Fig. 3: the data sets, counted, scored and shown."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.judge.evaluate import ScoredFrame, Summary, iter_evaluate
from napari_lowdose_tem.pairs import Field, find_fields
from napari_lowdose_tem.reproduce.published import MATERIALS

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.device import Device

Progress = tuple[float, float]

_TRAINING = ("training", "train")
_VALIDATION = ("validation", "valid", "val", "test")


def find_parts(data: Path) -> tuple[Path | None, Path]:
    """Find the training and the validation set in a folder; without such folders all of it is validation."""
    if not data.is_dir():
        return None, data
    folders = {place.name.lower(): place for place in sorted(data.iterdir()) if place.is_dir()}
    training = next((folders[name] for name in _TRAINING if name in folders), None)
    validation = next((folders[name] for name in _VALIDATION if name in folders), None)
    if training is not None and validation is None:
        raise ValueError(
            f"{data}: holds {training.name}, but no folder validation; models are scored on that"
        )
    return training, validation or data


def name_set(name: str) -> str:
    """Return the paper's name of a material, whatever the folder's case, or the folder's own."""
    return next((material for material in MATERIALS if material.lower() == name.lower()), name)


def count_images(fields: Sequence[Field]) -> dict[str, int]:
    """Count the low-dose images of each set."""
    counted: dict[str, int] = {}
    for field in fields:
        name = name_set(field.set_name)
        counted[name] = counted.get(name, 0) + len(field.ldes)
    return counted


def sort_sets(names: Sequence[str]) -> list[str]:
    """Put sets into the paper's order, others behind."""
    return sorted(names, key=lambda n: (MATERIALS.index(n) if n in MATERIALS else len(MATERIALS), n))


def iter_sets(
    data: Path, model: str, device: Device, figure: Path
) -> Generator[Progress, None, dict[str, Any]]:
    """Count both parts, score a model on the validation part and draw the first low-dose frame of each set.

    Parameters
    ----------
    data
        As `find_parts` and `find_fields` take it.
    model, device
        As `iter_evaluate` takes them.
    figure
        Where Fig. 3 goes.

    Returns
    -------
    JSON values: `table1`, `table2` and the frames shown as `fig3`.
    """
    from napari_lowdose_tem.reproduce.draw import draw_examples

    training, validation = find_parts(data)
    counts = {"validation": count_images(find_fields(validation))}
    if training is not None:
        counts["training"] = count_images(find_fields(training))
    shown: dict[str, ScoredFrame] = {}
    result = None
    for step in iter_evaluate(validation, model, device):
        shown.setdefault(name_set(step.frame.set_name), step.frame)
        result = step.result
        yield step.done, step.total
    if result is None:
        raise ValueError(f"{validation}: the evaluation ended without a result")
    names = sort_sets(list(shown))
    draw_examples(figure, [shown[name] for name in names], result.model)
    summaries = {name_set(name): summary for name, summary in result.sets.items()}
    every = sort_sets(list({name for part in counts.values() for name in part}))
    return {
        "table1": {
            name: {part: counts.get(part, {}).get(name) for part in ("training", "validation")}
            for name in every
        },
        "table2": {
            **{name: _as_row(summaries[name]) for name in names},
            "all": _as_row(result.overall),
        },
        "fig3": {
            name: {
                "file": shown[name].path.name,
                "mae": shown[name].score.mae,
                "psnr": shown[name].score.psnr,
                "particles": len(shown[name].match.hits) + len(shown[name].match.missed),
                "missed": len(shown[name].match.missed),
                "invented": len(shown[name].match.invented),
                "level_e_per_px": _find_dose(shown[name]),
            }
            for name in names
        },
    }


def _as_row(summary: Summary) -> dict[str, Any]:
    return asdict(summary)


def _find_dose(frame: ScoredFrame) -> float | None:
    """Mean dose of a frame [e-/px], where its file knows the gain."""
    from napari_lowdose_tem.io import read

    gain = read(frame.path).counts_per_electron
    return float(np.nanmean(frame.lde)) / gain if gain else None
