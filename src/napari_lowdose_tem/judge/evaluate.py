"""Score a model on high/low-dose pairs, as Table 2 of Katsuno et al. 2021 and more tolerant of scale.

Per low-dose frame the high-dose frame is brought to its grid (reduced, registered) and scaled to 0…1 by its
minimum and maximum. MAE and PSNR (peak 1) are those of the output on that scale, its mean brought to the
reference's: the output of the paper is on the reference's scale too, not stretched by itself (in its Fig. 5d
it ends at 0.15 and 0.8). They are also given with the output stretched by its own extremes, where two pixels
decide about all others, and, with SSIM, after fitting the output to the reference by a least-squares line.
Particles invented and missed are counted by the rule of `particles.find`, against the simulator's truth where
truth.json lies beside the frames, else against what the same rule finds in the high-dose frame.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from dataclasses import fields as fields_of
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.judge.metrics import mae, match_affine, psnr, scale_to_level, scale_to_unit, ssim
from napari_lowdose_tem.pairs import Field, find_fields, load_field
from napari_lowdose_tem.particles.find import Detection, find_particles
from napari_lowdose_tem.particles.match import Match, match_particles, read_truth

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.device import Device
    from napari_lowdose_tem.network.model_file import Model


@dataclass(frozen=True)
class PairScore:
    """Errors of one output in units of the reference's range; PSNR [dB]."""

    mae: float
    psnr: float
    stretched_mae: float
    stretched_psnr: float
    affine_mae: float
    affine_psnr: float
    ssim: float


_SCORES = [entry.name for entry in fields_of(PairScore)]


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredFrame:
    """A low-dose frame with its output and reference, (rows, columns), its scores and its particles.

    `pixel_size_nm` is that of the low-dose frame [nm/px], or None.
    """

    set_name: str
    path: Path
    hde: npt.NDArray[Any]
    lde: npt.NDArray[Any]
    output: npt.NDArray[Any]
    score: PairScore
    match: Match
    pixel_size_nm: float | None


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation over `n` outputs; None where there is none.

    `invented_mean` and `missed_mean` are numbers of particles a frame.
    """

    n: int
    mae_mean: float | None
    mae_sd: float | None
    psnr_mean: float | None
    psnr_sd: float | None
    stretched_mae_mean: float | None
    stretched_psnr_mean: float | None
    affine_mae_mean: float | None
    affine_psnr_mean: float | None
    ssim_mean: float | None
    invented_mean: float
    missed_mean: float


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
    frame: ScoredFrame
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
    device: str | Device = "auto",
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
        As `Engine` takes it.
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
    from napari_lowdose_tem.engine.engine import Engine

    fields = find_fields(folder)
    total, done = sum(len(field.ldes) for field in fields), 0
    scores: dict[str, list[PairScore]] = {field.set_name: [] for field in fields}
    matches: dict[str, list[Match]] = {field.set_name: [] for field in fields}
    with Engine(model, device) as engine:
        for field in fields:
            loaded = load_field(field, reduction, register)
            if not np.nanmax(loaded.reference) > np.nanmin(loaded.reference):
                raise ValueError(f"{field.hde}: all pixels are equal; a reference needs contrast")
            pixel_nm = math.sqrt(math.prod(loaded.pixel_size_nm)) if loaded.pixel_size_nm else None
            for pair in loaded.pairs:
                lde = Image(pair.counts, counts_per_electron=loaded.counts_per_electron, name=pair.path.stem)
                output = engine.enhance(pair.counts, engine.measure(lde))
                truth = _find_truth(field, pair.path)
                frame = ScoredFrame(
                    set_name=field.set_name,
                    path=pair.path,
                    hde=pair.reference,
                    lde=pair.counts,
                    output=output,
                    score=score_output(output, pair.reference),
                    match=compare_particles(output, pair.reference, pixel_nm, truth, pair.counts),
                    pixel_size_nm=pixel_nm,
                )
                scores[field.set_name].append(frame.score)
                matches[field.set_name].append(frame.match)
                done += 1
                result = _conclude(engine.model.file.label, scores, matches) if done == total else None
                yield EvaluateProgress(done, total, frame, result)


def score_output(output: npt.ArrayLike, reference: npt.ArrayLike) -> PairScore:
    """Compare an output with its reference, both (rows, columns) on one grid.

    Each is in its own unit with the same zero, as counts of different doses are. Pixels that are not finite
    in both are left out. Without a mean above zero the level is that of the stretched output.
    """
    level, target = scale_to_level(output, reference)
    raw = np.where(np.isfinite(target), np.asarray(output, np.float64), np.nan)
    stretched = scale_to_unit(raw)
    matched = match_affine(raw, target)
    return PairScore(
        mae=mae(level, target),
        psnr=psnr(level, target, 1.0),
        stretched_mae=mae(stretched, target),
        stretched_psnr=psnr(stretched, target, 1.0),
        affine_mae=mae(matched, target),
        affine_psnr=psnr(matched, target, 1.0),
        ssim=ssim(matched, target, 1.0),
    )


def compare_particles(
    output: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    pixel_size_nm: float | None = None,
    truth: Sequence[Detection] | None = None,
    counts: npt.NDArray[Any] | None = None,
) -> Match:
    """Find particles in an output and tell which are real, and which are missed.

    Parameters
    ----------
    output, reference
        On one grid (rows, columns) [counts].
    pixel_size_nm
        Sampling [nm/px], or None.
    truth
        The particles there are; those found in the reference where None, and only where it covers the output.
    counts
        The low-dose frame; what it does not support does not count as found, as in `find_particles`.
    """
    if truth is None:
        output = np.where(np.isfinite(reference), output, np.nan)
        truth = find_particles(reference, pixel_size_nm)
    found = find_particles(output, pixel_size_nm, counts=counts)
    return match_particles(found, truth, (output.shape[0], output.shape[1]))


def _find_truth(field: Field, path: Path) -> list[Detection] | None:
    """Return the simulator's particles where they are in a low-dose frame; None without its truth.json."""
    if field.lde_region is not None:
        return None
    known = _load_truth(path.parent / "truth.json")
    try:
        pixel_nm = known["lde"]["pixel_size_nm"]
        for entry in known["fields"]:
            for lde in entry["lde"]:
                if lde["file"] == path.name:
                    row, col = lde["shift_px"]
                    return [
                        Detection(p.row_px + row, p.col_px + col, p.diameter_px, p.depth)
                        for p in read_truth(entry["particles"], pixel_nm)
                    ]
    except (KeyError, TypeError, ValueError):
        return None  # another program's truth.json
    return None


