"""Every model on every processor, one after another."""

from __future__ import annotations

import math
import platform
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem import __version__
from napari_lowdose_tem.bench.memory import forget_peak, measure_peak_mib
from napari_lowdose_tem.bench.published import GOALS_MS, TABLE3
from napari_lowdose_tem.bench.stack import choose_length, iter_time_stack
from napari_lowdose_tem.bench.timing import Timing, iter_time_frames
from napari_lowdose_tem.network.model_file import DEFAULT_MODEL, ModelFile, find_model, load_model

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.device import Device
    from napari_lowdose_tem.network.model_file import Model

MODELS = ("paper", DEFAULT_MODEL, "fast")
_SMALLEST_PX, _LARGEST_PX = 32, 16_384
_COUNTED_PX = 64
_DIGITS = 6


@dataclass(frozen=True)
class BenchJob:
    """What to time.

    Parameters
    ----------
    devices
        As `device.choose_device` takes them; none for all that work.
    models
        Names or paths.
    precisions
        As `device.choose_device` takes them; none for that of the device, and for OpenVINO all it has.
    shape
        Of the frames (rows, columns) [px].
    frames
        How many are timed.
    stack
        Whether a stack is enhanced from disk to disk, too.
    threads
        Of a CPU; None for torch's own choice.
    """

    devices: tuple[str, ...] = ()
    models: tuple[str | Path, ...] = MODELS
    precisions: tuple[str, ...] = ()
    shape: tuple[int, int] = (512, 512)
    frames: int = 100
    stack: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be timed."""
        if not all(_SMALLEST_PX <= side <= _LARGEST_PX for side in self.shape):
            raise ValueError(
                f"frames of {self.shape[0]} × {self.shape[1]} px; "
                f"give sides of {_SMALLEST_PX} to {_LARGEST_PX} px"
            )
        if self.frames < 2:
            raise ValueError(f"{self.frames} frames to time; give 2 at least")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"{self.threads} threads; give 1 at least")
        if not self.models:
            raise ValueError("no model to time; name one")


@dataclass(frozen=True)
class BenchRow:
    """A model on a processor.

    `rms_error` and `largest_error` are the output's from float32, as shares of its range; `gflop` is the
    arithmetic of one frame [GFLOP], an addition and a multiplication counted as two; `peak_memory_mib` is the
    card's, or the whole process's on a CPU, or None where the system does not tell; `frames_per_s` is that of
    a stack of `stack_frames` from disk to disk, or None.
    """

    device: str
    processor: str
    precision: str
    threads: int | None  # of a CPU
    model: str
    shape: tuple[int, int]
    timing: Timing
    rms_error: float
    largest_error: float
    gflop: float
    peak_memory_mib: float | None
    frames_per_s: float | None = None
    stack_frames: int | None = None

    @property
    def gflop_per_s(self) -> float:
        """Arithmetic reached by the network alone [GFLOP/s]."""
        return 1e3 * self.gflop / self.timing.calc_ms_p50

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; frames are timed one at a time, as `batch` says."""
        values = asdict(self)
        timing = values.pop("timing")
        values |= {"shape": list(self.shape), "batch": 1, **timing, "gflop_per_s": self.gflop_per_s}
        return {key: _round(value) for key, value in values.items()}


@dataclass(frozen=True)
class NotTimed:
    """A processor that was not timed, and why; `model` None stands for all."""

    device: str
    precision: str
    model: str | None
    reason: str

    def __str__(self) -> str:
        """Return `cuda: no NVIDIA card`."""
        precision = "" if self.precision == "auto" else f", {self.precision}"
        model = "" if self.model is None else f", {self.model}"
        return f"{self.device}{precision}{model}: {self.reason}"


@dataclass(frozen=True)
class Bench:
    """All rows, and what was not timed."""

    rows: tuple[BenchRow, ...]
    skipped: tuple[NotTimed, ...]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, the paper's rows included."""
        return {
            "program": f"napari-lowdose-tem {__version__}",
            "versions": {"python": platform.python_version(), **_find_versions()},
            "rows": [row.to_json() for row in self.rows],
            "skipped": [asdict(one) for one in self.skipped],
            "paper": TABLE3,
            "goals_ms": GOALS_MS,
        }


@dataclass(frozen=True)
class BenchStep:
    """Progress: `done` of `total` frames in case `index` of `cases`.

    `row` comes when the case is done, `result` with the last step.
    """

    name: str
    index: int
    cases: int
    done: float
    total: int
    row: BenchRow | None = None
    result: Bench | None = None


def bench(job: BenchJob) -> Bench:
    """Time all; as `iter_bench`, without progress."""
    result = None
    for step in iter_bench(job):
        result = step.result
    if result is None:
        raise ValueError("the timing ended without a result")
    return result


