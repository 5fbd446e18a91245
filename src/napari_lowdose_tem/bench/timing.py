"""The time a frame takes: on the processor, and from counts in memory to counts in memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.bench.frames import make_frames
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.network.scaling import measure_scaling

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine

    Progress = Generator[tuple[int, int], None, "Timing"]

_WARM_UP = 3
_STREAM_S = 1.0  # how long frames are streamed through a processor that takes several at once
_LONGEST_STREAM = 4096  # batches


@dataclass(frozen=True)
class Timing:
    """Milliseconds a frame, one frame at a time, over `frames` frames.

    `calc` is the network alone, its input on the processor before and its output after; `total` goes from
    counts in memory to counts in memory, with scaling and both transfers. `cpu_ms_mean` is the time of all
    the CPU's threads during `calc`: on a busy machine the better guide; None where another processor works.
    `stream_frames_per_s` is from memory to memory too, with as many frames at once as the processor takes.
    """

    frames: int
    calc_ms_mean: float
    calc_ms_sd: float
    calc_ms_p50: float
    calc_ms_p99: float
    total_ms_mean: float
    total_ms_sd: float
    total_ms_p50: float
    total_ms_p99: float
    cpu_ms_mean: float | None
    stream_frames_per_s: float


def time_frames(engine: Engine, shape: tuple[int, int] = (512, 512), frames: int = 100) -> Timing:
    """Time single frames on an engine; as `iter_time_frames`, without progress."""
    steps = iter_time_frames(engine, shape, frames)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Timing = stop.value
            return result


def iter_time_frames(engine: Engine, shape: tuple[int, int] = (512, 512), frames: int = 100) -> Progress:
    """Time single frames one after another, yielding how many of how many are done.

    Parameters
    ----------
    engine
        Model and processor.
    shape
        (rows, columns) [px]; what the engine cuts into tiles is timed in these tiles.
    frames
        How many are timed, after a few that do not count; the paper takes 100.

    Raises
    ------
    ValueError
        For less than two frames.
    """
    if frames < 2:
        raise ValueError(f"{frames} frames to time; give 2 at least")
    counts = make_frames(shape)
    scaling = engine.measure(Image(counts))  # None: each frame by itself, which then is part of its time
    run_network = _prepare(engine, counts[0])
    calc_ms, total_ms, cpu_ms = [], [], []
    for i in range(-_WARM_UP, frames):
        frame = counts[i % len(counts)]
        total, _ = _measure(partial(engine.enhance, frame, scaling))
        calc, cpu = _measure(run_network)
        if i >= 0:
            total_ms.append(total)
            calc_ms.append(calc)
            cpu_ms.append(cpu)
            yield i + 1, frames
    numbers: dict[str, float] = {}
    for name, values in (("calc", calc_ms), ("total", total_ms)):
        p50, p99 = np.percentile(values, (50, 99))
        found = {"mean": np.mean(values), "sd": np.std(values, ddof=1), "p50": p50, "p99": p99}
        numbers |= {f"{name}_ms_{which}": float(value) for which, value in found.items()}
    stream = _measure_stream(engine, counts) or 1e3 / numbers["total_ms_mean"]
    cpu_ms_mean = float(np.mean(cpu_ms)) if engine.device.on_cpu else None
    return Timing(frames, **numbers, cpu_ms_mean=cpu_ms_mean, stream_frames_per_s=stream)


def _prepare(engine: Engine, counts: npt.NDArray[Any]) -> Callable[[], Any]:
    """Return what runs the network alone on one frame, tile by tile."""
    tiles = engine.cut((counts.shape[0], counts.shape[1]))
    last = tiles[-1].source
    grown = [(0, end.stop - size) for end, size in zip(last, counts.shape, strict=True)]
    padded = np.pad(counts, grown, mode="reflect")[None]
    scalings = [measure_scaling(engine.model.info.recipe, counts)]
    runs = [engine.runner.prepare(padded[:, *tile.source], scalings) for tile in tiles]
    return lambda: [run() for run in runs]


def _measure(work: Callable[[], Any]) -> tuple[float, float]:
    """Time one call: elapsed, and by the CPU [ms]."""
    start, start_cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - start_cpu)


def _measure_stream(engine: Engine, counts: npt.NDArray[Any]) -> float | None:
    """Stream batches through the runner for a second [frames/s]; None where it takes one frame at a time."""
    runner, tiles = engine.runner, engine.cut((counts.shape[1], counts.shape[2]))
    rows, cols = tiles[0].source
    whole = len(tiles) == 1 and (rows.stop, cols.stop) == counts.shape[1:]
    batch = engine.batch_for((counts.shape[1], counts.shape[2]))
    if not whole or (batch == 1 and runner.n_in_flight == 1):
        return None
    some = counts[np.arange(batch) % len(counts)]
    scalings = [measure_scaling(engine.model.info.recipe, counts)] * batch
    waiting: deque[Callable[[], Any]] = deque()
    done, start = 0, time.perf_counter()
    for i in range(_LONGEST_STREAM):
        waiting.append(runner.submit(some, scalings))
        if len(waiting) < max(1, runner.n_in_flight):
            continue
        waiting.popleft()()
        if i < _WARM_UP + runner.n_in_flight:
            done, start = 0, time.perf_counter()
            continue
        done += batch
        if time.perf_counter() - start > _STREAM_S:
            break
    rate = done / (time.perf_counter() - start)
    for wait in waiting:
        wait()
    return rate
