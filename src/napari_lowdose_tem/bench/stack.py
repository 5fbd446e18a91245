"""Frames per second of a whole stack, from disk to disk."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_lowdose_tem.bench.frames import make_frames, write_stack
from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.enhancement import EnhanceJob, iter_enhance

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.device import Device

_TAKES_S = 4.0
_FEWEST, _MOST = 32, 1024  # frames of 512²
_FRAME_PX = 512**2


def choose_length(shape: tuple[int, int], ms: float) -> int:
    """Return the length of a stack [frames] that takes some seconds at so many milliseconds a frame."""
    share = max(1.0, math.prod(shape) / _FRAME_PX)
    fewest, most = max(3, _FEWEST / share), max(3, _MOST / share)
    return round(min(max(fewest, 1e3 * _TAKES_S / ms), most))


def iter_time_stack(
    model: Path, device: Device, shape: tuple[int, int], n_frames: int
) -> Generator[tuple[float, int], None, float]:
    """Enhance a simulated stack from OME-Zarr to OME-Zarr as any job, yielding how much of it is done.

    Both lie in a temporary folder, and what was just written may still be in memory when it is read.

    Returns
    -------
    Frames per second after the first batch, until the output is finished.
    """
    with tempfile.TemporaryDirectory(prefix="lowdose-tem-bench-", ignore_cleanup_errors=True) as folder:
        raw = write_stack(Path(folder, "raw.ome.zarr"), make_frames(shape), n_frames)
        engine = EngineOptions(model=model, device=device.kind, precision=device.precision)
        job = EnhanceJob(raw, engine=engine, output=Path(folder, "enhanced.ome.zarr"))
        begun: tuple[float, float] | None = None
        for step in iter_enhance(job):
            if begun is None and step.frames is not None and step.done < n_frames:
                begun = step.done, step.elapsed_s
            if step.result is None:
                yield step.done, n_frames
    first, first_s = begun or (0.0, 0.0)
    return (step.done - first) / (step.elapsed_s - first_s)