def iter_bench(job: BenchJob) -> Iterator[BenchStep]:
    """Time models on processors, a frame at a time, then as a stack from disk to disk.

    Closing the iterator cancels it between two frames.

    Raises
    ------
    ValueError
        For a model that is unknown, and for a device asked for that does not work; of all devices those that
        do not are told in the result.
    """
    files = [find_model(name) for name in job.models]
    devices, skipped = choose_devices(job)
    cases = [(device, file) for device in devices for file in files]
    rows: list[BenchRow] = []
    with _threads(job.threads):
        for index, (device, file) in enumerate(cases):
            name = f"{file.label}, {device.kind} {device.precision}"
            state = BenchStep(name, index, len(cases), 0, job.frames)
            yield state
            try:
                row = yield from _iter_case(job, device, file, state)
            except (ValueError, RuntimeError, MemoryError) as err:
                reason = str(err).splitlines()[0] if str(err) else "out of memory"
                if job.devices:
                    raise ValueError(f"{name}: {reason}") from err
                skipped.append(NotTimed(device.kind, device.precision, file.label, reason))
                continue
            rows.append(row)
            yield replace(state, done=1, total=1, row=row)
    yield BenchStep("", len(cases), len(cases), 1, 1, result=Bench(tuple(rows), tuple(skipped)))


def choose_devices(job: BenchJob) -> tuple[list[Device], list[NotTimed]]:
    """Choose the devices of a job, in their precisions, and tell why others are left out."""
    from napari_lowdose_tem.engine.device import (
        EIGHT_BITS,
        OPENVINO,
        check_device,
        check_devices,
        choose_device,
    )

    def list_precisions(kind: str) -> tuple[str, ...]:
        if kind == OPENVINO and not job.precisions:
            return "float32", EIGHT_BITS
        return job.precisions or ("auto",)

    if job.devices:
        chosen = [choose_device(kind, p) for kind in job.devices for p in list_precisions(kind)]
        return list(dict.fromkeys(chosen)), []
    devices, skipped = [], []
    for kind in check_devices():
        if not kind.present:
            skipped.append(NotTimed(kind.kind, "auto", None, kind.reason))
            continue
        for precision in list_precisions(kind.kind):
            check = check_device(kind.kind, precision)
            if check.device is None:
                skipped.append(NotTimed(kind.kind, precision, None, check.reason))
            else:
                devices.append(check.device)
    return list(dict.fromkeys(devices)), skipped


def _iter_case(
    job: BenchJob, device: Device, file: ModelFile, state: BenchStep
) -> Generator[BenchStep, None, BenchRow]:
    from napari_lowdose_tem.engine.engine import Engine

    forget_peak(device)
    model = load_model(file)
    with Engine(model, device) as engine:
        timing = yield from _follow(iter_time_frames(engine, job.shape, job.frames), state, 0)
        parity = engine.parity
    row = BenchRow(
        device.kind,
        device.name,
        device.precision,
        _count_threads() if device.on_cpu else None,
        file.label,
        job.shape,
        timing,
        parity.rms,
        parity.largest,
        count_gflop(model, job.shape),
        measure_peak_mib(device),
    )
    if not job.stack:
        return row
    n_frames = choose_length(job.shape, timing.total_ms_p50)
    steps = iter_time_stack(file.path, device, job.shape, n_frames)
    state = replace(state, total=job.frames + n_frames)
    rate = yield from _follow(steps, state, job.frames)
    return replace(row, frames_per_s=rate, stack_frames=n_frames)


def _follow(
    work: Generator[Any, None, Any], state: BenchStep, before: int
) -> Generator[BenchStep, None, Any]:
    while True:
        try:
            done, _ = next(work)
        except StopIteration as stop:
            return stop.value
        yield replace(state, done=before + done)


def count_gflop(model: Model, shape: tuple[int, int]) -> float:
    """Count the arithmetic of a frame (rows, columns) [px], grown to what the network takes [GFLOP]."""
    # by hand: torch's own counter imports Triton, which crashes beside napari's OpenGL
    import torch

    from napari_lowdose_tem.network.networks import STRIDE

    flop = 0

    def count(conv: torch.nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal flop
        flop += 2 * output.numel() * conv.weight[0].numel()

    convs = [module for module in model.network.modules() if isinstance(module, torch.nn.Conv2d)]
    hooks = [conv.register_forward_hook(count) for conv in convs]
    with torch.inference_mode():
        model.network(torch.zeros(1, 1, _COUNTED_PX, _COUNTED_PX))
    for hook in hooks:
        hook.remove()
    area = math.prod(-(-side // STRIDE) * STRIDE for side in shape)
    return float(1e-9 * flop * area / _COUNTED_PX**2)


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    """With so many threads on the CPU; afterwards as many as before."""
    if wanted is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _count_threads() -> int:
    import torch

    return torch.get_num_threads()


def _find_versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "openvino"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _round(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
