"""Queues of work on an NVIDIA card: copies up, sums and copies down overlap, ordered by events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch

UP, COMPUTE, DOWN = "up", "compute", "down"
_WARM_UPS = 3
_CAPTURING = threading.Lock()  # a process can record one graph at a time


class Streams(Protocol):
    """Three queues; work within one is done in order, work in different ones at the same time."""

    def empty(self, n: int, dtype: torch.dtype, *, on_host: bool = False) -> torch.Tensor:
        """Return memory for n numbers, on the card or where the card can copy from and to by itself."""

    def run(self, queue: str, work: Callable[[], Any], after: Any = None) -> Any:
        """Put work into a queue, to begin after an event; returns the event of its end, at once."""

    def wait(self, event: Any) -> None:
        """Return when an event has happened."""

    def wait_all(self) -> None:
        """Return when all queues are empty."""

    def warm_up(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Do work a few times, as is needed before it is recorded; returns its result, complete."""

    def record(self, work: Callable[[], torch.Tensor]) -> tuple[Callable[[], Any], torch.Tensor]:
        """Record work; returns what repeats it, for a queue, and where each repetition puts its result."""

    def give_back(self) -> None:
        """Give memory that is not used back to the system."""


class CudaStreams:
    """The queues of one card."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        new: Callable[..., Any] = torch.cuda.Stream
        self._streams = {queue: new(device) for queue in (UP, COMPUTE, DOWN)}
        # Of its own, so that an error while recording leaves the others as they are. Torch has 32 streams of
        # each priority and hands them out in turn: with a higher one it is no other engine's queue.
        self._side = new(device, priority=-1)

    def empty(self, n: int, dtype: torch.dtype, *, on_host: bool = False) -> torch.Tensor:
        """Return memory for n numbers, pinned on the host."""
        if on_host:
            return torch.empty(n, dtype=dtype, pin_memory=True)
        memory = torch.empty(n, dtype=dtype, device=self._device)
        # torch may give what work still to come on the current stream, a training's, was the last to use
        for stream in (*self._streams.values(), self._side):
            stream.wait_stream(torch.cuda.current_stream(self._device))
        return memory

    def run(self, queue: str, work: Callable[[], Any], after: Any = None) -> Any:
        """Put work into a queue."""
        stream = self._streams[queue]
        if after is not None:
            stream.wait_event(after)
        with torch.cuda.stream(stream):
            work()
        return stream.record_event()

    def wait(self, event: Any) -> None:
        """Return when an event has happened."""
        event.synchronize()

    def wait_all(self) -> None:
        """Return when all queues are empty."""
        for stream in self._streams.values():
            stream.synchronize()

    def warm_up(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Do work a few times; libraries get what they need now, as they must not while it is recorded."""
        with _CAPTURING, torch.cuda.stream(self._side):
            try:
                for _ in range(_WARM_UPS):
                    result = work()
            finally:
                self._side.synchronize()
        return result

    def record(self, work: Callable[[], torch.Tensor]) -> tuple[Callable[[], Any], torch.Tensor]:
        """Record work as a CUDA graph."""
        graph = torch.cuda.CUDAGraph()
        # the outer stream is restored even where an older torch, failing, leaves the recording one current
        with (
            _CAPTURING,
            torch.cuda.device(self._device),
            torch.cuda.stream(torch.cuda.current_stream(self._device)),
            # other threads, napari's among them, may go on using the card
            torch.cuda.graph(graph, stream=self._side, capture_error_mode="thread_local"),
        ):
            result = work()
        return graph.replay, result

    def give_back(self) -> None:
        """Give memory that torch keeps for later back, on the card and on the host."""
        torch.cuda.empty_cache()
        empty_host_cache = getattr(torch._C, "_host_emptyCache", None)
        if empty_host_cache is not None:
            empty_host_cache()
