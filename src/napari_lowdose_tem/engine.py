"""The engine: a network on a processor, fed frames of any size, in tiles and batches that fit."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Generator
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from napari_lowdose_tem import __version__
from napari_lowdose_tem.device import Device, choose_device
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.model import DEFAULT_MODEL, Model, load_model
from napari_lowdose_tem.network import STRIDE
from napari_lowdose_tem.preprocess import Scaling, fit_output, measure_scaling
from napari_lowdose_tem.tiling import blend_weight, cut_tiles

Floats = npt.NDArray[np.float32]

_LEVEL_SAMPLE = 16  # frames of a stack its common level is measured on
# Margin of a tile, so that its inside does not feel its border. The networks can look some 300 px far, but
# what they see beyond 200 px changes the output by less than a thousandth of its range.
_HALO_PX = 288
_SMALLEST_TILE_PX = 640
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "alloc_cpu")


class Engine:
    """A model on a processor. Use as a context manager, or `close()` it to give its memory back.

    Parameters
    ----------
    model
        Loaded model, or the name or path of one.
    device, precision
        As `device.choose_device` takes them.
    tile_px
        Longest side processed at once, halo included [px].
    """

    def __init__(
        self,
        model: Model | str | Path = DEFAULT_MODEL,
        device: str | Device = "auto",
        *,
        precision: str = "auto",
        tile_px: int | None = None,
    ) -> None:
        self.model = model if isinstance(model, Model) else load_model(model)
        self.device = device if isinstance(device, Device) else choose_device(device, precision)
        self.note = self.device.note
        on_cpu = self.device.kind == "cpu"
        self._tile_px = tile_px or (1536 if on_cpu else 2048)
        if self._tile_px < _SMALLEST_TILE_PX:
            raise ValueError(f"tile of {self._tile_px} px is too small; use at least {_SMALLEST_TILE_PX} px")
        self._batch_px = 512**2 * (1 if on_cpu else 8)
        self._network: torch.nn.Module | None = self._place(self.model.network)

    def _place(self, network: torch.nn.Module) -> torch.nn.Module:
        placed = copy.deepcopy(network).eval().requires_grad_(False)
        placed = placed.to(self.device.torch_device, self.device.dtype)
        placed = placed.to(memory_format=torch.channels_last)
        for module in placed.modules():
            # statistics and the last layer need more digits than half precision has
            if isinstance(module, torch.nn.BatchNorm2d):
                module.float()
        cast("torch.nn.Module", placed.head).float()
        return placed

    def __enter__(self) -> Engine:
        """Return the engine itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Give the memory back."""
        self.close()

    def close(self) -> None:
        """Unload the network and give its memory back."""
        self._network = None
        _empty_cache(self.device)

    def describe(self, scaling: Scaling | None = None) -> dict[str, Any]:
        """Return what an enhanced image should know of its making, as JSON values."""
        info = self.model.info
        return {
            "program": f"napari-lowdose-tem {__version__}",
            "model": info.name,
            "model_version": info.version,
            "model_sha256": self.model.file.sha256,
            "recipe": dict(info.recipe),
            "level_counts": None if scaling is None else round(scaling.scale, 6),
            "device": self.device.name,
            "precision": self.device.precision,
            "tile_px": self._tile_px,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def measure(self, image: Image, first: int = 0, last: int | None = None) -> Scaling | None:
        """Measure the one scaling of a whole stack on frames spread over it; None for per-frame recipes.

        Raises
        ------
        ValueError
            When the frames hold no signal.
        """
        recipe = self.model.info.recipe
        if recipe["per"] != "stack":
            return None
        last = image.n_frames if last is None else last
        picked = np.unique(np.linspace(first, last - 1, min(_LEVEL_SAMPLE, last - first)).round().astype(int))
        measured = []
        for index in picked:
            frame = image.frames(int(index), int(index) + 1)
            scaling = measure_scaling(recipe, frame)
            if scaling.has_signal:
                measured.append(scaling)
        if not measured:
            raise ValueError(
                f"{image.name}: no signal (the mean of the counts is zero or negative); "
                "check the dark reference and that the file is the right one"
            )
        means = {f.name: float(np.mean([getattr(m, f.name) for m in measured])) for f in fields(Scaling)}
        return Scaling(**means)

    def batch_for(self, frame_shape: tuple[int, int]) -> int:
        """Return how many frames of a shape [px] to process together."""
        return max(1, self._batch_px // (_padded(frame_shape[0]) * _padded(frame_shape[1])))

    def enhance(self, counts: npt.NDArray[Any], scaling: Scaling | None = None) -> Floats:
        """Enhance frames (n, rows, columns) or one frame (rows, columns) of counts; float32, same shape.

        Without `scaling` each frame is scaled by itself.
        """
        frames = counts if counts.ndim == 3 else counts[None]
        steps = self.iter_enhance(frames, scaling, lambda share: share)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                result: Floats = stop.value
                return result.reshape(counts.shape)

    def iter_enhance(
        self, counts: npt.NDArray[Any], scaling: Scaling | None, report: Callable[[float], Any]
    ) -> Generator[Any, None, Floats]:
        """Enhance frames (n, rows, columns), yielding `report(share done)` between tiles."""
        recipe = self.model.info.recipe
        scalings = [scaling or measure_scaling(recipe, frame) for frame in counts]
        inputs = np.stack([s.normalise(frame) for s, frame in zip(scalings, counts, strict=True)])
        output = yield from self._iter_network(inputs, report)
        if recipe["output"] == "unit":
            scalings = [fit_output(s, x, y) for s, x, y in zip(scalings, counts, output, strict=True)]
        return np.stack([s.to_counts(frame) for s, frame in zip(scalings, output, strict=True)])

    def _iter_network(self, inputs: Floats, report: Callable[[float], Any]) -> Generator[Any, None, Floats]:
        """Run the network over frames, falling back to smaller batches and tiles when memory runs out."""
        rows, cols = inputs.shape[-2:]
        pad = ((0, 0), (0, _padded(rows) - rows), (0, _padded(cols) - cols))
        padded = np.pad(inputs, pad, mode="reflect")
        batch = len(padded)
        while True:
            try:
                output = yield from self._iter_tiles(padded, batch, report)
                return output[:, :rows, :cols]
            except (RuntimeError, MemoryError) as err:
                if not _is_out_of_memory(err):
                    raise
            # outside the handler, so that the failed attempt's tensors are free before the next one
            _empty_cache(self.device)
            if batch > 1:
                batch //= 2
                self.note = f"out of memory: {batch} frames at once"
            elif self._tile_px > _SMALLEST_TILE_PX:
                self._tile_px = max(_SMALLEST_TILE_PX, min(self._tile_px, max(padded.shape[1:])) // 2)
                self.note = f"out of memory: tiles of {self._tile_px} px"
            else:
                raise MemoryError(
                    f"not enough memory on {self.device} even for a tile of {self._tile_px} px; close other "
                    "programs or use the CPU"
                )

    def _iter_tiles(
        self, padded: Floats, batch: int, report: Callable[[float], Any]
    ) -> Generator[Any, None, Floats]:
        shape = (padded.shape[1], padded.shape[2])
        tiles = cut_tiles(shape, self._tile_px, _HALO_PX, STRIDE)
        if len(tiles) == 1 and batch >= len(padded):
            return self._run(padded)
        output = np.zeros_like(padded)
        n_steps, step = len(tiles) * -(-len(padded) // batch), 0
        for first in range(0, len(padded), batch):
            for tile in tiles:
                result = self._run(padded[first : first + batch, *tile.source])
                output[first : first + batch, *tile.source] += result * blend_weight(tile)
                step += 1
                if step < n_steps:
                    yield report(step / n_steps)
        return output

    @property
    def network(self) -> torch.nn.Module:
        """The network on its processor, in its precision."""
        if self._network is None:
            raise ValueError("this engine was closed; make a new one")
        return self._network

    def _run(self, inputs: Floats) -> Floats:
        """Run the network on (n, rows, columns), multiples of its stride."""
        network = self.network
        tensor = torch.from_numpy(np.ascontiguousarray(inputs[:, None]))
        tensor = tensor.to(self.device.torch_device, self.device.dtype)
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        ):
            result = network(tensor.contiguous(memory_format=torch.channels_last))
            array: Floats = result[:, 0].float().cpu().numpy()
        return array


def _padded(size: int) -> int:
    return -(-size // STRIDE) * STRIDE


def _is_out_of_memory(err: BaseException) -> bool:
    text = str(err).lower()
    return isinstance(err, MemoryError | torch.OutOfMemoryError) or any(
        sign in text for sign in _OUT_OF_MEMORY
    )


def _empty_cache(device: Device) -> None:
    family = device.kind.split(":")[0]
    if family != "cpu":
        getattr(torch, family).empty_cache()
