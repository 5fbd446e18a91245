"""Gain and provenance, which formats have no standard field for, as JSON beside their calibration."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.fields import ImageFields

KEY = "lowdose_tem"
"""Name of the entry in TIFF descriptions, OME annotations and Zarr attributes."""

_OF_READING = ("source", "format", "reader")
_ROUNDING = 5e-6  # of six digits


def json_value(value: Any) -> Any:
    """Convert to JSON values; NaN and infinity, which JSON lacks, become None."""
    if isinstance(value, Mapping):
        return {key: json_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def extra_metadata(image: Image) -> dict[str, Any]:
    """Return gain, frame time (a single frame has no axis for it) and provenance as JSON values."""
    return {
        "counts_per_electron": image.counts_per_electron,
        "frame_time_s": image.frame_time_s,
        "provenance": json_value(image.provenance),
    }


def with_extra_metadata(fields: ImageFields, stored: object, *, timed: bool = True) -> ImageFields:
    """Complete the calibration in a format's own fields with what `extra_metadata` made.

    The format's own fields count, since other programs change only these; what is stored restores digits that
    were rounded away. `stored` is what the file has under `KEY`, `timed` whether the format has a field for
    the frame time.
    """
    if isinstance(stored, str):
        stored = json.loads(stored)
    if not isinstance(stored, Mapping):
        stored = {}
    completed = fields.copy()
    if "counts_per_electron" in stored:
        completed["counts_per_electron"] = stored["counts_per_electron"]
    time_s, exact_s = fields.get("frame_time_s"), stored.get("frame_time_s")
    is_rounded = time_s and exact_s and math.isclose(time_s, exact_s, rel_tol=_ROUNDING)
    completed["frame_time_s"] = exact_s if is_rounded or not timed else time_s
    completed["provenance"] = fields.get("provenance", {}) | _with_origin(stored.get("provenance") or {})
    return completed


def _with_origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Move where the pixels first came from to ``origin``: the file just read takes its place."""
    first = {key: provenance[key] for key in _OF_READING if key in provenance}
    rest = {key: entry for key, entry in provenance.items() if key not in first}
    return {**rest, "origin": first} if first and "origin" not in rest else rest
