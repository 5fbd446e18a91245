"""Where the frames of a job go: into memory, or into a file while the next ones are computed."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_lowdose_tem.enhancement.blocks import Block
from napari_lowdose_tem.enhancement.job import EnhanceJob
from napari_lowdose_tem.image import Image

if TYPE_CHECKING:
    from napari_lowdose_tem.image import Pixels
    from napari_lowdose_tem.io import StackWriter


class Sink(Protocol):
    """Takes the blocks of one output."""

    done: frozenset[int]
    """Frames that an earlier run has finished."""
    view: Pixels | None
    """The output while it fills, where it can be looked at."""

    def take(self, block: Block) -> None:
        """Keep a finished block."""

    def finish(self) -> Image:
        """Complete the output and return it."""

    def close(self) -> None:
        """Release the output, finished or not."""


def open_sink(job: EnhanceJob, like: Image, total: int, made: Mapping[str, Any]) -> Sink:
    """Open the output of a job: `total` frames calibrated as `like`, whose making `made` describes."""
    if job.output is None:
        return _MemorySink(like, total)
    from napari_lowdose_tem.io import open_writer

    made_by = {"first": job.first, "dark": job.image.provenance.get("dark"), **made}
    n_frames = total if job.image.is_stack else None
    return _FileSink(
        open_writer(job.output, like, n_frames, job=made_by, resume=job.resume, overwrite=job.overwrite)
    )


class _MemorySink:
    done: frozenset[int] = frozenset()

    def __init__(self, like: Image, total: int) -> None:
        self._like = like
        self._frames = np.zeros((total, *like.frame_shape), np.float32)
        self.view: Pixels | None = self._frames if like.is_stack else self._frames[0]

    def take(self, block: Block) -> None:
        self._frames[block.first : block.first + block.n_frames] = block.frames

    def finish(self) -> Image:
        return self._like.with_data(self._frames if self._like.is_stack else self._frames[0])

    def close(self) -> None:
        pass


class _FileSink:
    """Writes a batch while the next one is computed."""

    def __init__(self, writer: StackWriter) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(1, "write-behind")
        self._pending: Future[None] | None = None
        self.done = writer.done
        self.view: Pixels | None = writer.data  # made once: of a long movie it takes longer than a frame

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

    def close(self) -> None:
        self._pool.shutdown()
        self._writer.close()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
