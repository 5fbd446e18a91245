"""Table 3: the time a frame takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.preprocess import measure_scaling

if TYPE_CHECKING:
    from napari_lowdose_tem.engine import Engine

_WARM_UP = 2


@dataclass(frozen=True)
class Timing:
    """Milliseconds a frame: the network alone, and from counts in memory to counts in memory.

    `cpu_ms_mean` is the processor time of the network alone, over all its threads: on a busy machine the
    better guide to what an idle one takes. None where another device than the CPU works.
    """

    device: str
    precision: str
    threads: int | None  # of a CPU
    model: str
    shape: tuple[int, int]
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

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "shape": list(self.shape)}


def time_frames(engine: Engine, shape: tuple[int, int] = (512, 512), frames: int = 100) -> Timing:
    """Time single frames on an engine; as `iter_time_frames`, without progress."""
    steps = iter_time_frames(engine, shape, frames)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Timing = stop.value
            return result


def iter_time_frames(
    engine: Engine, shape: tuple[int, int] = (512, 512), frames: int = 100
) -> Generator[tuple[int, int], None, Timing]:
    """Time single frames one after another, yielding how many of how many are done.

    Parameters
    ----------
    engine
        Model and processor.
    shape
        (rows, columns) [px].
    frames
        How many are timed, after a few that do not count; the paper takes 100.

    Returns
    -------
    Timing
        `calc` with the frame on the processor before and after, `total` with scaling and both transfers.

    Raises
    ------
    ValueError
        For less than two frames.
    """
    if frames < 2:
        raise ValueError(f"{frames} frames to time; give 2 at least")
    counts = np.random.default_rng(0).poisson(5.0, shape).astype(np.uint16) * 44
    run_network = engine.runner.prepare(counts[None], [measure_scaling(engine.model.info.recipe, counts)])
    calc_ms, total_ms, cpu_ms = [], [], []
    for i in range(-_WARM_UP, frames):
        total, (calc, cpu) = _measure(lambda: engine.enhance(counts))[0], _measure(run_network)
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
    device, on_cpu = engine.device, engine.device.on_cpu
    return Timing(
        device.name,
        device.precision,
        _count_threads() if on_cpu else None,
        engine.model.file.label,
        shape,
        frames,
        **numbers,
        cpu_ms_mean=float(np.mean(cpu_ms)) if on_cpu else None,
    )


def _measure(work: Callable[[], Any]) -> tuple[float, float]:
    """Time one call: elapsed, and by the processor [ms]."""
    start, start_cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - start_cpu)


def _count_threads() -> int:
    import torch

    return torch.get_num_threads()
