"""Image values to napari layers and back: the only reader and writer of layer scale, units and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image

if TYPE_CHECKING:
    import pint
    from napari.layers import Layer

    LayerTuple: TypeAlias = tuple[Any, dict[str, Any], str]

KEY = "lowdose_tem"
"""Entry of `layer.metadata` that holds gain, frame time and provenance."""

_AXES = ("frame", "y", "x")
_PLACEMENT = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_CONTRAST_PERCENT = (0.3, 99.5)
_CONTRAST_SAMPLE = 2**20


def why_not(layer: Layer) -> str:
    """Say why a layer cannot be enhanced or measured, or nothing when it can."""
    if not is_image(layer):
        return f"“{layer.name}” is a {type(layer).__name__.lower()} layer; choose an image layer"
    if layer.rgb:
        return f"“{layer.name}” is a colour image; colours are not counts, convert it to grey first"
    shape = tuple(level0(layer).shape)
    if len(shape) not in (2, 3):
        return (
            f"“{layer.name}” has {len(shape)} axes {shape}; needs a frame (rows, columns) or a stack "
            "(frames, rows, columns): split it first"
        )
    if 0 in shape:
        return f"“{layer.name}” holds no pixels"
    if np.dtype(layer.data.dtype).kind not in "buif":
        return f"“{layer.name}” holds {layer.data.dtype}; needs real numbers"
    return ""


def is_image(layer: Layer) -> bool:
    """Whether it is an image layer; labels are none."""
    from napari.layers import Image as ImageLayer

    return isinstance(layer, ImageLayer)


def is_output(layer: Layer) -> bool:
    """Whether the layer holds enhanced pixels."""
    return "enhanced" in layer.metadata.get(KEY, {}).get("provenance", {})


def is_kymograph(layer: Layer) -> bool:
    """Whether the rows of a layer are frames."""
    return _is_kymograph(layer.metadata)


def is_grid_copy(layer: Layer) -> bool:
    """Whether a layer is a copy of the measured lines, made for a cell of the grid."""
    return bool(layer.metadata.get(KEY, {}).get("mirror"))


def image_from_layer(layer: Layer) -> Image:
    """Take pixels and calibration from an image layer; of a multi-scale layer its finest level.

    The pixel size is None unless the units of both image axes are lengths.

    Raises
    ------
    ValueError
        For layers that `why_not` refuses.
    """
    if reason := why_not(layer):
        raise ValueError(reason)
    meta = {"name": layer.name, "scale": layer.scale, "units": layer.units, "metadata": layer.metadata}
    return image_from_data(layer.data, meta)


def image_from_data(data: Any, meta: Mapping[str, Any]) -> Image:
    """Take pixels and calibration from a layer's data and attributes, as writers receive them."""
    data = _pixels(_level0(data))
    ours = dict(meta.get("metadata", {}).get(KEY, {}))
    frame_time_s = ours.get("frame_time_s")
    scale, units = meta.get("scale"), meta.get("units")
    pixel_size_nm = None
    if scale is not None and units is not None and not _is_kymograph(meta.get("metadata", {})):
        row, col = (_in(s, u, "nm") for s, u in zip(scale[-2:], _units(units)[-2:], strict=True))
        if row is not None and col is not None:
            pixel_size_nm = (abs(row), abs(col))
        if data.ndim == 3:
            frame_time_s = _in(scale[0], _units(units)[0], "s")
    return Image(
        data,
        pixel_size_nm=pixel_size_nm,
        counts_per_electron=ours.get("counts_per_electron"),
        frame_time_s=frame_time_s,
        name=str(meta.get("name") or "image"),
        provenance=ours.get("provenance", {}),
    )


def layer_tuple(
    image: Image, name: str = "", *, like: Layer | None = None, frame: int | None = None, **attributes: Any
) -> LayerTuple:
    """Make the layer tuple of an image, calibrated, with contrast limits and provenance.

    Parameters
    ----------
    image
        Frame or stack.
    name
        Name of the layer; the image's own by default.
    like
        Layer to lie on: its placement is taken over whole, the image's calibration left aside.
    frame
        The image is this one frame of the stack `like`.
    **attributes
        Attributes of the layer that replace the ones made here.
    """
    placement = _placement(like, image.data.ndim, frame) if like is not None else _calibration(image)
    made = {
        "name": name or image.name,
        "colormap": "gray",
        "metadata": {KEY: _metadata(image)},
        **placement,
        **attributes,
    }
    if "contrast_limits" not in made:
        made["contrast_limits"] = contrast_limits(image)
    return image.data, made, "image"


