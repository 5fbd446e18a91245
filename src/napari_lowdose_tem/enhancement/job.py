"""What is to be enhanced, and how far it has got. Imports no torch, so that a dock can prepare a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import F32, Image

if TYPE_CHECKING:
    from napari_lowdose_tem.image import Pixels


@dataclass(frozen=True)
class EnhanceJob:
    """Everything an enhancement needs to know, frozen when it starts.

    Parameters
    ----------
    image
        Frame or stack; Dask stacks are read frame by frame.
    engine
        Model, device, precision and tile.
    output
        File or OME-Zarr folder to stream to, or None to receive the frames with the progress.
    first, last
        Half-open range of frames, `last=None` to the end.
    resume, overwrite
        Continue an interrupted output; replace a finished one.
    scheduler
        Address of a dask.distributed cluster, tcp://HOST:PORT, whose workers compute the blocks and write
        them into `output`, an OME-Zarr folder; None to compute in this process.
    """

    image: Image
    _: KW_ONLY
    engine: EngineOptions = field(default_factory=EngineOptions)
    output: Path | None = None
    first: int = 0
    last: int | None = None
    resume: bool = False
    overwrite: bool = False
    scheduler: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Progress:
    """State of a job after a tile or a batch.

    `frames` (n, rows, columns) in counts are those just finished, from output frame `first` on, None where
    the workers of a cluster keep them; `view` is the output while it fills, where it can be looked at; `made`
    is what the provenance of the output says of its making; `result` comes with the last report.
    """

    done: float
    total: int
    elapsed_s: float
    device: str
    note: str = ""
    first: int = 0
    frames: F32 | None = None
    view: Pixels | None = None
    made: Mapping[str, Any] = field(default_factory=dict)
    result: Image | None = None

    @property
    def frames_per_s(self) -> float:
        """Frames finished per second in this run."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0
