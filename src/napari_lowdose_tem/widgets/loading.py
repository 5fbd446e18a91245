"""Files, frame folders and data sets of high- and low-dose frames to layers. No Qt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import READABLE_SUFFIXES, can_read, read
from napari_lowdose_tem.io.folder import natural
from napari_lowdose_tem.preprocess import subtract_dark

from . import _layers

if TYPE_CHECKING:
    from ._layers import LayerTuple


def iter_layers(paths: Sequence[str | Path], dark: str | Path | None = None) -> Iterator[LayerTuple]:
    """Read files and folders, yielding layer tuples.

    A folder is a stack when its frames have one shape, else a data set: high-dose frames of many pixels, each
    followed by the low-dose frames of its field; each place in that order becomes a stack.

    Parameters
    ----------
    paths
        What to read.
    dark
        Image without beam to subtract; the mean of its frames.

    Raises
    ------
    ValueError, OSError
        As `io.read`, and for a dark reference of another shape.
    """
    reference = read(dark) if dark else None
    for path in map(Path, paths):
        if is_data_set(path):
            yield from _iter_data_set(path)
            continue
        image = read(path)
        if reference is not None:
            image = subtract_dark(image, reference)
        yield _layers.layer_tuple(image)


def is_data_set(folder: Path) -> bool:
    """Whether a folder holds readable images of different shapes, high and low dose."""
    if not folder.is_dir() or not can_read(folder) or folder.suffix == ".zarr":
        return False
    try:
        return len({read(file).frame_shape for file in _files(folder)[:2]}) > 1
    except (ValueError, OSError):
        return False


def _files(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if p.suffix.lower() in READABLE_SUFFIXES), key=natural)


def _iter_data_set(folder: Path) -> Iterator[LayerTuple]:
    """Yield the high-dose stack, then the low-dose stacks, laid over it."""
    files = _files(folder)
    shapes = [read(files[0]).frame_shape]
    for file in files[1:]:  # to the next high-dose frame only: these are large
        if (shape := read(file).frame_shape) == shapes[0]:
            break
        shapes.append(shape)
    places = len(shapes)
    if np.prod(shapes[0]) < np.prod(shapes[-1]) or len(files) % places:
        raise ValueError(
            f"{folder}: frames of {shapes[0]} and {shapes[-1]} px in an order that is not known; needs a "
            "high-dose frame followed by its low-dose frames, then the next field, or frames of one shape"
        )
    low = read(files[1])
    for place in range(places):
        stack = _stack(files[place::places])
        kind = "LDE" if place else "HDE"
        name = f"{kind} {folder.name}" + (f" ({place})" if places > 2 and place else "")
        yield _overlay(stack, low, name)


def _stack(files: Sequence[Path]) -> Image:
    """Stack single frames lazily."""
    first = read(files[0])
    if len(files) == 1:
        return first
    import dask.array as da
    from dask import delayed

    shape, dtype = first.data.shape, first.data.dtype
    frames = [da.from_delayed(delayed(_read_frame)(file, shape), shape, dtype) for file in files]
    return first.with_data(da.stack(frames))


def _read_frame(file: Path, shape: tuple[int, ...]) -> Any:
    data = read(file).data
    if data.shape != shape:
        raise ValueError(f"{file}: {data.shape} px, the others {shape} px; move it out of the folder")
    return data


def _overlay(image: Image, low: Image, name: str) -> LayerTuple:
    """Scale an image to cover the field of a low-dose frame, edge on edge."""
    coarser = np.array(low.frame_shape) / np.array(image.frame_shape)
    low_size = np.array(low.pixel_size_nm or (1.0, 1.0))
    if low.pixel_size_nm and image.pixel_size_nm is None:
        image = image.with_data(image.data, pixel_size_nm=tuple(low_size * coarser))
    data, attributes, kind = _layers.layer_tuple(image, name)
    size = low_size * coarser if image.pixel_size_nm is None else np.array(image.pixel_size_nm)
    zero = [0.0] * (data.ndim - 2)
    attributes["scale"] = (*attributes["scale"][:-2], *size)
    attributes["translate"] = (*zero, *((size - low_size) / 2))  # a pixel's place is its centre
    return data, attributes, kind
