"""Dark references: what a camera reports without beam."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image


def subtract_dark(image: Image, dark: Image | npt.NDArray[Any]) -> Image:
    """Subtract a dark reference.

    Parameters
    ----------
    image
        Frame or stack [counts]; a lazy stack stays lazy.
    dark
        Frame without beam, or a stack of them that is averaged [counts].

    Returns
    -------
    float32 counts, not clipped: negative noise belongs to the mean.

    Raises
    ------
    ValueError
        For a dark reference of another shape.
    """
    dark = dark if isinstance(dark, Image) else Image(np.asarray(dark), name="array")
    if dark.frame_shape != image.frame_shape:
        raise ValueError(
            f"dark reference of {dark.frame_shape} px for frames of {image.frame_shape} px; "
            "record it with the same binning and area"
        )
    level = np.zeros(dark.frame_shape)
    for i in range(dark.n_frames):
        level += dark.frames(i, i + 1)[0]
    level = (level / dark.n_frames).astype(np.float32)
    if not np.isfinite(level).all():
        raise ValueError(f"dark reference {dark.name} has pixels that are not finite; record it anew")
    note = {
        "name": dark.name,
        "frames": dark.n_frames,
        "mean_counts": float(level.mean()),
        "sha256": hashlib.sha256(level.tobytes()).hexdigest(),
    }
    return image.with_data(image.data.astype(np.float32) - level).with_provenance(dark=note)
