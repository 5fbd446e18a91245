"""Cutting a frame into overlapping tiles whose blended results equal the whole frame's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Span:
    """One side of a tile [px]: what is read, and what of it counts, ramps `ramp` wide at inner borders."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int
    ramp: int

    def weight(self) -> npt.NDArray[np.float32]:
        """Return weights over start…stop that add up to 1 with the neighbours'."""
        position = np.arange(self.start, self.stop) + 0.5
        weight = np.ones(self.stop - self.start)
        if self.keep_start > self.start:
            weight = np.minimum(weight, (position - self.keep_start) / self.ramp + 0.5)
        if self.keep_stop < self.stop:
            weight = np.minimum(weight, (self.keep_stop - position) / self.ramp + 0.5)
        return weight.clip(0, 1).astype(np.float32)

    @property
    def used(self) -> slice:
        """Index of what has a weight, within start…stop."""
        first = self.keep_start - self.ramp // 2 if self.keep_start > self.start else self.start
        last = self.keep_stop + self.ramp // 2 if self.keep_stop < self.stop else self.stop
        return slice(first - self.start, last - self.start)


@dataclass(frozen=True)
class Tile:
    """A rectangle of a frame as two spans."""

    rows: Span
    cols: Span

    @property
    def source(self) -> tuple[slice, slice]:
        """Index of the tile's pixels, halo included, in the frame."""
        return slice(self.rows.start, self.rows.stop), slice(self.cols.start, self.cols.stop)


def blend(frames: npt.NDArray[np.float32], tile: Tile, result: npt.NDArray[np.float32]) -> None:
    """Add a tile's result (n, rows, columns), weighted, to frames (n, rows, columns) that begin as zeros.

    The result is overwritten.
    """
    rows, cols = tile.rows.used, tile.cols.used
    part = result[:, rows, cols]
    part *= np.outer(tile.rows.weight()[rows], tile.cols.weight()[cols])
    frames[:, *tile.source][:, rows, cols] += part


def cut_tiles(shape: tuple[int, int], tile_px: int, halo_px: int, stride: int) -> list[Tile]:
    """Cut a frame of `shape` (multiples of `stride`) into tiles of at most `tile_px` [px], halo included.

    Tiles begin at multiples of `stride`, where the network's down-sampling falls on the same pixels as in the
    whole frame. A tile too small for its halo has a narrower one and keeps at least a fifth of its side.
    """
    rows, cols = (_cut_spans(size, tile_px, halo_px, stride) for size in shape)
    return [Tile(r, c) for r in rows for c in cols]


def _cut_spans(size: int, tile_px: int, halo_px: int, stride: int) -> list[Span]:
    if size <= tile_px:
        return [Span(0, size, 0, size, stride)]
    halo = min(halo_px, 2 * tile_px // 5) // stride * stride
    core = max(stride, (tile_px - 2 * halo) // stride * stride)
    n_cores = -(-size // core)
    core = -(-size // (n_cores * stride)) * stride  # even cores instead of a sliver at the end
    ramp = max(1, min(stride, 2 * halo))
    return [
        Span(max(0, start - halo), min(size, start + core + halo), start, min(size, start + core), ramp)
        for start in range(0, size, core)
    ]
