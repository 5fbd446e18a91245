"""A live enhancement for the dock: the frozen request. No Qt."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.live.state import LAYER, REPLAY

if TYPE_CHECKING:
    from napari_lowdose_tem.live import LiveConfig, LiveStep, Source

REFRESH_S = 0.06  # the eye follows 16 frames a second
_MOST_SENT_BYTES = 2**30


@dataclass(frozen=True, eq=False, kw_only=True)
class LiveRequest:
    """All a live enhancement in the dock needs to know, frozen when it starts."""

    kind: str
    path: str
    image: Image | None
    rate_per_s: float
    loop: bool
    engine: EngineOptions
    save_all: bool = False
    output: Path | None = None
    average_s: float = 0.0
    average_of: str = "enhanced"
    level: str = "first"
    stopped: threading.Event = field(default_factory=threading.Event)

    def iter_steps(self) -> Iterator[LiveStep]:
        """Run it in a process of its own, reporting the newest frame as soon as the last report was taken."""
        from napari_lowdose_tem.live import iter_live_in_process

        yield from iter_live_in_process(self.config())

    def config(self) -> LiveConfig:
        """Open the source; reads the header of a replayed file."""
        from napari_lowdose_tem.live import LiveConfig

        return LiveConfig(
            self._source(),
            engine=self.engine,
            save_all=self.save_all,
            output=self.output,
            resume=True,
            average_s=self.average_s,
            average_of=self.average_of,
            level=self.level,
            report_every_s=REFRESH_S,
            is_stopped=self.stopped.is_set,
        )

    def _source(self) -> Source:
        from napari_lowdose_tem.io import read
        from napari_lowdose_tem.live import ReplaySource, open_source

        # a replay that is saved in full ends with its last frame
        loop = self.loop and not (self.save_all and self.output)
        if self.kind == LAYER and self.image is not None:
            return ReplaySource(_played(self.image), self.rate_per_s, loop=loop)
        if self.kind == REPLAY:
            read(self.path)  # a file that cannot be read is an error before the model is loaded
            return ReplaySource(Path(self.path), self.rate_per_s, loop=loop)
        return open_source(self.path, ignore=self.output)


def describe_played(image: Image | None) -> str:
    """Say so when only a part of a layer is played."""
    if image is None or (played := _count_played(image)) == image.n_frames:
        return ""
    text = f"Plays the first {played:,} of {image.n_frames:,} frames."
    return f"{text} To play all, save the layer and replay the file."


def _played(image: Image) -> Image:
    if image.is_lazy:
        return image
    return image.with_data(np.asarray(image.frames(0, _count_played(image))))


def _count_played(image: Image) -> int:
    """Count the frames that may be copied to the other process; lazy stacks are read from disk there."""
    if image.is_lazy:
        return image.n_frames
    return min(image.n_frames, max(1, _MOST_SENT_BYTES * image.n_frames // image.data.nbytes))


def why_not_start(kind: str, path: str, image: Image | None) -> str:
    """Say what is missing before it can start, or nothing."""
    if kind == LAYER:
        return "" if image is not None else "Open a movie (or the sample movie) to play it as a camera would."
    if path:
        return ""
    return {
        "folder": "Choose the folder your camera program writes to.",
        "file": "Choose the TIFF, MRC or Zarr file your camera program appends to.",
        "replay": "Choose a movie to play as a camera would.",
    }[kind]
