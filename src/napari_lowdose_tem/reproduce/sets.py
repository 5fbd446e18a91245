"""Tables 1 and 2 and Fig. 3: the data sets, counted, scored and shown."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.io import read
from napari_lowdose_tem.judge.evaluate import ScoredFrame, iter_evaluate
from napari_lowdose_tem.pairs import find_fields
from napari_lowdose_tem.reproduce.data import Progress, count_images, find_parts, name_set, sort_sets
from napari_lowdose_tem.reproduce.draw import draw_examples

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.device import Device


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
        "table2": {**{name: asdict(summaries[name]) for name in names}, "all": asdict(result.overall)},
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


def _find_dose(frame: ScoredFrame) -> float | None:
    """Mean dose of a frame [e-/px], where its file knows the gain."""
    gain = read(frame.path).counts_per_electron
    return float(np.nanmean(frame.lde)) / gain if gain else None
