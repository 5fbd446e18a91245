"""A live enhancement for the dock: the frozen request, and its newest report. No Qt."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.image import Image

from .live import EngineChoice
from .watch_state import LAYER, REPLAY

if TYPE_CHECKING:
    from napari_lowdose_tem.live import LiveConfig, LiveStep, Source

REFRESH_S = 0.04  # the eye follows 25 frames a second
_HEARD_S = 0.5


class Newest:
    """Holds the newest report until it is looked at, so that none pile up before a slow display."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._step: LiveStep | None = None
        self.is_stopped = False

    def put(self, step: LiveStep) -> bool:
        """Keep a report; returns whether the one before was looked at."""
        with self._lock:
            before = self._step
            if before is not None and step.output is None:  # the frame is still to be shown
                step = replace(step, name=before.name, raw=before.raw, output=before.output)
            self._step = step
            return before is None

    def take(self) -> LiveStep | None:
        """Take the newest report, if there is one since the last."""
        with self._lock:
            step, self._step = self._step, None
            return step


@dataclass(frozen=True, eq=False)
class WatchRequest:
    """All a live enhancement in the dock needs to know, frozen when it starts."""

    kind: str
    path: str
    image: Image | None
    rate_per_s: float
    loop: bool
    choice: EngineChoice
    save_all: bool = False
    output: Path | None = None
    average_s: float = 0.0
    average_of: str = "enhanced"
    level: str = "first"
    newest: Newest = field(default_factory=Newest)

    def iter_steps(self) -> Iterator[None]:
        """Run it, leaving the reports in `newest`; yields when there is one to be looked at.

        A display that is slow loses reports, and holds up neither the camera nor what is saved.
        """
        from napari_lowdose_tem.live import iter_live

        heard_s = time.monotonic()
        steps = iter_live(self.config())
        try:
            for step in steps:
                # now and then in any case: it is there that the job can be ended from outside
                if self.newest.put(step) or time.monotonic() - heard_s > _HEARD_S:
                    heard_s = time.monotonic()
                    yield
        finally:
            steps.close()

    def config(self) -> LiveConfig:
        """Open the source; reads the header of a replayed file."""
        from napari_lowdose_tem.live import LiveConfig

        choice = self.choice
        return LiveConfig(
            self._source(),
            choice.model,
            choice.device,
            choice.precision,
            choice.tile_px,
            save_all=self.save_all,
            output=self.output,
            resume=True,
            average_s=self.average_s,
            average_of=self.average_of,
            level=self.level,
            report_every_s=REFRESH_S,
            is_stopped=lambda: self.newest.is_stopped,
        )

    def _source(self) -> Source:
        from napari_lowdose_tem.io import read
        from napari_lowdose_tem.live import ReplaySource, open_source

        # a replay that is saved in full ends with its last frame
        loop = self.loop and not (self.save_all and self.output)
        if self.kind == LAYER and self.image is not None:
            return ReplaySource(self.image, self.rate_per_s, loop=loop)
        if self.kind == REPLAY:
            return ReplaySource(read(self.path), self.rate_per_s, loop=loop)
        return open_source(self.path, ignore=self.output)


def why_not_start(kind: str, path: str, image: Any) -> str:
    """Say what is missing before it can start, or nothing."""
    if kind == LAYER:
        return "" if image is not None else "Open a movie, or its sample data, to play it as a camera would."
    if path:
        return ""
    return {
        "folder": "Choose the folder your camera program writes to.",
        "file": "Choose the TIFF, MRC or Zarr your camera program appends to.",
        "replay": "Choose a movie to play as a camera would.",
    }[kind]
