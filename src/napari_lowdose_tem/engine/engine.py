"""The engine: a network on a processor, fed frames of any size, in tiles and batches that fit."""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from napari_lowdose_tem import __version__
from napari_lowdose_tem.engine.device import Device, choose_device
from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.engine.runners import Parity, Runner, compare_runner, open_runner
from napari_lowdose_tem.engine.runners.footprint import measure_bytes_per_px
from napari_lowdose_tem.engine.runners.runner import empty_cache, is_out_of_memory
from napari_lowdose_tem.engine.tiling import Tile, blend, cut_tiles
from napari_lowdose_tem.image import F32, Image
from napari_lowdose_tem.network.model_file import Model, load_model
from napari_lowdose_tem.network.networks import STRIDE
from napari_lowdose_tem.network.scaling import Scaling, fit_output, measure_scaling, measure_stack

Report = TypeVar("Report")

# Margin of a tile, so that its inside does not feel its border. The networks can look some 300 px far, but
# what they see beyond 200 px changes the output by less than a thousandth of its range.
_HALO_PX = 288
_SMALLEST_TILE_PX = 640
_CARD_TILES_PX = (1024, 2048, 3072, 4096, 6144)  # layers of larger ones have more than 2³¹ values
_WORKSPACE = 2  # convolutions take memory to work in, about as much as the layers hold
_COUNTS_BYTES_PER_PX = 32  # a runner's memory for counts on their way, and the output


