"""What a source of live frames yields."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from napari_lowdose_tem.image import Image


@dataclass(frozen=True, eq=False)
class Arrival:
    """A complete frame.

    Parameters
    ----------
    name
        Its file or number, unique within the source.
    image
        A single frame with its calibration.
    recorded_s
        When it was recorded, by the clock of the source; only differences matter [s].
    arrived_s
        When it was complete on this computer, by `time.monotonic` [s].
    """

    name: str
    image: Image
    recorded_s: float
    arrived_s: float


@dataclass(frozen=True)
class Passed:
    """A number of frames that came and were not read, because a newer one is there."""

    count: int


@dataclass(frozen=True)
class Skipped:
    """Something that is not a frame of the series, and why; reported once."""

    name: str
    reason: str


@dataclass(frozen=True)
class Wait:
    """No new frame; ask again after this time [s]."""

    seconds: float


Event: TypeAlias = Arrival | Passed | Skipped | Wait


class Source(Protocol):
    """A series of frames that grows.

    Sources poll: file system notifications do not reach across network drives.
    """

    @property
    def name(self) -> str:
        """Short name for layers and reports."""

    @property
    def path(self) -> str:
        """File or folder; empty where there is none."""

    def iter_events(self, latest_only: bool, done: Set[str]) -> Iterator[Event]:
        """Yield what comes, in order; ends when nothing more can come.

        Parameters
        ----------
        latest_only
            Yield only the latest frame at every poll; otherwise every frame, in order: frames not asked for
            yet wait on the disk.
        done
            Names of frames to leave out.
        """
