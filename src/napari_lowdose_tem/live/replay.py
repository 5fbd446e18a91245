"""Play a stack as a camera would."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Set
from pathlib import Path

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read
from napari_lowdose_tem.live.source import Arrival, Event, Passed, Wait

_IN_MEMORY_BYTES = 2**30
_LONGEST_WAIT_S = 0.05


class ReplaySource:
    """The frames of a stack at a chosen rate.

    Parameters
    ----------
    image
        Frame or stack, or the file to read it from when it starts.
    rate_per_s
        Frames per second.
    loop
        Start again after the last frame.

    Raises
    ------
    ValueError
        For a rate that is not positive.
    """

    def __init__(self, image: Image | Path, rate_per_s: float = 30.0, *, loop: bool = False) -> None:
        if not (math.isfinite(rate_per_s) and rate_per_s > 0):
            raise ValueError(f"a rate of {rate_per_s:g} frames/s plays nothing; give one above 0")
        self._image = image if isinstance(image, Image) else Path(os.path.abspath(image))
        self._rate_per_s, self._loop = rate_per_s, loop

    @property
    def name(self) -> str:
        """Name of the stack."""
        image = self._image
        return image.name if isinstance(image, Image) else image.stem.removesuffix(".ome")

    @property
    def path(self) -> str:
        """File of the stack, where it has one."""
        image = self._image
        return str(image.provenance.get("source", "") if isinstance(image, Image) else image)

    def iter_events(self, newest_only: bool, done: Set[str] = frozenset()) -> Iterator[Event]:
        """Tell of the frames when they are due; a camera does not wait, `newest_only` passes over frames."""
        image = self._image if isinstance(self._image, Image) else read(self._image)
        small = image.n_frames * math.prod(image.frame_shape) * image.data.dtype.itemsize <= _IN_MEMORY_BYTES
        stack = image.with_data(image.frames(0, image.n_frames)) if small else image
        start_s, number = time.monotonic(), 0
        while self._loop or number < image.n_frames:
            due_s = start_s + number / self._rate_per_s
            if (early_s := due_s - time.monotonic()) > 0:
                yield Wait(min(early_s, _LONGEST_WAIT_S))
                continue
            if newest_only:
                newest = int((time.monotonic() - start_s) * self._rate_per_s)
                newest = newest if self._loop else min(newest, image.n_frames - 1)
                if newest > number:
                    yield Passed(newest - number)
                    number = newest
            if (name := frame_name(number)) not in done:
                index = number % image.n_frames
                frame = stack.with_data(stack.frames(index, index + 1)[0])
                recorded_s = number / self._rate_per_s
                yield Arrival(name, frame, recorded_s, start_s + recorded_s)
            number += 1


def frame_name(number: int) -> str:
    """Name a frame of a stack."""
    return f"frame {number}"
