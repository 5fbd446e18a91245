"""The network on an NVIDIA card: counts go up as they are, counts come back, and all that can overlaps.

A frame passes through a slot, of which there are three: pinned memory and memory of the card, both for counts
going in and counts coming out. While one slot is copied down, the next one is computed and the third copied
up. What the network does is recorded once for every shape as a CUDA graph, so that the processor launches
one thing for a frame instead of a hundred.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_lowdose_tem.engine.device import Device
from napari_lowdose_tem.engine.runners.counts_network import (
    N_NUMBERS,
    CountsNetwork,
    FastDoubling,
    list_numbers,
)
from napari_lowdose_tem.engine.runners.runner import Runner, is_out_of_memory, place
from napari_lowdose_tem.engine.runners.streams import COMPUTE, DOWN, UP, CudaStreams, Streams
from napari_lowdose_tem.image import F32
from napari_lowdose_tem.network.scaling import Scaling

N_SLOTS = 3
_LARGEST_GRAPH_PX = 2**21  # beyond, the sums take longer than launching them one by one
_KEPT_GRAPHS_PX = 2**23  # a graph keeps the memory of its inner layers, some 160 bytes a pixel
_ALIGNED_BYTES = 256
_SETTINGS = threading.Lock()
_TOLERANCE = 1e-3  # of a graph, relative to the largest value; the same sums should give the same bits


@dataclass(frozen=True)
class _Frames:
    """Shape and number format of what goes up: the scalings' numbers and behind them the counts."""

    shape: tuple[int, int, int]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Pixels."""
        n, rows, cols = self.shape
        return n * rows * cols

    @property
    def start(self) -> int:
        """Byte at which the counts begin."""
        return -(-self.shape[0] * N_NUMBERS * 4 // _ALIGNED_BYTES) * _ALIGNED_BYTES

    @property
    def n_bytes(self) -> int:
        """Bytes of all."""
        return self.start + self.size * self.dtype.itemsize

    def unpack(self, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return counts (n, rows, columns) and numbers (n, 6) as they lie in memory."""
        numbers = memory[: self.shape[0] * N_NUMBERS * 4].view(torch.float32).view(-1, N_NUMBERS)
        return memory[self.start : self.n_bytes].view(self.dtype).view(self.shape), numbers


class _Slot:
    """Memory a batch passes through."""

    def __init__(self) -> None:
        self.n_bytes = self.size = 0
        self.host_in: torch.Tensor
        self.device_in: torch.Tensor
        self.device_out: torch.Tensor
        self.host_out: torch.Tensor
        self.ticket: weakref.ref[_Ticket] | None = None
        self.end: Any = None
        """Event of the last copy out of it; None when it is free."""

    def grow(self, frames: _Frames, streams: Streams) -> None:
        """Make room."""
        if frames.n_bytes > self.n_bytes:
            self.host_in = streams.empty(frames.n_bytes, torch.uint8, on_host=True)
            self.device_in = streams.empty(frames.n_bytes, torch.uint8)
            self.n_bytes = frames.n_bytes
        if frames.size > self.size:
            self.host_out = streams.empty(frames.size, torch.float32, on_host=True)
            self.device_out = streams.empty(frames.size, torch.float32)
            self.size = frames.size


