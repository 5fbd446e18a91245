"""Files, frame folders and data sets of high- and low-dose frames read as layers. No Qt."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.camera.dark import subtract_dark
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import natural_key, read
from napari_lowdose_tem.pairs import find_fields
from napari_lowdose_tem.widgets.shared.layers import layer_tuple

if TYPE_CHECKING:
    from napari_lowdose_tem.widgets.shared.layers import LayerTuple


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
        yield layer_tuple(image)


def is_data_set(folder: Path) -> bool:
    """Whether a folder, or one in it, begins with images of different shapes, as HDE and LDE are."""
    if not folder.is_dir() or folder.suffix.lower() == ".zarr":
        return False
    places = (folder, *sorted((p for p in folder.iterdir() if p.is_dir()), key=natural_key))
    return any(_begins_with_a_pair(place) for place in places)


def _begins_with_a_pair(place: Path) -> bool:
    files = sorted((p for p in place.iterdir() if p.suffix.lower() in (".tif", ".tiff")), key=natural_key)
    try:
        return len({read(file).frame_shape for file in files[:2]}) > 1
    except (ValueError, OSError):
        return False


def _iter_data_set(folder: Path) -> Iterator[LayerTuple]:
    """Yield for each set the high-dose stack, then the low-dose stacks, all over the same field."""
    for set_name, group in itertools.groupby(find_fields(folder), lambda field: field.set_name):
        fields = list(group)
        low = read(fields[0].ldes[0])
        yield _overlay(_stack([field.hde for field in fields]), low, f"HDE {set_name}")
        repeats = min(len(field.ldes) for field in fields)
        for i in range(repeats):
            name = f"LDE {set_name}" if i == 0 else f"LDE {set_name}, repeat {i}"
            yield _overlay(_stack([field.ldes[i] for field in fields]), low, name)


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
    data, attributes, kind = layer_tuple(image, name)
    size = low_size * coarser if image.pixel_size_nm is None else np.array(image.pixel_size_nm)
    zero = [0.0] * (data.ndim - 2)
    attributes["scale"] = (*attributes["scale"][:-2], *size)
    attributes["translate"] = (*zero, *((size - low_size) / 2))  # a pixel's place is its centre
    return data, attributes, kind
