"""Play back a stack as a camera would deliver it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Set
from pathlib import Path

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import image_name, read
from napari_lowdose_tem.live.source import Arrival, Event, Passed, Wait

_IN_MEMORY_BYTES = 2**30
_LONGEST_WAIT_S = 0.05


class ReplaySource:
    """The frames of a stack at a chosen rate.

    Parameters
    ----------
    image
        Frame or stack, or the file to read when the playback starts.
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
        return image.name if isinstance(image, Image) else image_name(image)

    @property
    def path(self) -> str:
        """File of the stack; empty where it has none."""
        image = self._image
        return str(image.provenance.get("source", "") if isinstance(image, Image) else image)

    def iter_events(self, latest_only: bool, done: Set[str] = frozenset()) -> Iterator[Event]:
        """Yield frames when they are due; with `latest_only` those that are overdue are passed over."""
        image = self._image if isinstance(self._image, Image) else read(self._image)
        small = image.n_frames * math.prod(image.frame_shape) * image.data.dtype.itemsize <= _IN_MEMORY_BYTES
        stack = image.with_data(image.frames(0, image.n_frames)) if small else image
        start_s, number = time.monotonic(), 0
        while self._loop or number < image.n_frames:
            due_s = start_s + number / self._rate_per_s
            if (early_s := due_s - time.monotonic()) > 0:
                yield Wait(min(early_s, _LONGEST_WAIT_S))
                continue
            if latest_only:
                latest = int((time.monotonic() - start_s) * self._rate_per_s)
                latest = latest if self._loop else min(latest, image.n_frames - 1)
                if latest > number:
                    yield Passed(latest - number)
                    number = latest
            if (name := frame_name(number)) not in done:
                index = number % image.n_frames
                frame = stack.with_data(stack.frames(index, index + 1)[0])
                recorded_s = number / self._rate_per_s
                yield Arrival(name, frame, recorded_s, start_s + recorded_s)
            number += 1


def frame_name(number: int) -> str:
    """Give the name of a frame of a stack."""
    return f"frame {number}"
