"""Where the blocks of a job are computed: `this_process.ThisProcess` and `cluster.Cluster` are places."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from napari_lowdose_tem.enhancement.blocks import Block, FrameRange
    from napari_lowdose_tem.image import Image
    from napari_lowdose_tem.network.scaling import Scaling


class Place(AbstractContextManager["Place", None], Protocol):
    """Computes the blocks of one job; used as a context manager."""

    @property
    def device(self) -> str:
        """The processor, or the workers, in words."""

    @property
    def note(self) -> str:
        """What the user should know of device, memory and speed, or nothing."""

    def __enter__(self) -> Self:
        """Connect to what computes."""

    def iter_waiting(self) -> Iterator[str]:
        """Yield what is being waited for, until computing can begin."""

    def describe(self) -> dict[str, Any]:
        """Return what the provenance of an output says of its making, as JSON values."""

    def batch_for(self, frame_shape: tuple[int, int]) -> int:
        """Return how many frames of a shape [px] are computed together."""

    def iter_blocks(
        self, image: Image, offset: int, ranges: list[FrameRange], scaling: Scaling | None
    ) -> Generator[Block, None, None]:
        """Compute ranges of output frames, of which frame 0 is the image's frame `offset`.

        A block is reported when it is whole, and perhaps before, with the share that is done.
        """

    def stop(self) -> list[Block]:
        """Stop computing; returns blocks finished since the last one reported."""
