"""Read OME-Zarr images and plain Zarr arrays, Zarr 2 and 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.frames import NEEDS, Frames, pixels, stack_shape
from napari_lowdose_tem.io.private_tags import KEY, completed
from napari_lowdose_tem.io.units import pixel_size_nm, time_s


def read_zarr(path: Path) -> Image:
    """Read the full-resolution level of an OME-Zarr image, or a plain Zarr array; stacks lazily.

    Parameters
    ----------
    path
        The folder.

    Returns
    -------
    Image
        Stored counts.
    """
    import zarr

    node = zarr.open(path, mode="r")
    fields: dict[str, Any] = {}
    level = "."
    axes: Sequence[Any] = ()
    if isinstance(node, zarr.Group):
        attributes = node.attrs.asdict()
        # bioformats2raw puts each image in a group of its own
        if "0" in node and isinstance(node["0"], zarr.Group):
            return read_zarr(path / "0")
        ome = attributes.get("ome", attributes)
        if ome.get("multiscales"):
            level, axes, scale = _full_resolution(ome["multiscales"][0])
            fields = _calibration(axes, scale)
        else:
            level = _only_array(path, node)
        timed = any(axis["name"] == "t" for axis in axes)
        fields = completed(fields, attributes.get(KEY), timed=timed)
    array = zarr.open_array(path / level, mode="r")
    shape = _stack_shape(path, array.shape, axes)
    frames = _ZarrFrames(path / level, shape, array.dtype)
    provenance = fields.pop("provenance", {}) | {
        "format": f"{'OME-Zarr' if axes else 'Zarr'}, Zarr {array.metadata.zarr_format}",
        "reader": f"zarr {zarr.__version__}",
    }
    return Image(pixels(frames), provenance=provenance, **fields)


class _ZarrFrames(Frames):
    """Frames of an array; the axes of length 1 are the others."""

    def _open(self) -> Any:
        import zarr

        return zarr.open_array(self.path, mode="r")

    def _read_frame(self, handle: Any, index: int) -> npt.NDArray[Any]:
        at = tuple(index if size > 1 else 0 for size in handle.shape[:-2])
        return np.asarray(handle[at])


def _full_resolution(multiscale: Mapping[str, Any]) -> tuple[str, Sequence[Any], list[float]]:
    """Give path, axes and scale of the first, largest level."""
    level = multiscale["datasets"][0]
    # before OME-Zarr 0.4 axes were names, before 0.3 always these
    axes = [{"name": axis} if isinstance(axis, str) else axis for axis in multiscale.get("axes", "tczyx")]
    scale = [1.0] * len(axes)
    transforms = [
        *level.get("coordinateTransformations", []),
        *multiscale.get("coordinateTransformations", []),
    ]
    for transform in transforms:
        if transform.get("type") == "scale":
            scale = [a * float(b) for a, b in zip(scale, transform["scale"], strict=True)]
    return level["path"], axes, scale


def _calibration(axes: Sequence[Mapping[str, Any]], scale: Sequence[float]) -> dict[str, Any]:
    row, col = axes[-2], axes[-1]
    size, note = pixel_size_nm(scale[-2], scale[-1], row.get("unit"), col.get("unit"))
    times = [
        time_s(step, axis.get("unit")) for axis, step in zip(axes, scale, strict=True) if axis["name"] == "t"
    ]
    return {
        "pixel_size_nm": size,
        "frame_time_s": times[0] if times else None,
        "provenance": {"pixel_size_note": note} if note else {},
    }


def _only_array(path: Path, group: Any) -> str:
    names = sorted(group.array_keys())
    if not names:
        raise ValueError(f"{path}: a Zarr group without image; open the image's own folder in it")
    if len(names) > 1:
        raise ValueError(
            f"{path}: Zarr arrays {', '.join(names)}, but no OME-Zarr image; open one of these folders"
        )
    return str(names[0])


def _stack_shape(
    path: Path, shape: tuple[int, ...], axes: Sequence[Mapping[str, Any]]
) -> tuple[int, int, int]:
    stack = stack_shape(shape)
    if stack is None:
        names = "".join(str(axis["name"]) for axis in axes)
        raise ValueError(f"{path}: {len(shape)} axes {names} of shape {shape}; {NEEDS}")
    if 0 in stack:
        raise ValueError(f"{path}: holds no frame yet; open it again when the first is written")
    return stack
