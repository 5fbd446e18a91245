"""What files have no standard field for, stored beside their calibration: gain and provenance."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from napari_lowdose_tem.image import Image

KEY = "lowdose_tem"
"""Name of the entry in TIFF descriptions, OME annotations and Zarr attributes."""

_CALIBRATION = ("counts_per_electron", "frame_time_s")
_OF_READING = ("source", "format", "reader")


def finite(value: Any) -> Any:
    """Give a JSON value with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_store(image: Image) -> dict[str, Any]:
    """Give gain, frame time (a single frame has no axis for it) and provenance as JSON values."""
    return {
        "counts_per_electron": image.counts_per_electron,
        "frame_time_s": image.frame_time_s,
        "provenance": finite(image.provenance),
    }


def from_store(stored: object) -> dict[str, Any]:
    """Give what `to_store` made as arguments of Image; what `stored` lacks stays out.

    Where the pixels first came from moves to ``origin``: the file just read takes its place.
    """
    if isinstance(stored, str):
        stored = json.loads(stored)
    if not isinstance(stored, Mapping):
        return {}
    provenance = dict(stored.get("provenance") or {})
    first = {key: provenance.pop(key) for key in _OF_READING if key in provenance}
    if first:
        provenance.setdefault("origin", first)
    return {key: stored.get(key) for key in _CALIBRATION} | {"provenance": provenance}