class _Ticket:
    """Result to come. Called, it waits for it; the runner fetches it earlier where it needs the slot."""

    def __init__(self, slot: _Slot, shape: tuple[int, int, int], streams: Streams) -> None:
        self._slot: _Slot | None = slot
        self._shape, self._streams = shape, streams
        self._frames: F32 | None = None
        self._error: RuntimeError | None = None
        slot.ticket = weakref.ref(self)

    def __call__(self) -> F32:
        self.fetch()
        if self._frames is None:
            raise self._error or RuntimeError("no result")
        return self._frames

    def fetch(self) -> None:
        """Take the result out of the slot, or the error that came instead."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        try:
            self._streams.wait(slot.end)
            frames = np.empty(self._shape, np.float32)  # its pages come sooner than torch's
            torch.from_numpy(frames).copy_(slot.host_out[: frames.size].view(self._shape))
            self._frames = frames
        except RuntimeError as err:
            self._error = err
        finally:
            slot.ticket = slot.end = None


class _Graph:
    """A recorded network with the memory it always reads and writes."""

    def __init__(
        self, frames: _Frames, memory: torch.Tensor, replay: Callable[[], Any], output: torch.Tensor
    ) -> None:
        self._frames, self._memory, self._replay, self._output = frames, memory, replay, output

    def run(self, device_in: torch.Tensor, device_out: torch.Tensor) -> None:
        """Replay, from and to the memory of a slot."""
        self._memory.copy_(device_in[: self._frames.n_bytes])
        self._replay()
        # the next replay overwrites the output
        device_out[: self._frames.size].view(self._frames.shape).copy_(self._output)


class CudaRunner(Runner):
    """A network, given in float32 on the CPU with batch norms folded, on an NVIDIA card."""

    n_in_flight = N_SLOTS
    autotune = False
    """Whether cuDNN times its ways to do a layer: perhaps faster, but the last digits vary between runs."""
    doubles_fast = True
    """Whether `FastDoubling` replaces torch's doubling: the same bits, to be measured."""

    def __init__(self, network: torch.nn.Module, device: Device, streams: Streams | None = None) -> None:
        self._streams = streams or CudaStreams(device.torch_device)
        self._network: CountsNetwork | None = CountsNetwork(place(network, device), device.dtype)
        self._slots = [_Slot() for _ in range(N_SLOTS)]
        self._n_submitted = 0
        self._graphs: OrderedDict[_Frames, _Graph] = OrderedDict()
        self._unrecorded: set[_Frames] = set()  # shapes not to be recorded, or not again and again
        self._records = True

    def prepare(self, counts: npt.NDArray[Any], scalings: Sequence[Scaling]) -> Callable[[], Any]:
        """Put frames on the card; return what runs the network on them, there, and waits for its end."""
        streams, slot = self._streams, _Slot()
        frames = _describe(counts)
        slot.grow(frames, streams)
        run, uploaded = self._begin(slot, frames, counts, scalings)
        streams.wait(uploaded)
        return lambda: streams.wait(streams.run(COMPUTE, run))

    def submit(self, counts: npt.NDArray[Any], scalings: Sequence[Scaling]) -> Callable[[], F32]:
        """Begin to enhance frames; returns what waits for the result."""
        try:
            return self._submit(counts, scalings)
        except RuntimeError as err:
            if not (self._graphs and is_out_of_memory(err)):
                raise
        # outside the handler, so that what the failed attempt held is free
        self._drop_graphs()
        return self._submit(counts, scalings)

    def _submit(self, counts: npt.NDArray[Any], scalings: Sequence[Scaling]) -> Callable[[], F32]:
        streams, slot = self._streams, self._take_slot()
        frames = _describe(counts)
        try:
            slot.grow(frames, streams)
            run, uploaded = self._begin(slot, frames, counts, scalings)
            computed = streams.run(COMPUTE, run, after=uploaded)
            out = slice(frames.size)
            slot.end = streams.run(
                DOWN,
                lambda: slot.host_out[out].copy_(slot.device_out[out], non_blocking=True),
                after=computed,
            )
        except BaseException:
            streams.wait_all()  # what is queued already still uses the slot
            raise
        self._n_submitted += 1
        return _Ticket(slot, frames.shape, streams)

    def _take_slot(self) -> _Slot:
        """Return the slot used longest ago, its result fetched if somebody may still ask for it."""
        slot = self._slots[self._n_submitted % N_SLOTS]
        if slot.end is not None:
            ticket = slot.ticket() if slot.ticket is not None else None
            if ticket is not None:
                ticket.fetch()
            else:
                self._streams.wait(slot.end)
                slot.ticket = slot.end = None
        return slot

    def _begin(
        self, slot: _Slot, frames: _Frames, counts: npt.NDArray[Any], scalings: Sequence[Scaling]
    ) -> tuple[Callable[[], Any], Any]:
        """Send frames up; return what runs the network on them and the event of their arrival."""
        host_counts, host_numbers = frames.unpack(slot.host_in)
        np.copyto(host_counts.numpy(), counts, casting="unsafe")
        np.copyto(host_numbers.numpy(), list_numbers(scalings))
        sent = slice(frames.n_bytes)
        uploaded = self._streams.run(
            UP, lambda: slot.device_in[sent].copy_(slot.host_in[sent], non_blocking=True)
        )
        graph = self._find_graph(slot, frames, uploaded)
        run = partial(self._run_plainly, frames) if graph is None else graph.run
        return partial(run, slot.device_in, slot.device_out), uploaded

    def _run_plainly(self, frames: _Frames, device_in: torch.Tensor, device_out: torch.Tensor) -> None:
        """Run the network layer by layer, from and to the memory of a slot."""
        device_out[: frames.size].view(frames.shape).copy_(self._compute(*frames.unpack(device_in)))

    def _compute(self, counts: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        if self._network is None:
            raise ValueError("this runner was closed; make a new one")
        # the last layer's inputs, of half precision, and its weights have no more digits than TF32
        same_sums = _same_sums(self.autotune, allow_tf32=self._network.dtype is not torch.float32)
        with same_sums, FastDoubling() if self.doubles_fast else contextlib.nullcontext():
            result: torch.Tensor = self._network(counts, numbers)
        return result

    def _find_graph(self, slot: _Slot, frames: _Frames, uploaded: Any) -> _Graph | None:
        """Return the graph of a shape, recorded on frames in a slot when it is new; None to do without."""
        if frames in self._graphs:
            self._graphs.move_to_end(frames)
        elif self._records and frames.size <= _LARGEST_GRAPH_PX and frames not in self._unrecorded:
            while self._graphs and frames.size + sum(f.size for f in self._graphs) > _KEPT_GRAPHS_PX:
                self._unrecorded.add(next(iter(self._graphs)))
                self._drop_graphs(1)
            graph = self._record(slot, frames, uploaded)
            if graph is not None:
                self._graphs[frames] = graph
        return self._graphs.get(frames)

    def _record(self, slot: _Slot, frames: _Frames, uploaded: Any) -> _Graph | None:
        """Record the network for a shape and compare it with the network itself on the frames in a slot."""
        streams = self._streams
        memory = streams.empty(frames.n_bytes, torch.uint8)
        fill = streams.run(COMPUTE, lambda: memory.copy_(slot.device_in[: frames.n_bytes]), after=uploaded)
        streams.wait(fill)
        work = partial(self._compute, *frames.unpack(memory))
        expected = streams.warm_up(work)
        try:
            replay, output = streams.record(work)
            streams.wait(streams.run(COMPUTE, replay))
            if _is_close(output, expected):
                return _Graph(frames, memory, replay, output)
            reason = "it does not give what the network gives"
        except RuntimeError as err:
            reason = (str(err) or type(err).__name__).splitlines()[0]
            self._records = is_out_of_memory(err)  # for another shape it may suffice
        else:
            self._records = False
        self._unrecorded.add(frames)
        self.note = f"computed without a CUDA graph, which takes longer: {reason}"
        streams.give_back()
        return None

    def _drop_graphs(self, n: int | None = None) -> None:
        """Drop the graphs used longest ago, or all, and give their memory back."""
        self._streams.wait_all()
        for frames in list(self._graphs)[:n]:
            del self._graphs[frames]
        self._streams.give_back()

    def close(self) -> None:
        """Give the memory back; results still to come are fetched."""
        for slot in self._slots:
            ticket = slot.ticket() if slot.ticket is not None else None
            if ticket is not None:
                ticket.fetch()
        with contextlib.suppress(RuntimeError):  # of frames nobody waits for
            self._streams.wait_all()
        self._slots = [_Slot() for _ in range(N_SLOTS)]
        self._graphs.clear()
        self._network = None
        self._streams.give_back()


def _describe(counts: npt.NDArray[Any]) -> _Frames:
    n, rows, cols = counts.shape
    is_uint16 = counts.dtype.kind == "u" and counts.dtype.itemsize == 2  # of either byte order
    return _Frames((n, rows, cols), torch.uint16 if is_uint16 else torch.float32)


def _is_close(output: torch.Tensor, expected: torch.Tensor) -> bool:
    largest = float(expected.nan_to_num(0.0, 0.0, 0.0).abs().max())
    return torch.allclose(output, expected, rtol=0, atol=_TOLERANCE * largest, equal_nan=True)


@contextmanager
def _same_sums(autotune: bool, allow_tf32: bool) -> Iterator[None]:
    """Without gradients and deterministic; the settings are the process's, so one thread at a time."""
    # no inference mode: what a recording made in it leaves behind, recordings outside it cannot use
    with (
        _SETTINGS,
        torch.no_grad(),
        torch.backends.cudnn.flags(
            enabled=True, benchmark=autotune, deterministic=True, allow_tf32=allow_tf32
        ),
    ):
        yield
