"""Enhancing frames and stacks into memory or a file, with progress, cancel and resume.

Imports torch only when a job starts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from napari_lowdose_tem.camera.raw_noise import measure_raw_noise
from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.enhancement.blocks import cut_ranges
from napari_lowdose_tem.enhancement.job import EnhanceJob, Progress
from napari_lowdose_tem.enhancement.place import Place
from napari_lowdose_tem.enhancement.sinks import Sink, open_sink
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.network.model_file import find_model
from napari_lowdose_tem.network.scaling import measure_stack


def enhance(
    image: Image,
    model: str | Path = EngineOptions.model,
    device: str = EngineOptions.device,
    *,
    precision: str = EngineOptions.precision,
    tile_px: int | None = EngineOptions.tile_px,
    output: Path | None = None,
    first: int = 0,
    last: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    scheduler: str | None = None,
) -> Image:
    """Enhance a frame or stack, in memory or into a file.

    Parameters
    ----------
    image
        Frame or stack of counts.
    model, device, precision, tile_px
        As in `EngineOptions`.
    output, first, last, resume, overwrite, scheduler
        As in `EnhanceJob`.

    Returns
    -------
    Image in float32 counts, same shape and calibration, its provenance telling how it was made.

    Raises
    ------
    ValueError
        For frames without signal, an unknown model or a device that does not work.
    """
    engine = EngineOptions(model=model, device=device, precision=precision, tile_px=tile_px)
    job = EnhanceJob(
        image,
        engine=engine,
        output=output,
        first=first,
        last=last,
        resume=resume,
        overwrite=overwrite,
        scheduler=scheduler,
    )
    result = None
    for progress in iter_enhance(job):
        result = progress.result
    if result is None:
        raise ValueError("the enhancement ended without a result")
    return result


def iter_enhance(job: EnhanceJob) -> Iterator[Progress]:
    """Run a job, reporting after every tile or batch; closing the iterator cancels it there.

    What is already written to `job.output` stays beside it for a run with `resume=True`.
    """
    image = job.image
    last = image.n_frames if job.last is None else job.last
    if not 0 <= job.first < last <= image.n_frames:
        raise ValueError(f"frames {job.first}:{last} are not within the stack's 0:{image.n_frames}")
    total = last - job.first
    with _open_place(job) as place, ExitStack() as stack:
        for note in place.iter_waiting():
            yield Progress(done=0, total=total, elapsed_s=0.0, device=place.device, note=note)
        scaling = measure_stack(find_model(job.engine.model).info.recipe, image, job.first, last)
        made = {
            "source": str(image.provenance.get("source", image.name)),
            **place.describe(),
            "level_counts": None if scaling is None else scaling.level_counts,
            "raw_noise": _measure_noise(image, job.first),
        }
        if (job.first, last) != (0, image.n_frames):
            made["frames"] = [job.first, last]
        sink = open_sink(job, image.with_provenance(enhanced=made), total, made)
        stack.callback(sink.close)
        stack.callback(_take_rest, sink, place)
        ranges = cut_ranges(total, place.batch_for(image.frame_shape), sink.done)
        n_frames, n_done, start_s = sum(r.n_frames for r in ranges), 0, time.monotonic()
        state = Progress(done=0, total=n_frames, elapsed_s=0.0, device="", made=made)
        for block in stack.enter_context(closing(place.iter_blocks(image, job.first, ranges, scaling))):
            is_whole = block.share == 1
            if is_whole:
                sink.take(block)
                n_done += block.n_frames
            yield replace(
                state,
                done=n_done if is_whole else n_done + block.share * block.n_frames,
                elapsed_s=time.monotonic() - start_s,
                device=place.device,
                note=place.note,
                first=block.first,
                frames=block.frames,
                view=sink.view if is_whole else None,
            )
        result = sink.finish()
        elapsed_s = time.monotonic() - start_s
        yield replace(
            state, done=n_done, elapsed_s=elapsed_s, device=place.device, note=place.note, result=result
        )


def _open_place(job: EnhanceJob) -> Place:
    if job.scheduler is not None:
        from napari_lowdose_tem.enhancement.cluster import Cluster

        return Cluster(job)
    from napari_lowdose_tem.enhancement.this_process import ThisProcess

    return ThisProcess(job.engine)


def _take_rest(sink: Sink, place: Place) -> None:
    for block in place.stop():
        sink.take(block)


def _measure_noise(image: Image, frame: int) -> float | None:
    """Measure what the errors of sizes measured on the output depend on; None for a frame without noise."""
    try:
        return round(measure_raw_noise(image.frames(frame, frame + 1)[0]), 6)
    except ValueError:
        return None  # too small, or empty
