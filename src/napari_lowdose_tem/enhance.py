"""Enhancing frames and stacks: from an image or a file to memory or a file, with progress, cancel and resume.

Imports torch only when a job starts, so that a dock can prepare one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
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

    `frames` (n, rows, columns) in counts are those just finished, from output frame `first` on; `view` is the
    output while it fills, where it can be looked at; `made` is what its provenance says of its making;
    `result` comes with the last report.
    """

    done: float
    total: int
    elapsed_s: float
    device: str
    note: str = ""
    first: int = 0
    frames: Floats | None = None
    view: Any = None
    made: Mapping[str, Any] = field(default_factory=dict)
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
        source = str(image.provenance.get("source", image.name))
        provenance = {
            "source": source,
            **engine.describe(scaling),
            "raw_noise": _find_noise(image, job.first),
        }
        if (job.first, last) != (0, image.n_frames):
            provenance["frames"] = [job.first, last]
        like = image.with_provenance(enhanced=provenance)
        sink = _open_sink(job, like, total, provenance)
        stack.callback(sink.close)
        start_s, finished = time.monotonic(), sink.done
        batch = engine.batch_for(image.frame_shape)
        ranges = [(first, min(first + batch, total)) for first in range(0, total, batch)]
        # a batch begun is done again as a whole: a resumed run computes what an uninterrupted one does
        ranges = [r for r in ranges if not finished.issuperset(range(*r))]
        total_now, done = sum(stop - first for first, stop in ranges), 0
        batches = stack.enter_context(closing(_read_ahead(image, job.first, ranges)))
        for first, counts in batches:
            report = Progress(done, total_now, 0.0, str(engine.device), engine.note, made=provenance)
            output = yield from engine.iter_enhance(counts, scaling, _reporter(report, start_s, len(counts)))
            sink.write(first, output)
            done += len(output)
            yield replace(
                report,
                done=done,
                elapsed_s=time.monotonic() - start_s,
                note=engine.note,
                first=first,
                frames=output,
                view=sink.view,
            )
        result = sink.finish()
        elapsed_s = time.monotonic() - start_s
        device = str(engine.device)
        yield Progress(done, total_now, elapsed_s, device, engine.note, made=provenance, result=result)


def _find_noise(image: Image, frame: int) -> float | None:
    """Noise of a raw pixel over the background, for the errors of what is measured on the output."""
    from napari_lowdose_tem.measure import measure_raw_noise

    try:
        return round(measure_raw_noise(image.frames(frame, frame + 1)[0]), 6)
    except ValueError:
        return None  # too small, or empty


def _read_ahead(
    image: Image, offset: int, ranges: list[tuple[int, int]]
) -> Generator[tuple[int, npt.NDArray[Any]], None, None]:
    """Yield (first frame, counts) of each range, reading the next while the network works."""
    reader = ThreadPoolExecutor(1, "read-ahead")
    waiting: deque[tuple[int, Future[npt.NDArray[Any]]]] = deque()
    try:
        for first, stop in ranges:
            waiting.append((first, reader.submit(image.frames, offset + first, offset + stop)))
            if len(waiting) > 1:
                first, counts = waiting.popleft()
                yield first, counts.result()
        for first, counts in waiting:
            yield first, counts.result()
    finally:
        reader.shutdown(cancel_futures=True)


class _MemorySink:
    """Output in memory, of which `view` shows what is there."""

    done: frozenset[int] = frozenset()

    def __init__(self, like: Image, total: int) -> None:
        self._like = like
        self._frames = np.zeros((total, *like.frame_shape), np.float32)
        self.view = self._frames if like.is_stack else self._frames[0]

    def close(self) -> None:
        pass

    def write(self, first: int, frames: Floats) -> None:
        self._frames[first : first + len(frames)] = frames

    def finish(self) -> Image:
        return self._like.with_data(self.view)


class _FileSink:
    """Output to a file: a batch is written while the network works on the next one."""

    def __init__(self, writer: StackWriter) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(1, "write-behind")
        self._pending: Future[None] | None = None
        self.done = writer.done

    @property
    def view(self) -> Any:
        return self._writer.data

    def close(self) -> None:
        self._pool.shutdown()
        self._writer.close()

    def write(self, first: int, frames: Floats) -> None:
        self._wait()
        self._pending = self._pool.submit(self._writer.write, first, frames)

    def finish(self) -> Image:
        from napari_lowdose_tem.io import read

        self._wait()
        return read(self._writer.finish())

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()


def _reporter(report: Progress, start_s: float, n_frames: int) -> Callable[[float], Progress]:
    return lambda share: replace(
        report, done=report.done + share * n_frames, elapsed_s=time.monotonic() - start_s
    )


def _open_sink(
    job: EnhanceJob, like: Image, total: int, provenance: Mapping[str, Any]
) -> _MemorySink | _FileSink:
    if job.output is None:
        return _MemorySink(like, total)
    from napari_lowdose_tem.io import open_writer

    made_by = {
        "first": job.first,
        "dark": job.image.provenance.get("dark"),
        **provenance,
    }
    n_frames = total if job.image.is_stack else None
    return _FileSink(
        open_writer(job.output, like, n_frames, job=made_by, resume=job.resume, overwrite=job.overwrite)
    )
