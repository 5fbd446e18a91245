"""The engine: a network on a processor, fed frames of any size, in tiles and batches that fit."""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_lowdose_tem import __version__
from napari_lowdose_tem.device import Device, choose_device
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.model import DEFAULT_MODEL, Model, load_model
from napari_lowdose_tem.network import STRIDE
from napari_lowdose_tem.preprocess import Scaling, fit_output, measure_scaling
from napari_lowdose_tem.runners import Parity, Runner, compare_runner, open_runner
from napari_lowdose_tem.runners.runner import empty_cache
from napari_lowdose_tem.tiling import Tile, blend_weight, cut_tiles

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

    Raises
    ------
    ValueError
        For a device that is unknown, does not work, or computes something else than torch on the CPU in
        float32 does; where "auto" meets such a one, it takes the CPU and says so in `note`.
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
        self._runner: Runner | None = None
        self.parity: Parity
        """How far the output is from that of float32 on the CPU."""
        try:
            self._runner, self.parity = self._open_runner()
        except ValueError as err:
            if device != "auto" or self.device.kind == "cpu":
                raise
            self.device, self.note = choose_device("cpu"), str(err)
            self._runner, self.parity = self._open_runner()
        on_cpu = self.device.on_cpu
        self._tile_px = tile_px or (1536 if on_cpu else 2048)
        if self._tile_px < _SMALLEST_TILE_PX:
            raise ValueError(f"tile of {self._tile_px} px is too small; use at least {_SMALLEST_TILE_PX} px")
        self._batch_px = 512**2 * (1 if on_cpu else 8)

    def _open_runner(self) -> tuple[Runner, Parity]:
        device = self.device
        try:
            runner = open_runner(self.model, device)
            parity = compare_runner(runner, self.model.network, self.model.info.recipe, device.precision)
        except (RuntimeError, ImportError, NotImplementedError) as err:
            raise ValueError(
                f"{device} cannot run this network: {str(err).splitlines()[0]}; choose another device"
            ) from err
        if not parity.is_close:
            runner.close()
            raise ValueError(f"{device} {parity}: too much for {device.precision}; choose another device")
        return runner, parity

    def __enter__(self) -> Engine:
        """Return the engine itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Give the memory back."""
        self.close()

    def close(self) -> None:
        """Unload the network and give its memory back."""
        if self._runner is not None:
            self._runner.close()
        self._runner = None

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

    def cut(self, frame_shape: tuple[int, int]) -> list[Tile]:
        """Cut a frame of a shape [px], grown to multiples of the network's stride, into tiles."""
        return cut_tiles((_padded(frame_shape[0]), _padded(frame_shape[1])), self._tile_px, _HALO_PX, STRIDE)

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
        if recipe["output"] != "unit":
            return (yield from self._iter_padded(counts, scalings, report))
        plain = [replace(s, output_scale=1.0, output_offset=0.0) for s in scalings]
        output = yield from self._iter_padded(counts, plain, report)
        fitted = [fit_output(s, x, y) for s, x, y in zip(scalings, counts, output, strict=True)]
        return np.stack([s.to_counts(frame) for s, frame in zip(fitted, output, strict=True)])

    def _iter_padded(
        self, counts: npt.NDArray[Any], scalings: list[Scaling], report: Callable[[float], Any]
    ) -> Generator[Any, None, Floats]:
        """Run the network over frames, falling back to smaller batches and tiles when memory runs out."""
        rows, cols = counts.shape[-2:]
        pad = ((0, 0), (0, _padded(rows) - rows), (0, _padded(cols) - cols))
        padded = np.pad(counts, pad, mode="reflect") if any(map(any, pad)) else counts
        batch = len(padded)
        while True:
            try:
                output = yield from self._iter_tiles(padded, scalings, batch, report)
                return output[:, :rows, :cols]
            except (RuntimeError, MemoryError) as err:
                if not _is_out_of_memory(err):
                    raise
            # outside the handler, so that the failed attempt's tensors are free before the next one
            empty_cache(self.device)
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
        self,
        padded: npt.NDArray[Any],
        scalings: list[Scaling],
        batch: int,
        report: Callable[[float], Any],
    ) -> Generator[Any, None, Floats]:
        shape = (padded.shape[1], padded.shape[2])
        tiles = self.cut(shape)
        if len(tiles) == 1 and batch >= len(padded):
            return self._run(padded, scalings)
        output = np.zeros(padded.shape, np.float32)
        n_steps, step = len(tiles) * -(-len(padded) // batch), 0
        for first in range(0, len(padded), batch):
            some = slice(first, first + batch)
            for tile in tiles:
                result = self._run(padded[some, *tile.source], scalings[some])
                output[some, *tile.source] += result * blend_weight(tile)
                step += 1
                if step < n_steps:
                    yield report(step / n_steps)
        return output

    @property
    def runner(self) -> Runner:
        """The network on its processor.

        Raises
        ------
        ValueError
            For an engine that was closed.
        """
        if self._runner is None:
            raise ValueError("this engine was closed; make a new one")
        return self._runner

    def _run(self, counts: npt.NDArray[Any], scalings: list[Scaling]) -> Floats:
        """Enhance frames (n, rows, columns), multiples of the network's stride, at once."""
        return self.runner.submit(counts, scalings)()


def _padded(size: int) -> int:
    return -(-size // STRIDE) * STRIDE


def _is_out_of_memory(err: BaseException) -> bool:
    text = str(err).lower()
    return isinstance(err, MemoryError | torch.OutOfMemoryError) or any(
        sign in text for sign in _OUT_OF_MEMORY
    )