class Engine:
    """A model on a processor. Use as a context manager, or `close()` it to give its memory back.

    Parameters
    ----------
    model
        Loaded model, or as in `EngineOptions`.
    device
        Device that passed its self-test, or as in `EngineOptions`.
    precision, tile_px
        As in `EngineOptions`.

    Raises
    ------
    ValueError
        For a device that is unknown, does not work, or computes something else than torch on the CPU in
        float32 does; where "auto" meets such a one, it takes the CPU and says so in `note`.
    """

    def __init__(
        self,
        model: Model | str | Path = EngineOptions.model,
        device: str | Device = EngineOptions.device,
        *,
        precision: str = EngineOptions.precision,
        tile_px: int | None = EngineOptions.tile_px,
    ) -> None:
        self.model = model if isinstance(model, Model) else load_model(model)
        self.device = device if isinstance(device, Device) else choose_device(device, precision)
        self._note = self.device.note
        self._is_short_of_memory = False
        self._runner: Runner | None = None
        self.parity: Parity
        """How far the output is from that of float32 on the CPU."""
        try:
            self._runner, self.parity = self._open_runner()
        except ValueError as err:
            if device != "auto" or self.device.kind == "cpu":
                raise
            self.device, self._note = choose_device("cpu"), str(err)
            self._runner, self.parity = self._open_runner()
        on_cpu = self.device.on_cpu
        self._tile_px = tile_px or self._choose_tile()
        if self._tile_px < _SMALLEST_TILE_PX:
            raise ValueError(f"tile of {self._tile_px} px is too small; use at least {_SMALLEST_TILE_PX} px")
        self._batch_px = 512**2 * (1 if on_cpu else 8)

    @classmethod
    def from_options(cls, options: EngineOptions) -> Engine:
        """Open the engine that options describe."""
        return cls(options.model, options.device, precision=options.precision, tile_px=options.tile_px)

    def _open_runner(self) -> tuple[Runner, Parity]:
        device, runner = self.device, None
        try:
            runner = open_runner(self.model, device)
            parity = compare_runner(runner, self.model.network, self.model.info.recipe, device.precision)
        except (RuntimeError, ImportError) as err:
            if runner is not None:
                runner.close()
            reason = (str(err) or type(err).__name__).splitlines()[0]
            raise ValueError(f"{device} cannot run this network: {reason}; choose another device") from err
        if not parity.is_close:
            runner.close()
            raise ValueError(f"{device} {parity}: too much for {device.precision}; choose another device")
        return runner, parity

    def _choose_tile(self) -> int:
        """Return the longest side to process at once [px]; on a card as much as fits into its free memory."""
        if self.device.on_cpu:
            return 1536
        if self.device.torch_device.type != "cuda":
            return 2048
        free_bytes, _ = torch.cuda.mem_get_info(self.device.torch_device)
        inner = measure_bytes_per_px(self.model.network, self.device.dtype)
        largest_px = free_bytes / (_WORKSPACE * inner + _COUNTS_BYTES_PER_PX)
        # few sizes, so that the workers of a cluster cut alike
        return max(side for side in _CARD_TILES_PX if side**2 <= largest_px or side == _CARD_TILES_PX[0])

    @property
    def note(self) -> str:
        """What the user should know of device, memory and speed, or nothing."""
        notes = (self._note, self._runner.note if self._runner is not None else "")
        return "; ".join(note for note in notes if note)

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
            "level_counts": None if scaling is None else scaling.level_counts,
            "device": str(self.device),
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
        return measure_stack(self.model.info.recipe, image, first, last)

    def batch_for(self, frame_shape: tuple[int, int]) -> int:
        """Return how many frames of a shape [px] to process together."""
        return max(1, self._batch_px // (_padded(frame_shape[0]) * _padded(frame_shape[1])))

    def cut(self, frame_shape: tuple[int, int]) -> list[Tile]:
        """Cut a frame of a shape [px], grown to multiples of the network's stride, into tiles."""
        return cut_tiles((_padded(frame_shape[0]), _padded(frame_shape[1])), self._tile_px, _HALO_PX, STRIDE)

    def enhance(self, counts: npt.NDArray[Any], scaling: Scaling | None = None) -> F32:
        """Enhance frames (n, rows, columns) or one frame (rows, columns) of counts; float32, same shape.

        Without `scaling` each frame is scaled by itself.
        """
        frames = counts if counts.ndim == 3 else counts[None]
        steps = self.iter_enhance(frames, scaling, lambda share: share)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                result: F32 = stop.value
                return result.reshape(counts.shape)

    def iter_enhance(
        self, counts: npt.NDArray[Any], scaling: Scaling | None, report: Callable[[float], Report]
    ) -> Generator[Report, None, F32]:
        """Enhance frames (n, rows, columns), yielding `report(share done)` between tiles."""
        scalings = self._measure_each(counts, scaling)
        output = yield from self._iter_padded(counts, self._of_network(scalings), report)
        return self._fit(counts, scalings, output)

    def submit(self, counts: npt.NDArray[Any], scaling: Scaling | None) -> PendingFrames:
        """Begin to enhance frames (n, rows, columns).

        As many as `n_in_flight` may be submitted before the first result is asked for. Where only one may, or
        tiles are needed, nothing happens before it is.
        """
        rows, cols = counts.shape[-2:]
        fits = max(_padded(rows), _padded(cols)) <= self._tile_px and not self._is_short_of_memory
        if self.n_in_flight == 1 or not fits:
            return PendingFrames(self, counts, scaling)
        scalings = self._measure_each(counts, scaling)
        try:
            wait = self.runner.submit(_pad(counts), self._of_network(scalings))
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            return PendingFrames(self, counts, scaling)
        return PendingFrames(
            self, counts, scaling, lambda: self._fit(counts, scalings, wait()[:, :rows, :cols])
        )

    @property
    def n_in_flight(self) -> int:
        """How many batches may be begun before the first is waited for."""
        return self.runner.n_in_flight

    def _measure_each(self, counts: npt.NDArray[Any], scaling: Scaling | None) -> list[Scaling]:
        return [scaling or measure_scaling(self.model.info.recipe, frame) for frame in counts]

    def _of_network(self, scalings: list[Scaling]) -> list[Scaling]:
        """Return the scalings to run the network with: without those of an output yet to be fitted."""
        if self.model.info.recipe["output"] != "unit":
            return scalings
        return [replace(s, output_scale=1.0, output_offset=0.0) for s in scalings]

    def _fit(self, counts: npt.NDArray[Any], scalings: list[Scaling], output: F32) -> F32:
        """Bring a network's output to counts where it is not yet."""
        if self.model.info.recipe["output"] != "unit":
            return output
        fitted = [fit_output(s, x, y) for s, x, y in zip(scalings, counts, output, strict=True)]
        return np.stack([s.to_counts(frame) for s, frame in zip(fitted, output, strict=True)])

    def _iter_padded(
        self, counts: npt.NDArray[Any], scalings: list[Scaling], report: Callable[[float], Report]
    ) -> Generator[Report, None, F32]:
        """Run the network over frames, falling back to smaller batches and tiles when memory runs out."""
        rows, cols = counts.shape[-2:]
        padded = _pad(counts)
        batch = len(padded)
        while True:
            try:
                output = yield from self._iter_tiles(padded, scalings, batch, report)
                return output[:, :rows, :cols]
            except (RuntimeError, MemoryError) as err:
                if not is_out_of_memory(err):
                    raise
            # outside the handler, so that the failed attempt's tensors are free before the next one
            self._is_short_of_memory = True
            empty_cache(self.device)
            if batch > 1:
                batch //= 2
                self._note = f"out of memory: {batch} frames at once"
            elif self._tile_px > _SMALLEST_TILE_PX:
                self._tile_px = max(_SMALLEST_TILE_PX, min(self._tile_px, max(padded.shape[1:])) // 2)
                self._note = f"out of memory: tiles of {self._tile_px} px"
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
        report: Callable[[float], Report],
    ) -> Generator[Report, None, F32]:
        shape = (padded.shape[1], padded.shape[2])
        tiles = self.cut(shape)
        if len(tiles) == 1 and batch >= len(padded):
            return self.runner.submit(padded, scalings)()
        output = np.zeros(padded.shape, np.float32)
        parts = [
            (slice(first, first + batch), tile) for first in range(0, len(padded), batch) for tile in tiles
        ]
        to_begin, waiting = iter(parts), deque[Callable[[], F32]]()
        for n_done, (done, done_tile) in enumerate(parts, 1):
            for some, tile in islice(to_begin, self.n_in_flight - len(waiting)):
                waiting.append(self.runner.submit(padded[some, *tile.source], scalings[some]))
            blend(output[done], done_tile, waiting.popleft()())
            if n_done < len(parts):
                yield report(n_done / len(parts))
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


class PendingFrames:
    """Frames given to an engine, whose result is to come."""

    def __init__(
        self,
        engine: Engine,
        counts: npt.NDArray[Any],
        scaling: Scaling | None,
        wait: Callable[[], F32] | None = None,
    ) -> None:
        self._engine, self._counts, self._scaling, self._wait = engine, counts, scaling, wait
        self.n_frames = len(counts)

    def iter_result(self, report: Callable[[float], Report]) -> Generator[Report, None, F32]:
        """Return the result, yielding `report(share done)` between tiles.

        When memory ran out, the frames are enhanced again, fewer at a time.
        """
        if self._wait is not None:
            try:
                return self._wait()
            except (RuntimeError, MemoryError) as err:
                if not is_out_of_memory(err):
                    raise
        return (yield from self._engine.iter_enhance(self._counts, self._scaling, report))


def _padded(size: int) -> int:
    return -(-size // STRIDE) * STRIDE


def _pad(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Extend frames by reflection to multiples of the network's stride."""
    rows, cols = counts.shape[-2:]
    pad = ((0, 0), (0, _padded(rows) - rows), (0, _padded(cols) - cols))
    return np.pad(counts, pad, mode="reflect") if any(map(any, pad)) else counts
