"""What the formats read by RosettaSciIO have in common."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import quiet
from ._units import pixel_size_nm, time_s


def signals(path: Path, api: str, **options: Any) -> list[dict[str, Any]]:
    """Let RosettaSciIO open a file lazily; its datasets as it gives them."""
    module = importlib.import_module(f"rsciio.{api}")
    with quiet("rsciio"):
        found: list[dict[str, Any]] = module.file_reader(str(path), lazy=True, **options)
    return found


def first_image(path: Path, found: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
    """Pick the first frame or stack of real numbers; name the other datasets for the provenance."""
    import rsciio

    chosen = [
        i
        for i, signal in enumerate(found)
        if 2 <= sum(size > 1 for size in signal["data"].shape) <= 3 and signal["data"].dtype.kind in "buif"
    ]
    names = [_name(signal) for signal in found]
    if not chosen:
        raise ValueError(
            f"{path}: no frame or stack of real numbers, but {'; '.join(names) or 'nothing'}: "
            "export it as an image"
        )
    provenance: dict[str, Any] = {"reader": f"rosettasciio {rsciio.__version__}"}
    if others := [name for i, name in enumerate(names) if i != chosen[0]]:
        provenance["other_images"] = others
    return chosen[0], provenance


def _name(signal: Mapping[str, Any]) -> str:
    title = signal["metadata"].get("General", {}).get("title", "")
    return f"{title} {signal['data'].shape} {signal['data'].dtype}".strip()


def calibration(axes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give pixel size and frame time from axes ordered (…, frames, rows, columns), as arguments of Image."""
    row, col = axes[-2], axes[-1]
    size, note = pixel_size_nm(row["scale"], col["scale"], row.get("units"), col.get("units"))
    first = axes[0] if len(axes) > 2 else {}
    return {
        "pixel_size_nm": size,
        "frame_time_s": time_s(first.get("scale"), first.get("units")),
        "provenance": {"pixel_size_note": note} if note else {},
    }


def stack_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Give (frames, rows, columns) of a shape with up to one axis before rows and columns that is not 1."""
    return int(np.prod(shape[:-2], dtype=int)), int(shape[-2]), int(shape[-1])
