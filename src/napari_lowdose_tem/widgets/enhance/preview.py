"""Preview of single frames while the user looks through a stack: the job and the frames it made. No Qt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import F32, Image

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine
    from napari_lowdose_tem.network.scaling import Scaling


class EngineKey(NamedTuple):
    """The engine's options, and when its model file was last changed [ns]."""

    options: EngineOptions
    model_time_ns: int


class FrameKey(NamedTuple):
    """Pixels of a layer (a token of theirs), index of the frame, engine."""

    source: int
    frame: int
    engine: EngineKey


@dataclass(frozen=True, eq=False, kw_only=True)
class PreviewRequest:
    """Frames to enhance: the one shown first, then those likely to be shown next."""

    image: Image
    source: int
    frames: tuple[int, ...]
    engine: EngineKey

    def key(self, frame: int) -> FrameKey:
        """Key of a frame in the cache."""
        return FrameKey(self.source, frame, self.engine)


@dataclass(frozen=True, eq=False, kw_only=True)
class PreviewFrame:
    """An enhanced frame, float32 counts (rows, columns), and what made it."""

    key: FrameKey
    pixels: F32
    provenance: Mapping[str, Any]
    device: str
    note: str


class PreviewEngine:
    """An engine kept from frame to frame, with the level of the last stack; for one job at a time."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._key: EngineKey | None = None
        self._level: tuple[tuple[int, EngineKey], Scaling | None] | None = None
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
        engine = self._engine_for(request.engine)
        yield None
        level = (request.source, request.engine)
        if self._level is None or self._level[0] != level:
            self._level = level, engine.measure(request.image)
        scaling = self._level[1]
        provenance = {**request.image.provenance, "enhanced": engine.describe(scaling)}
        for index in request.frames:
            yield None
            counts = request.image.frames(index, index + 1)
            output = yield from engine.iter_enhance(counts, scaling, lambda share: None)
            yield PreviewFrame(
                key=request.key(index),
                pixels=output[0],
                provenance={**provenance, "frame": index} if request.image.is_stack else provenance,
                device=str(engine.device),
                note=engine.note,
            )

    def retire(self) -> None:
        """Give the memory back as soon as the job that is running ends."""
        self._retired = True

    def release(self) -> None:
        """Give the engine's memory back."""
        if self._engine is not None:
            self._engine.close()
        self._engine = self._key = self._level = None

    def _engine_for(self, key: EngineKey) -> Engine:
        if self._engine is None or self._key != key:
            from napari_lowdose_tem.engine.engine import Engine

            self.release()
            self._engine, self._key = Engine.from_options(key.options), key
        return self._engine


class FrameCache:
    """Enhanced frames, those not looked at for longest dropped first when `limit_bytes` is reached."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._frames: OrderedDict[FrameKey, PreviewFrame] = OrderedDict()
        self._bytes = 0

    def get(self, key: FrameKey) -> PreviewFrame | None:
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

    def _drop(self, key: FrameKey) -> None:
        if (old := self._frames.pop(key, None)) is not None:
            self._bytes -= old.pixels.nbytes
