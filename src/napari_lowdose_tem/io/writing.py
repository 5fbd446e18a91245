"""Write an image whole, or open a writer for its frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.stack_writer import StackWriter

_BLOCK_BYTES = 32_000_000  # read and written at a time
_WRITTEN_AS: dict[str, np.dtype[Any]] = {"b": np.dtype("u1"), "f": np.dtype("f4")}


def write(image: Image, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write an image with its calibration, gain and provenance.

    Parameters
    ----------
    image
        A frame or a stack; a lazy stack is read and written a few frames at a time.
    path
        ``.tif`` (readable by ImageJ), ``.ome.tif`` or ``.zarr`` (OME-Zarr 0.4).
        Integers and float32 keep their type, other floats become float32.
    overwrite
        Replace what is there, when the new output is complete; of folders only Zarr stores.

    Returns
    -------
    Path
        The output.

    Raises
    ------
    ValueError
        For an unknown ending, an existing output or folder, or another run writing it.
    OSError
        When the disk is full.
    """
    n_frames = image.n_frames if image.is_stack else None
    stored = np.dtype(image.data.dtype)
    dtype = _WRITTEN_AS.get(stored.kind, stored)
    writer = StackWriter(Path(path), image, n_frames, dtype=dtype, job={}, resume=False, overwrite=overwrite)
    with writer:
        try:
            step = max(1, _BLOCK_BYTES // (image.frame_shape[0] * image.frame_shape[1] * dtype.itemsize))
            for start in range(0, image.n_frames, step):
                writer.write(start, image.frames(start, start + step))
            return writer.finish()
        except BaseException:
            writer.discard()
            raise


def open_writer(
    path: str | Path,
    like: Image,
    n_frames: int | None,
    *,
    job: Mapping[str, Any],
    resume: bool = False,
    overwrite: bool = False,
) -> StackWriter:
    """Start or continue writing float32 frames, in any order.

    Parameters
    ----------
    path
        Output, ``.tif``, ``.ome.tif`` or ``.zarr``. Until `StackWriter.finish` it is PATH.partial.
    like
        Gives frame shape, calibration, name and provenance.
    n_frames
        Number of frames; None for a single frame.
    job
        What decides the pixels (source, model, options), as JSON values. A partial output is only continued
        by the same job.
    resume
        Continue the partial output of the same job if there is one; otherwise start over.
    overwrite
        Replace an existing output, when the new one is complete; of folders only Zarr stores.

    Returns
    -------
    StackWriter
        To be used in a ``with`` block.

    Raises
    ------
    ValueError
        For an unknown ending, an existing output, another run writing it, or another job's partial output.
    OSError
        When the disk is too small or full.
    """
    return StackWriter(
        Path(path), like, n_frames, dtype=np.dtype("f4"), job=job, resume=resume, overwrite=overwrite
    )
