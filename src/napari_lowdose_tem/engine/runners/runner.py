"""A network on a processor, fed counts."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from napari_lowdose_tem.engine.device import Device
from napari_lowdose_tem.image import F32
from napari_lowdose_tem.network.scaling import Scaling

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "alloc_cpu",
    "alloc_failed",  # cuDNN's and cuBLAS's
    "unable to find an engine",  # how torch puts it when none of cuDNN's ways finds room
)


class Runner(ABC):
    """A network on one processor. Frames are (n, rows, columns), sides multiples of the network's stride."""

    n_in_flight = 1
    """How many calls of `submit` may wait for their results."""
    note = ""
    """What the user should know of it, in plain words, or nothing."""

    @abstractmethod
    def prepare(self, counts: npt.NDArray[Any], scalings: Sequence[Scaling]) -> Callable[[], Any]:
        """Put frames on the processor; return what runs the network on them and waits for its end."""

    @abstractmethod
    def submit(self, counts: npt.NDArray[Any], scalings: Sequence[Scaling]) -> Callable[[], F32]:
        """Begin to enhance frames, one scaling each; return what waits for the result in counts, float32.

        Raises
        ------
        RuntimeError, MemoryError
            Here or from what is returned, when memory runs out.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the memory back."""


class HostRunner(Runner):
    """A runner that scales on the host and computes at once."""

    @abstractmethod
    def run(self, inputs: F32) -> F32:
        """Run the network on scaled frames."""

    def submit(self, counts: npt.NDArray[Any], scalings: Sequence[Scaling]) -> Callable[[], F32]:
        """Enhance frames at once."""
        output = self.run(normalise(counts, scalings))
        frames = np.stack([s.to_counts(frame) for s, frame in zip(scalings, output, strict=True)])
        return lambda: frames


class TorchRunner(HostRunner):
    """The network as torch runs it, layer by layer, on any processor torch knows."""

    def __init__(self, network: torch.nn.Module, device: Device) -> None:
        self._device = device
        self._network = place(network, device)

    def prepare(self, counts: npt.NDArray[Any], scalings: Sequence[Scaling]) -> Callable[[], Any]:
        """Put scaled frames on the processor."""
        tensor = self._upload(normalise(counts, scalings))
        kind = self._device.torch_device.type
        wait = getattr(torch, kind).synchronize

        def run() -> None:
            with torch.inference_mode():
                self._network(tensor)
            wait()

        return run

    def run(self, inputs: F32) -> F32:
        """Run the network on scaled frames."""
        with torch.inference_mode():
            result = self._network(self._upload(inputs))
            array: F32 = result[:, 0].float().cpu().numpy()
        return array

    def _upload(self, inputs: F32) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(inputs[:, None]))
        tensor = tensor.to(self._device.torch_device, self._device.dtype)
        return tensor.contiguous(memory_format=torch.channels_last)

    def close(self) -> None:
        """Give the memory back."""
        del self._network  # before the cache is emptied, or it would keep it
        empty_cache(self._device)


def normalise(counts: npt.NDArray[Any], scalings: Sequence[Scaling]) -> F32:
    """Scale frames (n, rows, columns) to network input, each by its own scaling."""
    return np.stack([s.normalise(frame) for s, frame in zip(scalings, counts, strict=True)])


def place(network: torch.nn.Module, device: Device) -> torch.nn.Module:
    """Copy a network to a device in its precision, channels last; some layers stay in float32."""
    placed = copy.deepcopy(network).eval().requires_grad_(False)
    placed = placed.to(device.torch_device, device.dtype).to(memory_format=torch.channels_last)
    for module in placed.modules():
        # statistics and the last layer need more digits than half precision has
        if isinstance(module, torch.nn.BatchNorm2d):
            module.float()
    head = cast("torch.nn.Module", placed.head).float()
    head.load_state_dict(cast("torch.nn.Module", network.head).state_dict())  # with the digits it had
    return placed


def is_out_of_memory(err: BaseException) -> bool:
    """Tell whether an error means that memory ran out."""
    text = str(err).lower()
    return isinstance(err, MemoryError | torch.OutOfMemoryError) or any(
        sign in text for sign in _OUT_OF_MEMORY
    )


def empty_cache(device: Device) -> None:
    """Give memory that torch keeps for later back to the device."""
    kind = device.torch_device.type
    if kind != "cpu":
        getattr(torch, kind).empty_cache()
