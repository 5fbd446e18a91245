"""Moving a line onto a particle's centre, in a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from napari_lowdose_tem.measure.profile import Line
from napari_lowdose_tem.widgets.shared.latest_request import LatestRequest


@dataclass(frozen=True, eq=False)
class _Request:
    role: str
    pixels: npt.NDArray[Any]
    line: Line
    pixel_size_nm: tuple[float, float] | None


class CenterSearch:
    """Looks for the centre.

    Parameters
    ----------
    done
        Called with the role of the image and the line moved.
    failed
        Called with the reason why not.
    """

    def __init__(self, done: Callable[[str, Line], None], failed: Callable[[Exception], None]) -> None:
        self._job: LatestRequest[_Request] = LatestRequest(
            _iter_center, lambda found: done(*found), lambda _, error: failed(error)
        )

    def start(
        self, role: str, pixels: npt.NDArray[Any], line: Line, size: tuple[float, float] | None
    ) -> None:
        """Look for it on an image, around a line."""
        self._job.ask(_Request(role, pixels, line, size))

    def close(self) -> None:
        """Stop."""
        self._job.cancel()


def _iter_center(request: _Request) -> Iterator[tuple[str, Line]]:
    from napari_lowdose_tem.measure import snap_to_center

    yield request.role, snap_to_center(request.pixels, request.line, request.pixel_size_nm)
