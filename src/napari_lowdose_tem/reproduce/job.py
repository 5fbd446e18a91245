"""The whole reproduction, part by part: what is finished and whose inputs are unchanged is kept."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_lowdose_tem import __version__
from napari_lowdose_tem.io.output import write_text
from napari_lowdose_tem.network.model_file import DEFAULT_MODEL, find_model, measure_sha256
from napari_lowdose_tem.reproduce import losses
from napari_lowdose_tem.reproduce.data import Progress, find_parts
from napari_lowdose_tem.reproduce.published import PUBLISHED
from napari_lowdose_tem.reproduce.report import write_report
from napari_lowdose_tem.reproduce.sets import iter_sets
from napari_lowdose_tem.simulate.dataset import round_numbers

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.device import Device

REPORT, NUMBERS, IMAGES = "reproduction.md", "reproduction.json", "images"

_TIMED_MODELS = (DEFAULT_MODEL, "paper")
_DIGITS = 6
_PRECISION = "float32"

Q = TypeVar("Q")
R = TypeVar("R")
Work = Generator[Progress, None, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is made: fields, pixels, exposures, frames timed."""

    fraction: float
    lde_px: int
    hde_px: int
    example_fine: int
    repeats: int
    timed: int

    @property
    def hde_dose_e_per_px(self) -> float:
        """High dose that gives a low-dose pixel's area 64,000 e-, as the paper's [e-/px]."""
        return 64_000.0 * (self.lde_px / self.hde_px) ** 2


# an odd number of repeats: one exposure is the middle one
FULL = Size(fraction=1.0, lde_px=512, hde_px=4096, example_fine=8, repeats=61, timed=100)
QUICK = Size(fraction=1e-6, lde_px=256, hde_px=1024, example_fine=4, repeats=5, timed=3)


@dataclass(frozen=True)
class ReproduceJob:
    """What to make.

    Parameters
    ----------
    out
        Folder for reproduction.md, reproduction.json and images/.
    quick
        A few small fields instead of the paper's numbers of images.
    data
        Folder of recorded sets in the authors' layout, with folders training and validation if it holds both;
        None simulates the validation set.
    model, device
        As `Engine` takes them. All but Table 3 is computed in float32, for numbers that do not depend on the
        processor.
    work
        Folder for simulated frames and finished parts; None for a folder work in `out`.
    training_log
        Losses of a training for Fig. 2, as `lowdose-tem train` writes them; None for the stored one.
    seed
        Of specimens and noise.
    again
        Make finished parts again.
    """

    out: Path
    quick: bool = False
    data: Path | None = None
    model: str | Path = DEFAULT_MODEL
    device: str = "auto"
    work: Path | None = None
    training_log: Path | None = None
    seed: int = 0
    again: bool = False

    @property
    def size(self) -> Size:
        """How much is made."""
        return QUICK if self.quick else FULL

    @property
    def work_folder(self) -> Path:
        """Where simulated frames and finished parts are kept."""
        return self.work or self.out / "work"


@dataclass(frozen=True)
class ReproduceStep:
    """Progress: part `index` of `parts`, `done` of `total` in it; the numbers come with the last step."""

    part: str
    index: int
    parts: int
    done: float
    total: float
    result: dict[str, Any] | None = None


def reproduce(job: ReproduceJob) -> dict[str, Any]:
    """Make the report; return its numbers."""
    result = None
    for step in iter_reproduce(job):
        result = step.result
    if result is None:
        raise ValueError("the reproduction ended without a result")
    return result


