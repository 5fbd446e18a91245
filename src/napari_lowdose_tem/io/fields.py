"""What a file says about its image, as arguments of Image."""

from __future__ import annotations

from typing import Any, TypedDict


class ImageFields(TypedDict, total=False):
    """Calibration and provenance; `Image` describes them."""

    pixel_size_nm: tuple[float, float] | None
    counts_per_electron: float | None
    frame_time_s: float | None
    provenance: dict[str, Any]
