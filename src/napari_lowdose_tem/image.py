"""The value that travels between files, engine, measurement and viewer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
AnyFloat: TypeAlias = npt.NDArray[np.floating[Any]]

if TYPE_CHECKING:
    import dask.array as da

    Pixels: TypeAlias = npt.NDArray[Any] | da.Array


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A frame or a stack of frames with its calibration.

    Parameters
    ----------
    data
        Detector counts, shape (rows, columns) or (frames, rows, columns), real numbers;
        NumPy in memory or a Dask array with one or more whole frames a chunk.
    pixel_size_nm
        (row, column) sampling [nm/px], or None when the file does not say.
    counts_per_electron
        Detector gain [counts/e-], or None when unknown; never assumed to be 1.
    frame_time_s
        Time from frame to frame [s], or None.
    name
        Short name for layers and reports.
    provenance
        What made these pixels: source file, reader, model and its hash, versions. JSON values only.

    Raises
    ------
    ValueError
        For colour, complex or empty data, other than 2 or 3 axes, or a calibration that is not positive.
    """

    data: Pixels
    pixel_size_nm: tuple[float, float] | None = None
    counts_per_electron: float | None = None
    frame_time_s: float | None = None
    name: str = "image"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shape, type and calibration once, here."""
        data = self.data
        if data.ndim not in (2, 3):
            raise ValueError(
                f"{self.name}: {data.ndim} axes of shape {tuple(data.shape)}; "
                "needs a frame (rows, columns) or a stack (frames, rows, columns)"
            )
        if 0 in data.shape:
            raise ValueError(f"{self.name}: no pixels in shape {tuple(data.shape)}")
        if data.dtype.kind not in "buif":
            raise ValueError(f"{self.name}: pixels are {data.dtype}; needs real numbers (integer or float)")
        if self.pixel_size_nm is not None:
            row, col = (float(v) for v in self.pixel_size_nm)
            object.__setattr__(self, "pixel_size_nm", (_positive(row, "nm/px"), _positive(col, "nm/px")))
        for key, unit in (("counts_per_electron", "counts/e-"), ("frame_time_s", "s")):
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, _positive(float(value), unit))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the arguments; the read-only view of the provenance cannot be pickled."""
        calibration = self.pixel_size_nm, self.counts_per_electron, self.frame_time_s
        return type(self), (self.data, *calibration, self.name, dict(self.provenance))

    @property
    def is_stack(self) -> bool:
        """Whether there is a leading frame axis."""
        return self.data.ndim == 3

    @property
    def is_lazy(self) -> bool:
        """Whether the pixels are still on disk (a Dask array)."""
        return not isinstance(self.data, np.ndarray)

    @property
    def n_frames(self) -> int:
        """Number of frames, 1 for a single frame."""
        return int(self.data.shape[0]) if self.is_stack else 1

    @property
    def frame_shape(self) -> tuple[int, int]:
        """(rows, columns) of a frame [px]."""
        return int(self.data.shape[-2]), int(self.data.shape[-1])

    def frames(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Read frames start…stop into memory, shape (frames, rows, columns)."""
        block = self.data[start:stop] if self.is_stack else self.data[None][start:stop]
        return block if isinstance(block, np.ndarray) else np.asarray(block.compute(scheduler=_compute_here))

    def with_data(self, data: Pixels, **changes: Any) -> Image:
        """Return the same calibration around other pixels."""
        return replace(self, data=data, **changes)

    def with_provenance(self, **entries: Any) -> Image:
        """Return the same image with entries added to its provenance."""
        return replace(self, provenance={**self.provenance, **entries})


def _compute_here(graph: Any, keys: Any, **options: Any) -> Any:
    """Compute in this thread, frame by frame, past Dask's global callbacks.

    napari's cache is such a callback and fails when a job and the viewer compute at the same time.
    """
    from dask.core import get

    return get(dict(graph.__dask_graph__() if hasattr(graph, "__dask_graph__") else graph), keys)


def _positive(value: float, unit: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"calibration {value} {unit} is not positive; give a value > 0 or leave it unknown")
    return value