def iter_reproduce(job: ReproduceJob) -> Iterator[ReproduceStep]:
    """Make Figs. 2 to 7 and Tables 1 to 3, each beside the paper's, as one report.

    Everything random is seeded. A job that was stopped goes on with the part it was in.

    Raises
    ------
    ValueError
        For data that is not laid out as the authors', an unknown model or device, and a file that is no
        training log.
    """
    model = find_model(job.model)
    if job.data is not None:
        from napari_lowdose_tem.pairs import find_fields

        find_fields(find_parts(job.data)[1])  # say at once what is wrong with it
    (job.out / IMAGES).mkdir(parents=True, exist_ok=True)
    parts = _list_parts(job)
    result: dict[str, Any] = {
        "program": f"napari-lowdose-tem {__version__}",
        "versions": {"python": platform.python_version(), **{n: version(n) for n in ("numpy", "torch")}},
        "quick": job.quick,
        "data": None if job.data is None else job.data.resolve().name,
        "model": {"name": model.label, "version": model.info.version, "sha256": model.sha256},
        "seed": job.seed,
        "images": IMAGES,
        "published": PUBLISHED,
    }
    for index, (name, (inputs, images, work)) in enumerate(parts.items()):
        place = job.work_folder / "parts" / f"{name}{'-quick' if job.quick else ''}.json"
        inputs = {"program": __version__, "model": model.sha256, "seed": job.seed, **inputs}
        values = None if job.again else _load(place, inputs, [_image(job, image) for image in images])
        if values is None:
            step = partial(ReproduceStep, name, index, len(parts))
            values = round_numbers((yield from _follow(work(), step)), _DIGITS)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_text(place, json.dumps({"inputs": inputs, "values": values}, allow_nan=False))
        result |= values
        yield ReproduceStep(name, index + 1, len(parts), 1, 1)
    result = json.loads(json.dumps(result, allow_nan=False))
    write_text(job.out / NUMBERS, json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    write_text(job.out / REPORT, write_report(result))
    yield ReproduceStep("report", len(parts), len(parts), 1, 1, result)


def _list_parts(job: ReproduceJob) -> dict[str, tuple[dict[str, Any], list[str], Callable[[], Work]]]:
    """Parts in their order: what they depend on, the images they draw, and the work."""
    log = job.training_log or losses.STORED
    size, device = job.size, {"device": job.device, "precision": _PRECISION}
    if job.data is None:
        sets = {"lde_px": size.lde_px, "hde_px": size.hde_px, "fraction": size.fraction, **device}
        example: dict[str, Any] = {"fine": size.example_fine, "draws": size.repeats, **device}
    else:
        sets = example = {"files": _describe_files(job.data), **device}
    drawn = ["fig4", "fig5", *(("fig6", "fig7") if job.data is None else ())]  # data may hold no such lines
    parts: dict[str, tuple[dict[str, Any], list[str], Callable[[], Work]]] = {
        "losses": ({"log": measure_sha256(log)}, ["fig2"], lambda: _iter_losses(job, log)),
        "sets": (sets, ["fig3"], lambda: _iter_sets(job)),
        "example": (example, drawn, lambda: _iter_example(job)),
    }
    parts["timing"] = ({"frames": size.timed, "device": job.device}, [], lambda: _iter_timing(job))
    return parts


def _choose_device(job: ReproduceJob) -> Device:
    from napari_lowdose_tem.engine.device import choose_device

    return choose_device(job.device, _PRECISION)


def _image(job: ReproduceJob, name: str) -> Path:
    return job.out / IMAGES / f"reproduction-{name}.png"


def _iter_losses(job: ReproduceJob, log: Path) -> Work:
    from napari_lowdose_tem.reproduce.draw import draw_losses

    yield 0, 1
    found, curve = losses.read_losses(log)
    draw_losses(_image(job, "fig2"), curve, found["best_epoch"])
    return {"fig2": {**found, "stored": job.training_log is None}}


def _iter_sets(job: ReproduceJob) -> Work:
    data, size = job.data, job.size
    if data is None:
        from napari_lowdose_tem.simulate import iter_paper_dataset

        data = job.work_folder / f"data-{'quick' if job.quick else 'full'}-{job.seed}"
        steps = iter_paper_dataset(
            data, size.fraction, ["validation"], seed=job.seed, lde_px=size.lde_px, hde_px=size.hde_px,
            hde_dose_e_per_px=size.hde_dose_e_per_px, resume=True,
        )  # fmt: skip
        for step in steps:
            yield step.done, 3 * step.total  # a field, then its two low-dose frames
        data = data / "validation"
    ahead = 0.5 if job.data is None else 0.0  # fields simulated, as a share of the frames
    scoring = iter_sets(data, str(job.model), _choose_device(job), _image(job, "fig3"))
    return (yield from _follow(scoring, lambda done, n: (ahead * n + done, (1 + ahead) * n)))


def _iter_example(job: ReproduceJob) -> Work:
    from napari_lowdose_tem.engine.engine import Engine
    from napari_lowdose_tem.reproduce import draw, example, histograms, lines

    values: dict[str, Any] = {}
    draws = job.size.repeats
    yield 0, draws + 1
    with Engine(job.model, _choose_device(job)) as engine:
        if job.data is None:
            repeating = lines.iter_repeats(engine, draws, job.seed)
            repeats = yield from _follow(repeating, lambda done, total: (done, total + 1))
            values["repeats"] = repeats
            shown = example.make_example(engine, job.seed, repeats["typical"], job.size.example_fine)
        else:
            shown = example.read_example(engine, job.data)
    found = lines.measure_lines(shown)
    counted = histograms.make_histograms(shown)
    numbers = histograms.collect_histogram_numbers(shown, counted)
    draw.draw_field(_image(job, "fig4"), shown)
    draw.draw_histograms(_image(job, "fig5"), counted, numbers["unit"])
    for line, figure in (("A–B", "fig6"), ("C–D", "fig7")):
        if line in shown.lines:
            draw.draw_profiles(_image(job, figure), line, shown, found)
    return {
        "example": {"name": shown.name, **numbers},
        "lines": lines.collect_line_numbers(shown, found),
        **values,
    }


def _iter_timing(job: ReproduceJob) -> Work:
    from napari_lowdose_tem.bench import BenchJob, iter_bench

    devices = () if job.device == "auto" else (job.device,)
    models = tuple(dict.fromkeys((str(job.model), *_TIMED_MODELS)))
    rows: list[dict[str, Any]] = []
    for step in iter_bench(BenchJob(devices, models, frames=job.size.timed, stack=False)):
        if step.row is not None:
            rows.append(step.row.to_json())
        if step.result is None:
            yield step.index + step.done / step.total, step.cases
    return {"table3": rows}


def _follow(work: Generator[Progress, None, R], make_step: Callable[..., Q]) -> Generator[Q, None, R]:
    """Pass on the progress of some work as other steps; return what it returns."""
    while True:
        try:
            done, total = next(work)
        except StopIteration as stop:
            result: R = stop.value
            return result
        yield make_step(done, total)


def _describe_files(data: Path) -> list[list[Any]]:
    """Names, sizes and times of the files of a data set."""
    files = sorted(path for path in data.rglob("*") if path.is_file())
    return [
        [path.relative_to(data).as_posix(), path.stat().st_size, path.stat().st_mtime_ns] for path in files
    ]


def _load(place: Path, inputs: dict[str, Any], images: list[Path]) -> dict[str, Any] | None:
    """Load a finished part; None unless it was made from the same inputs and its images are there."""
    try:
        stored = json.loads(place.read_text("utf-8"))
        values = stored["values"] if stored["inputs"] == json.loads(json.dumps(inputs)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(values, dict) or not all(path.exists() for path in images):
        return None
    return values
