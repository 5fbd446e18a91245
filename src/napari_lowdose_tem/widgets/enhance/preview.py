"""Single frames enhanced while the user looks through a stack: the job and the frames it made. No Qt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine
    from napari_lowdose_tem.network.scaling import Scaling


@dataclass(frozen=True)
class EngineChoice:
    """Which engine: model file and when it was last changed, and as `enhance.Engine` takes them."""

    model: str
    model_time_ns: int
    device: str = "auto"
    precision: str = "auto"
    tile_px: int | None = None


@dataclass(frozen=True, eq=False)
class PreviewRequest:
    """Frames to enhance, the one shown first, then those likely to be shown next."""

    image: Image
    source: Hashable
    frames: tuple[int, ...]
    choice: EngineChoice

    def key(self, frame: int) -> tuple[Hashable, int, EngineChoice]:
        """Key of a frame in the cache."""
        return self.source, frame, self.choice


@dataclass(frozen=True, eq=False)
class PreviewFrame:
    """An enhanced frame, float32 counts (rows, columns), and what made it."""

    key: tuple[Hashable, int, EngineChoice]
    index: int
    pixels: npt.NDArray[np.float32]
    provenance: dict[str, Any]
    device: str
    note: str


class PreviewEngine:
    """An engine kept from frame to frame with the level of the last stack; for one job at a time."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._choice: EngineChoice | None = None
        self._level: tuple[Hashable, Scaling | None] | None = None
        self._retired = False

    def iter_frames(self, request: PreviewRequest) -> Iterator[PreviewFrame | None]:
        """Enhance the frames as the whole stack would be, yielding None between tiles."""
        self._retired = False
        try:
            yield from self._iter_frames(request)
        finally:
            if self._retired:
                self.release()

    def _iter_frames(self, request: PreviewRequest) -> Iterator[PreviewFrame | None]:
        engine = self._engine_for(request.choice)
        yield None
        level = (request.source, request.choice)
        if self._level is None or self._level[0] != level:
            self._level = level, engine.measure(request.image)
        scaling = self._level[1]
        provenance = {**request.image.provenance, "enhanced": engine.describe(scaling)}
        for index in request.frames:
            yield None
            counts = request.image.frames(index, index + 1)
            output = yield from engine.iter_enhance(counts, scaling, lambda share: None)
            frame = {**provenance, "frame": index} if request.image.is_stack else provenance
            yield PreviewFrame(request.key(index), index, output[0], frame, str(engine.device), engine.note)

    def retire(self) -> None:
        """Give the memory back as soon as the job that is running ends."""
        self._retired = True

    def release(self) -> None:
        """Give the engine's memory back."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._choice = self._level = None

    def _engine_for(self, choice: EngineChoice) -> Engine:
        if self._engine is None or self._choice != choice:
            from napari_lowdose_tem.engine.engine import Engine

            self.release()
            self._engine = Engine(
                choice.model, choice.device, precision=choice.precision, tile_px=choice.tile_px
            )
            self._choice = choice
        return self._engine


class FrameCache:
    """Enhanced frames, those not looked at for longest dropped first when `limit_bytes` is reached."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._frames: OrderedDict[Hashable, PreviewFrame] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> PreviewFrame | None:
        """Return the frame of a key, if it is still there."""
        if key in self._frames:
            self._frames.move_to_end(key)
        return self._frames.get(key)

    def add(self, frame: PreviewFrame) -> None:
        """Add a frame; the newest always stays."""
        self._drop(frame.key)
        self._frames[frame.key] = frame
        self._bytes += frame.pixels.nbytes
        while self._bytes > self.limit_bytes and len(self._frames) > 1:
            self._drop(next(iter(self._frames)))

    def clear(self) -> None:
        """Drop all."""
        self._frames.clear()
        self._bytes = 0

    def _drop(self, key: Hashable) -> None:
        if (old := self._frames.pop(key, None)) is not None:
            self._bytes -= old.pixels.nbytes
