"""What the formats read by RosettaSciIO have in common."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_lowdose_tem.io.errors import quiet, without_warnings
from napari_lowdose_tem.io.fields import ImageFields
from napari_lowdose_tem.io.frames import NEEDS, stack_shape
from napari_lowdose_tem.io.units import pixel_size_nm, time_s


def signals(path: Path, api: str, **options: Any) -> list[dict[str, Any]]:
    """Open a file lazily with RosettaSciIO and return its datasets."""
    module = importlib.import_module(f"rsciio.{api}")
    with quiet("rsciio"), without_warnings():
        try:
            found: list[dict[str, Any]] = module.file_reader(str(path), lazy=True, **options)
        except Exception as err:
            # closes what the reader leaves open when it fails
            traceback.clear_frames(err.__traceback__)
            raise
    return found


def first_image(
    path: Path, found: Sequence[Mapping[str, Any]]
) -> tuple[int, tuple[int, int, int], dict[str, Any]]:
    """Pick the first frame or stack of real numbers.

    Returns
    -------
    index, shape, provenance
        Which of `found`, its (frames, rows, columns), and the reader with the names of the other datasets.
    """
    import rsciio

    names = [_name(signal) for signal in found]
    for index, signal in enumerate(found):
        shape = stack_shape(signal["data"].shape)
        if shape is not None and signal["data"].dtype.kind in "buif":
            provenance: dict[str, Any] = {"reader": f"rosettasciio {rsciio.__version__}"}
            if others := names[:index] + names[index + 1 :]:
                provenance["other_images"] = others
            return index, shape, provenance
    raise ValueError(f"{path}: holds {'; '.join(names) or 'no image'}; of real numbers it {NEEDS}")


def _name(signal: Mapping[str, Any]) -> str:
    title = signal["metadata"].get("General", {}).get("title", "")
    return f"{title} {signal['data'].shape} {signal['data'].dtype}".strip()


def calibration(axes: Sequence[Mapping[str, Any]]) -> ImageFields:
    """Give pixel size and frame time from axes ordered (…, frames, rows, columns)."""
    row, col = axes[-2], axes[-1]
    size, note = pixel_size_nm(row["scale"], col["scale"], row.get("units"), col.get("units"))
    first = axes[0] if len(axes) > 2 else {}
    return {
        "pixel_size_nm": size,
        "frame_time_s": time_s(first.get("scale"), first.get("units")),
        "provenance": {"pixel_size_note": note} if note else {},
    }
