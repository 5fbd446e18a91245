"""Enhancing frames and stacks: from an image or a file to memory or a file, with progress, cancel and resume.

Imports torch only when a job starts, so that a dock can prepare one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.model import DEFAULT_MODEL

if TYPE_CHECKING:
    from napari_lowdose_tem.io import StackWriter

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EnhanceJob:
    """All an enhancement needs to know, frozen when it starts.

    Parameters
    ----------
    image
        Frame or stack; Dask stacks are read frame by frame.
    model
        Name or path of the model file.
    device, precision
        As `device.choose_device` takes them.
    output
        File or OME-Zarr folder to stream to, or None to receive the frames with the progress.
    first, last
        Half-open range of frames, `last=None` to the end.
    tile_px
        Longest side processed at once, halo included [px]; None to suit the device.
    resume, overwrite
        Continue an interrupted output; replace a finished one.
    """

    image: Image
    model: str | Path = DEFAULT_MODEL
    device: str = "auto"
    precision: str = "auto"
    output: Path | None = None
    first: int = 0
    last: int | None = None
    tile_px: int | None = None
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True, eq=False)
class Progress:
    """State of a job after a tile or a batch.

    `frames` (n, rows, columns) in counts are those just finished, from output frame `first` on; `view` is a
    lazy array of the output while it fills, where there is one; `result` comes with the last report.
    """

    done: float
    total: int
    elapsed_s: float
    device: str
    note: str = ""
    first: int = 0
    frames: Floats | None = None
    view: Any = None
    result: Image | None = None

    @property
    def frames_per_s(self) -> float:
        """Frames finished per second in this run."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0


def enhance(image: Image, model: str | Path = DEFAULT_MODEL, device: str = "auto", **options: Any) -> Image:
    """Enhance a frame or stack in memory.

    Parameters
    ----------
    image
        Frame or stack of counts.
    model, device, **options
        As in `EnhanceJob`.

    Returns
    -------
    Image in float32 counts, same shape and calibration, its provenance telling how it was made.

    Raises
    ------
    ValueError
        For frames without signal, an unknown model or a device that does not work.
    """
    result = None
    for progress in iter_enhance(EnhanceJob(image, model, device, **options)):
        result = progress.result
    if result is None:
        raise ValueError("the enhancement ended without a result")
    return result


def iter_enhance(job: EnhanceJob) -> Iterator[Progress]:
    """Run a job, reporting after every tile or batch; closing the iterator cancels it there.

    What is already written to `job.output` stays beside it for a run with `resume=True`.
    """
    from napari_lowdose_tem.engine import Engine

    image = job.image
    last = image.n_frames if job.last is None else job.last
    if not 0 <= job.first < last <= image.n_frames:
        raise ValueError(f"frames {job.first}:{last} are not within the stack's 0:{image.n_frames}")
    total = last - job.first
    with (
        Engine(job.model, job.device, precision=job.precision, tile_px=job.tile_px) as engine,
        ExitStack() as stack,
    ):
        scaling = engine.measure(image, job.first, last)
        provenance = engine.describe(scaling)
        if (job.first, last) != (0, image.n_frames):
            provenance["frames"] = [job.first, last]
        like = image.with_provenance(enhanced=provenance)
        writer = stack.enter_context(_open_output(job, like, total, provenance)) if job.output else None
        collected = None if writer else np.empty((total, *image.frame_shape), np.float32)
        start_s, skipped = time.monotonic(), 0
        batch = engine.batch_for(image.frame_shape)
        for first in range(0, total, batch):
            stop = min(first + batch, total)
            if writer and all(i in writer.done for i in range(first, stop)):
                skipped += stop - first
                continue
            counts = image.frames(job.first + first, job.first + stop)
            report = Progress(first - skipped, total - skipped, 0.0, str(engine.device), engine.note)
            output = yield from engine.iter_enhance(counts, scaling, _reporter(report, start_s, stop - first))
            if writer:
                writer.write(first, output)
            elif collected is not None:
                collected[first:stop] = output
            yield replace(
                report,
                done=stop - skipped,
                elapsed_s=time.monotonic() - start_s,
                note=engine.note,
                first=first,
                frames=output,
                view=writer.data if writer else None,
            )
        result = _finish(like, writer, collected)
        elapsed = time.monotonic() - start_s
        yield Progress(
            total - skipped, total - skipped, elapsed, str(engine.device), engine.note, result=result
        )


def _reporter(report: Progress, start_s: float, n_frames: int) -> Callable[[float], Progress]:
    return lambda share: replace(
        report, done=report.done + share * n_frames, elapsed_s=time.monotonic() - start_s
    )


def _open_output(job: EnhanceJob, like: Image, total: int, provenance: Mapping[str, Any]) -> StackWriter:
    from napari_lowdose_tem.io import open_writer

    made_by = {
        "source": str(job.image.provenance.get("source", job.image.name)),
        "first": job.first,
        **provenance,
    }
    n_frames = total if job.image.is_stack else None
    return open_writer(
        Path(str(job.output)), like, n_frames, job=made_by, resume=job.resume, overwrite=job.overwrite
    )


def _finish(like: Image, writer: StackWriter | None, collected: Floats | None) -> Image:
    if writer is None:
        assert collected is not None
        return like.with_data(collected if like.is_stack else collected[0])
    from napari_lowdose_tem.io import read

    return read(writer.finish())
