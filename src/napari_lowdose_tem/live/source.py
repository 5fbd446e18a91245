"""Where live frames come from: what a source tells."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from napari_lowdose_tem.image import Image


@dataclass(frozen=True, eq=False)
class Arrival:
    """A frame that is there whole.

    Parameters
    ----------
    name
        Its file or number, unique within the source.
    image
        A single frame with its calibration.
    recorded_s
        When it was recorded, on the source's own clock; only differences count [s].
    arrived_s
        When it was there, by `time.monotonic` [s].
    """

    name: str
    image: Image
    recorded_s: float
    arrived_s: float


@dataclass(frozen=True)
class Passed:
    """Frames that came and were left unread for a newer one."""

    count: int


@dataclass(frozen=True)
class Skipped:
    """What is no frame of the series, said once, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Wait:
    """Nothing new; ask again after this time [s]."""

    seconds: float


Event: TypeAlias = Arrival | Passed | Skipped | Wait


class Source(Protocol):
    """A series of frames that goes on.

    Sources look, they are not told: notices of changed files do not come through network drives.
    """

    @property
    def name(self) -> str:
        """Short name for layers and reports."""

    @property
    def path(self) -> str:
        """File or folder, or empty."""

    def iter_events(self, newest_only: bool, done: Set[str]) -> Iterator[Event]:
        """Tell what comes, in order; ends when nothing can come any more.

        Parameters
        ----------
        newest_only
            Pass over all but the newest frame at every look; else all are told, in order, and what is not
            asked for waits on the disk.
        done
            Names of frames not to be told again.
        """