def place(layer: Layer, like: Layer, frame: int | None) -> None:
    """Move a layer to where frame `frame` of the stack `like` is, or the whole of `like`."""
    for key, value in _placement(like, layer.ndim, frame).items():
        if key != "axis_labels" and not _equal(getattr(layer, key), value):
            setattr(layer, key, value)


def set_provenance(layer: Layer, image: Image) -> None:
    """Store an image's gain, frame time and provenance in a layer."""
    layer.metadata = {**layer.metadata, KEY: _metadata(image)}


def set_calibration(
    layer: Layer, pixel_size_nm: tuple[float, float] | None, counts_per_electron: float | None
) -> None:
    """Correct a layer's pixel size [nm/px] and gain [counts/e-]; None makes it unknown, in pixels.

    Raises
    ------
    ValueError
        For a value that is not positive.
    """
    old = image_from_layer(layer)
    # builds the corrected image first, so that a wrong value changes nothing
    new = old.with_data(old.data, pixel_size_nm=pixel_size_nm, counts_per_electron=counts_per_electron)
    if new.pixel_size_nm != old.pixel_size_nm:
        row, col = new.pixel_size_nm or (1.0, 1.0)
        unit = "nm" if new.pixel_size_nm else "pixel"
        # a shift is a length too and would otherwise change its meaning
        shift = np.array(layer.translate, float)
        shift[-2:] *= np.array([row, col]) / np.asarray(layer.scale)[-2:]
        layer.units = (*layer.units[:-2], unit, unit)
        layer.scale = (*layer.scale[:-2], row, col)
        layer.translate = shift
    set_provenance(layer, new)


def contrast_limits(image: Image) -> tuple[float, float]:
    """Robust range of a frame in the middle of the stack, thinned out when large."""
    middle = image.n_frames // 2
    return limits_of(image.frames(middle, middle + 1))


def limits_of(frames: npt.NDArray[Any]) -> tuple[float, float]:
    """Robust range of pixels in memory; never empty."""
    step = max(1, int(np.sqrt(frames.size / _CONTRAST_SAMPLE)))
    sample = np.asarray(frames[..., ::step, ::step], np.float32)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(sample, _CONTRAST_PERCENT))
    return (low, high) if high > low else (low, low + 1.0)


def _is_kymograph(metadata: Mapping[str, Any]) -> bool:
    return "kymograph_of" in metadata.get(KEY, {}).get("provenance", {})


def level0(layer: Layer) -> Any:
    """Pixels of a layer, of a multi-scale layer its finest level."""
    return _level0(layer.data)


def _level0(data: Any) -> Any:
    return data[0] if isinstance(data, Sequence) else data


def _pixels(data: Any) -> Any:
    """Return NumPy or Dask as they are; wrap other lazy arrays (Zarr, HDF5) frame by frame."""
    if isinstance(data, np.ndarray) or hasattr(data, "dask"):
        return data
    if not hasattr(data, "dtype"):
        return np.asarray(data)
    import dask.array as da

    return da.from_array(data, chunks=(1, -1, -1)[-data.ndim :])


def _calibration(image: Image) -> dict[str, Any]:
    row, col = image.pixel_size_nm or (1.0, 1.0)
    length = "nm" if image.pixel_size_nm else "pixel"
    scale = (image.frame_time_s or 1.0, row, col)
    units = ("s" if image.frame_time_s else "pixel", length, length)
    ndim = image.data.ndim
    return {"scale": scale[-ndim:], "units": units[-ndim:], "axis_labels": _AXES[-ndim:]}


def _placement(like: Layer, ndim: int, frame: int | None) -> dict[str, Any]:
    from napari.utils.transforms import Affine

    placement = {key: getattr(like, key) for key in _PLACEMENT}
    if frame is not None and ndim == 3:
        own = Affine(scale=like.scale, translate=like.translate, rotate=like.rotate, shear=like.shear)
        placement["translate"] = own(np.array([frame, 0, 0], float))
    return placement


def _metadata(image: Image) -> dict[str, Any]:
    return {
        "counts_per_electron": image.counts_per_electron,
        "frame_time_s": image.frame_time_s,
        "provenance": dict(image.provenance),
    }


def _units(units: Any) -> tuple[pint.Unit, ...]:
    from pint import get_application_registry

    registry = get_application_registry()
    return tuple(registry.Unit(u) if isinstance(u, str) else u for u in units)


def _in(value: float, unit: pint.Unit, wanted: str) -> float | None:
    return float((float(value) * unit).to(wanted).magnitude) if unit.is_compatible_with(wanted) else None


def _equal(a: Any, b: Any) -> bool:
    if hasattr(a, "affine_matrix"):
        a, b = a.affine_matrix, b.affine_matrix
    try:
        return bool(np.array_equal(a, b))
    except (TypeError, ValueError):
        return False