@lru_cache(maxsize=2)
def _load_truth(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _conclude(model: str, scores: dict[str, list[PairScore]], matches: dict[str, list[Match]]) -> Evaluation:
    sets = {name: _summarise(entries, matches[name]) for name, entries in scores.items()}
    pooled = _summarise(
        [score for entries in scores.values() for score in entries],
        [match for entries in matches.values() for match in entries],
    )
    return Evaluation(model, sets, pooled)


def _summarise(scores: Sequence[PairScore], matches: Sequence[Match]) -> Summary:
    table = np.array([astuple(score) for score in scores])
    with np.errstate(invalid="ignore"):  # equal images have an infinite PSNR
        mean = dict(zip(_SCORES, map(_finite, table.mean(0)), strict=True))
        sd = dict.fromkeys(_SCORES, None)
        if len(scores) > 1:
            sd = dict(zip(_SCORES, map(_finite, table.std(0, ddof=1)), strict=True))
    return Summary(
        n=len(scores),
        mae_mean=mean["mae"],
        mae_sd=sd["mae"],
        psnr_mean=mean["psnr"],
        psnr_sd=sd["psnr"],
        stretched_mae_mean=mean["stretched_mae"],
        stretched_psnr_mean=mean["stretched_psnr"],
        affine_mae_mean=mean["affine_mae"],
        affine_psnr_mean=mean["affine_psnr"],
        ssim_mean=mean["ssim"],
        invented_mean=float(np.mean([len(match.invented) for match in matches])),
        missed_mean=float(np.mean([len(match.missed) for match in matches])),
    )


def _finite(value: np.floating[Any]) -> float | None:
    """JSON knows no infinity, the PSNR of a perfect copy."""
    return float(value) if np.isfinite(value) else None
