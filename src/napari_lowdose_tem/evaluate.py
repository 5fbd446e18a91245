"""Score a model on high/low-dose pairs, as Table 2 of Katsuno et al. 2021 and more tolerant of scale.

Per low-dose frame the high-dose frame is brought to its grid (reduced, registered). Raw scores: output and
reference each scaled to 0…1 by minimum and maximum, MAE and PSNR with peak 1. Two extreme pixels decide about
that scaling, so MAE, PSNR and SSIM are also given after fitting the output to the reference, still at 0…1, by
a least-squares line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.metrics import mae, match_affine, psnr, scale_to_unit, ssim
from napari_lowdose_tem.pairs import find_fields, load_field

if TYPE_CHECKING:
    from napari_lowdose_tem.model import Model


@dataclass(frozen=True)
class Score:
    """Errors of one output in units of the reference's range; PSNR [dB]."""

    mae: float
    psnr: float
    affine_mae: float
    affine_psnr: float
    ssim: float


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation over `n` outputs; None where there is none."""

    n: int
    mae_mean: float | None
    mae_sd: float | None
    psnr_mean: float | None
    psnr_sd: float | None
    affine_mae_mean: float | None
    affine_psnr_mean: float | None
    ssim_mean: float | None


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model per set and over all outputs."""

    model: str
    sets: dict[str, Summary]
    overall: Summary

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: model, sets (by name) and all."""
        sets = {name: asdict(summary) for name, summary in self.sets.items()}
        return {"model": self.model, "sets": sets, "all": asdict(self.overall)}


@dataclass(frozen=True)
class EvaluateProgress:
    """State after a low-dose frame; `result` comes with the last one."""

    done: int
    total: int
    path: Path
    score: Score
    result: Evaluation | None = None


def evaluate(folder: str | Path, model: Model | str | Path = "default", **options: Any) -> Evaluation:
    """Score a model on a folder of pairs; parameters as `iter_evaluate`."""
    result = None
    for progress in iter_evaluate(folder, model, **options):
        result = progress.result
    if result is None:
        raise ValueError(f"{folder}: the evaluation ended without a result")
    return result


def iter_evaluate(
    folder: str | Path,
    model: Model | str | Path = "default",
    device: str = "auto",
    *,
    reduction: str = "area",
    register: bool = True,
) -> Iterator[EvaluateProgress]:
    """Score a model on pairs in the authors' layout, reporting after every low-dose frame.

    Parameters
    ----------
    folder
        As `find_fields` takes it.
    model
        Loaded model, or the name or path of one.
    device
        As `device.choose_device` takes it.
    reduction
        How a high-dose frame is brought to the low-dose grid, as in `reduce_frame`.
    register
        Undo a drift of up to 8 px between the two, where it can be told; what the high-dose frame then does
        not cover is left out.

    Raises
    ------
    ValueError
        For a folder that is not laid out so, unreadable files, and a high-dose frame without contrast.
    """
    from napari_lowdose_tem.engine import Engine

    fields = find_fields(folder)
    total, done = sum(len(field.ldes) for field in fields), 0
    scores: dict[str, list[Score]] = {field.set_name: [] for field in fields}
    with Engine(model, device) as engine:
        for field in fields:
            loaded = load_field(field, reduction, register)
            if not np.nanmax(loaded.reference) > np.nanmin(loaded.reference):
                raise ValueError(f"{field.hde}: all pixels are equal; a reference needs contrast")
            for pair in loaded.pairs:
                lde = Image(pair.counts, counts_per_electron=loaded.counts_per_electron, name=pair.path.stem)
                output = engine.enhance(pair.counts, engine.measure(lde))
                score = score_output(output, pair.reference)
                scores[field.set_name].append(score)
                done += 1
                result = _conclude(engine.model.file.label, scores) if done == total else None
                yield EvaluateProgress(done, total, pair.path, score, result)


def score_output(output: npt.ArrayLike, reference: npt.ArrayLike) -> Score:
    """Compare an output with its reference, both (rows, columns) on one grid, each in its own unit.

    Pixels that are not finite in both are left out.
    """
    raw, target = np.asarray(output, np.float64), np.asarray(reference, np.float64)
    covered = np.isfinite(raw) & np.isfinite(target)
    raw, target = (scale_to_unit(np.where(covered, pixels, np.nan)) for pixels in (raw, target))
    matched = match_affine(output, target)
    return Score(
        mae=mae(raw, target),
        psnr=psnr(raw, target, 1.0),
        affine_mae=mae(matched, target),
        affine_psnr=psnr(matched, target, 1.0),
        ssim=ssim(matched, target, 1.0),
    )


def _conclude(model: str, scores: dict[str, list[Score]]) -> Evaluation:
    sets = {name: _summarise(entries) for name, entries in scores.items()}
    return Evaluation(model, sets, _summarise([score for entries in scores.values() for score in entries]))


def _summarise(scores: Sequence[Score]) -> Summary:
    table = np.array([astuple(score) for score in scores])
    with np.errstate(invalid="ignore"):  # equal images have an infinite PSNR
        mean = [_finite(value) for value in table.mean(0)]
        sd = [_finite(value) for value in table.std(0, ddof=1)] if len(scores) > 1 else [None] * len(mean)
    mae_mean, psnr_mean, affine_mae_mean, affine_psnr_mean, ssim_mean = mean
    mae_sd, psnr_sd = sd[:2]
    return Summary(
        len(scores), mae_mean, mae_sd, psnr_mean, psnr_sd, affine_mae_mean, affine_psnr_mean, ssim_mean
    )


def _finite(value: np.floating[Any]) -> float | None:
    """JSON knows no infinity, the PSNR of a perfect copy."""
    return float(value) if np.isfinite(value) else None
