"""The blocks of a job computed in this process."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from napari_lowdose_tem.enhancement.blocks import Block, FrameRange, read_ahead

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import PendingFrames
    from napari_lowdose_tem.engine.options import EngineOptions
    from napari_lowdose_tem.image import Image
    from napari_lowdose_tem.network.scaling import Scaling


class ThisProcess:
    """An engine in this process, a `Place`."""

    def __init__(self, options: EngineOptions) -> None:
        from napari_lowdose_tem.engine.engine import Engine

        self._engine = Engine.from_options(options)
        self.device = str(self._engine.device)
        self.describe, self.batch_for = self._engine.describe, self._engine.batch_for

    def __enter__(self) -> ThisProcess:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the engine."""
        self._engine.close()

    @property
    def note(self) -> str:
        """What the engine says of its device."""
        return self._engine.note

    def iter_waiting(self) -> Iterator[str]:
        """Wait for nothing."""
        return iter(())

    def stop(self) -> list[Block]:
        """Return nothing: every block is reported at once."""
        return []

    def iter_blocks(
        self, image: Image, offset: int, ranges: list[FrameRange], scaling: Scaling | None
    ) -> Generator[Block, None, None]:
        """Compute ranges of output frames, as many batches at a time as the engine takes."""
        pending: deque[tuple[int, PendingFrames]] = deque()

        def iter_oldest() -> Generator[Block, None, None]:
            first, batch = pending.popleft()
            frames = yield from batch.iter_result(functools.partial(Block, first, batch.n_frames))
            yield Block(first, batch.n_frames, frames=frames)

        with closing(read_ahead(image, offset, ranges)) as batches:
            for first, counts in batches:
                pending.append((first, self._engine.submit(counts, scaling)))
                if len(pending) >= self._engine.n_in_flight:
                    yield from iter_oldest()
        while pending:
            yield from iter_oldest()
