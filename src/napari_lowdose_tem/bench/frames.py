"""Frames to be timed on: simulated, noisy, of any shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image

DISTINCT = 8
"""Exposures that differ; more frames repeat them."""

_FIELD_PX = 512
_PIXEL_SIZE_NM = 3.0
_DOSE_E_PER_PX = 5.0


def make_frames(shape: tuple[int, int], n_frames: int = DISTINCT) -> npt.NDArray[np.uint16]:
    """Expose one specimen several times; frames (n, rows, columns) [counts], larger ones repeat the field."""
    from napari_lowdose_tem.simulate import MEASURED, draw_specimen, expose, render

    field_nm = (_FIELD_PX * _PIXEL_SIZE_NM, _FIELD_PX * _PIXEL_SIZE_NM)
    scene = render(draw_specimen("silicate", field_nm, 0), (_FIELD_PX, _FIELD_PX)).transmission
    repeats = [-(-size // _FIELD_PX) for size in shape]
    light = _DOSE_E_PER_PX * np.tile(scene, repeats)[: shape[0], : shape[1]]
    return np.stack([expose(light, MEASURED, seed).astype(np.uint16) for seed in range(n_frames)])


def write_stack(path: Path, frames: npt.NDArray[Any], n_frames: int) -> Image:
    """Write a stack of `n_frames` that repeats frames (n, rows, columns), and open it again from there."""
    import dask.array as da

    from napari_lowdose_tem.io import read, write

    repeated = da.from_array(frames, chunks=(1, -1, -1))[np.arange(n_frames) % len(frames)]
    pixel_size_nm = (_PIXEL_SIZE_NM, _PIXEL_SIZE_NM)
    return read(write(Image(repeated, pixel_size_nm, name=path.name), path))
