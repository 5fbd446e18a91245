"""The data sets of the paper: their parts, their names and how many images they hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_lowdose_tem.pairs import Field
from napari_lowdose_tem.reproduce.published import MATERIALS

Progress = tuple[float, float]
"""Done and total of a part of the report."""

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
