"""Gain and provenance, which formats have no standard field for, as JSON beside their calibration."""

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
_ROUNDING = 5e-6  # of six digits


def json_value(value: Any) -> Any:
    """Give a JSON value with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: json_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def extra_metadata(image: Image) -> dict[str, Any]:
    """Give gain, frame time (a single frame has no axis for it) and provenance as JSON values."""
    return {
        "counts_per_electron": image.counts_per_electron,
        "frame_time_s": image.frame_time_s,
        "provenance": json_value(image.provenance),
    }


def with_extra_metadata(fields: Mapping[str, Any], stored: object, *, timed: bool = True) -> dict[str, Any]:
    """Complete the calibration in a format's own fields with what `extra_metadata` made.

    The format's own fields count, since other programs change only these; what is stored adds digits that
    were rounded away.

    Parameters
    ----------
    fields
        Arguments of Image.
    stored
        What the file has under `KEY`.
    timed
        The format has a field for the frame time.
    """
    extra = _as_fields(stored)
    time_s, exact_s = fields.get("frame_time_s"), extra.get("frame_time_s")
    rounded = time_s and exact_s and math.isclose(time_s, exact_s, rel_tol=_ROUNDING)
    if timed and not rounded:
        extra["frame_time_s"] = time_s
    provenance = {**fields.get("provenance", {}), **extra.pop("provenance", {})}
    return {**fields, **extra, "provenance": provenance}


def _as_fields(stored: object) -> dict[str, Any]:
    """Give what `extra_metadata` made as arguments of Image; what `stored` lacks stays out.

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
