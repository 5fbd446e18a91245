"""Blocks: the ranges of frames that are computed, written and recorded together."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt

from napari_lowdose_tem.image import F32, Image


class FrameRange(NamedTuple):
    """Frames first … stop - 1 of an output."""

    first: int
    stop: int

    @property
    def n_frames(self) -> int:
        """How many frames these are."""
        return self.stop - self.first


@dataclass(frozen=True, eq=False)
class Block:
    """Frames first … first + n_frames - 1 of an output, of which `share` is done.

    `frames` (n_frames, rows, columns) in counts comes with the whole share, unless a worker has written them.
    """

    first: int
    n_frames: int
    share: float = 1.0
    frames: F32 | None = None


def cut_ranges(total: int, batch: int, finished: frozenset[int]) -> list[FrameRange]:
    """Cut frames 0 … total - 1 into batches, without the finished ones.

    A batch partly finished is computed again as a whole: a resumed run computes what an uninterrupted one
    does.
    """
    ranges = [FrameRange(first, min(first + batch, total)) for first in range(0, total, batch)]
    return [r for r in ranges if not finished.issuperset(range(*r))]


def merge_ranges(ranges: Iterable[FrameRange]) -> list[FrameRange]:
    """Merge ranges, each of which begins where the last one stops."""
    merged: list[FrameRange] = []
    for new in ranges:
        if merged and merged[-1].stop == new.first:
            merged[-1] = FrameRange(merged[-1].first, new.stop)
        else:
            merged.append(new)
    return merged


def read_ahead(
    image: Image, offset: int, ranges: Iterable[FrameRange]
) -> Generator[tuple[int, npt.NDArray[Any]], None, None]:
    """Yield (first, counts) of ranges of output frames, reading the next while the last is worked on.

    Output frame 0 is the image's frame `offset`.
    """
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
