"""Enhancing frames and stacks: from an image or a file to memory or a file, with progress, cancel and resume.

Imports torch only when a job starts, so that a dock can prepare one.
"""

from __future__ import annotations

import functools
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

from napari_lowdose_tem.image import F32, Image
from napari_lowdose_tem.network.model_file import DEFAULT_MODEL

if TYPE_CHECKING:
    from napari_lowdose_tem.enhancement.cluster import Cluster
    from napari_lowdose_tem.io import StackWriter
    from napari_lowdose_tem.network.scaling import Scaling

Begun = Callable[[Callable[[float], Any]], Generator[Any, None, F32]]


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
    scheduler
        Address of a dask.distributed cluster, tcp://HOST:PORT, whose workers compute the blocks and write
        them into `output`, an OME-Zarr folder; None to compute in this process.
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
    scheduler: str | None = None


@dataclass(frozen=True, eq=False)
class Block:
    """Frames first … first + n_frames of an output: `share` of them is done.

    `frames` (n_frames, rows, columns) in counts comes with the whole share, unless a worker has written them.
    """

    first: int
    n_frames: int
    share: float = 1.0
    frames: F32 | None = None


@dataclass(frozen=True, eq=False)
class Progress:
    """State of a job after a tile or a batch.

    `frames` (n, rows, columns) in counts are those just finished, from output frame `first` on, None where
    the workers of a cluster keep them; `view` is the output while it fills, where it can be looked at; `made`
    is what its provenance says of its making; `result` comes with the last report.
    """

    done: float
    total: int
    elapsed_s: float
    device: str
    note: str = ""
    first: int = 0
    frames: F32 | None = None
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
    image = job.image
    last = image.n_frames if job.last is None else job.last
    if not 0 <= job.first < last <= image.n_frames:
        raise ValueError(f"frames {job.first}:{last} are not within the stack's 0:{image.n_frames}")
    total = last - job.first
    with _open_place(job) as place, ExitStack() as stack:
        for note in place.iter_waiting():
            yield Progress(0, total, 0.0, str(place.device), note)
        scaling = place.measure(image, job.first, last)
        source = str(image.provenance.get("source", image.name))
        provenance = {
            "source": source,
            **place.describe(scaling),
            "raw_noise": _find_noise(image, job.first),
        }
        if (job.first, last) != (0, image.n_frames):
            provenance["frames"] = [job.first, last]
        like = image.with_provenance(enhanced=provenance)
        sink = _open_sink(job, like, total, provenance)
        stack.callback(sink.close)
        stack.callback(lambda: [sink.take(block) for block in place.stop()])
        ranges = _cut_blocks(total, place.batch_for(image.frame_shape), sink.done)
        start_s, done = time.monotonic(), 0
        state = Progress(0, sum(stop - first for first, stop in ranges), 0.0, "", made=provenance)
        for block in stack.enter_context(closing(place.iter_blocks(image, job.first, ranges, scaling))):
            now = done + block.share * block.n_frames
            if block.share == 1:
                sink.take(block)
                now = done = done + block.n_frames
            state = replace(
                state,
                done=now,
                elapsed_s=time.monotonic() - start_s,
                device=str(place.device),
                note=place.note,
                first=block.first,
                frames=block.frames,
                view=sink.view if block.share == 1 else None,
            )
            yield state
        result = sink.finish()
        elapsed_s, device = time.monotonic() - start_s, str(place.device)
        yield Progress(done, state.total, elapsed_s, device, place.note, made=provenance, result=result)


def _open_place(job: EnhanceJob) -> Here | Cluster:
    if job.scheduler is None:
        return Here(job)
    from napari_lowdose_tem.enhancement.cluster import Cluster

    return Cluster(job)


def _cut_blocks(total: int, batch: int, finished: frozenset[int]) -> list[tuple[int, int]]:
    """Cut frames 0 … total into batches, without the finished ones.

    A batch begun is done again as a whole: a resumed run computes what an uninterrupted one does.
    """
    ranges = [(first, min(first + batch, total)) for first in range(0, total, batch)]
    return [r for r in ranges if not finished.issuperset(range(*r))]


class Here:
    """The process itself as the place where a job's blocks are computed; `cluster.Cluster` the other."""

    def __init__(self, job: EnhanceJob) -> None:
        from napari_lowdose_tem.engine.engine import Engine

        self._engine = Engine(job.model, job.device, precision=job.precision, tile_px=job.tile_px)
        self.device = self._engine.device
        self.measure, self.describe = self._engine.measure, self._engine.describe
        self.batch_for = self._engine.batch_for

    def __enter__(self) -> Here:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Give the engine's memory back."""
        self._engine.close()

    @property
    def note(self) -> str:
        """What the engine remarks on its device."""
        return self._engine.note

    def iter_waiting(self) -> Iterator[str]:
        """Yield what is waited for: nothing."""
        return iter(())

    def stop(self) -> list[Block]:
        """Return what was computed since the last block: nothing."""
        return []

    def iter_blocks(
        self, image: Image, offset: int, ranges: list[tuple[int, int]], scaling: Scaling | None
    ) -> Generator[Block, None, None]:
        """Compute ranges of output frames, of which frame 0 is the image's frame `offset`."""
        begun: deque[tuple[int, int, Begun]] = deque()

        def go_on() -> Generator[Block, None, None]:
            first, n_frames, rest = begun.popleft()
            frames = yield from rest(functools.partial(Block, first, n_frames))
            yield Block(first, n_frames, frames=frames)

        with closing(read_ahead(image, offset, ranges)) as batches:
            for first, counts in batches:
                begun.append((first, len(counts), self._engine.begin(counts, scaling)))
                if len(begun) >= self._engine.n_in_flight:
                    yield from go_on()
        while begun:
            yield from go_on()


def _find_noise(image: Image, frame: int) -> float | None:
    """Noise of a raw pixel over the background, for the errors of what is measured on the output."""
    from napari_lowdose_tem.camera.raw_noise import measure_raw_noise

    try:
        return round(measure_raw_noise(image.frames(frame, frame + 1)[0]), 6)
    except ValueError:
        return None  # too small, or empty


def read_ahead(
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

    def take(self, block: Block) -> None:
        self._frames[block.first : block.first + block.n_frames] = block.frames

    def finish(self) -> Image:
        return self._like.with_data(self.view)


class _FileSink:
    """Output to a file: a batch is written while the network works on the next one."""

    def __init__(self, writer: StackWriter) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(1, "write-behind")
        self._pending: Future[None] | None = None
        self.done = writer.done
        self.view = writer.data  # made once: in a long movie that takes longer than writing a frame

    def close(self) -> None:
        self._pool.shutdown()
        self._writer.close()

    def take(self, block: Block) -> None:
        self._wait()
        if block.frames is None:
            self._writer.record(block.first, block.first + block.n_frames)
        else:
            self._pending = self._pool.submit(self._writer.write, block.first, block.frames)

    def finish(self) -> Image:
        from napari_lowdose_tem.io import read

        self._wait()
        return read(self._writer.finish())

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()


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
