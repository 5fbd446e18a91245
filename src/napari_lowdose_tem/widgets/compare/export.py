"""What leaves the Compare dock: the figure, and layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.compare.field_of_view import Box, Placement, Pyramid
from napari_lowdose_tem.widgets.compare.grid_frame import resample_to_grid
from napari_lowdose_tem.widgets.compare.results_job import ResultsRequest
from napari_lowdose_tem.widgets.compare.state import NO_RESIDUAL, CompareState, Picture, picture_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from napari_lowdose_tem.figures.comparison import FramePanel

_MOST_PX = 1200  # along a side of a panel, 2.3 inches wide


def draw_figure(state: CompareState, factors: Mapping[str, float], visible: Box | None) -> Figure:
    """Draw the pictures shown, as far as they are in view, with what was drawn on them.

    Parameters
    ----------
    factors
        As in `contrast.Contrast`.
    visible
        Part of the field; None for all.
    """
    from napari_lowdose_tem.figures.comparison import draw_comparison

    shown = [p for p in state.pictures if state.mode == "side" or p.role in state.pair]
    if state.mode != "side":
        shown.sort(key=lambda picture: state.pair.index(picture.role))
    panels = [_make_panel(state, picture, factors.get(picture.role, 1.0), visible) for picture in shown]
    if state.residual_shown and state.residual_picture is not None:
        panels.append(_make_panel(state, state.residual_picture, 1.0, visible))
    return draw_comparison(panels, shared=False if state.residual_shown else state.shared)


def _make_panel(state: CompareState, picture: Picture, factor: float, visible: Box | None) -> FramePanel:
    from napari_lowdose_tem.figures.comparison import FramePanel

    field, placement = state.field, picture.placement
    height, width = field.extent if field is not None else placement.shape
    box = visible or (0.0, 0.0, height, width)
    box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], height), min(box[3], width))
    if placement.matrix[0, 1] or placement.matrix[1, 0]:
        picture = _turn_upright(picture)
        placement = picture.placement
    rows, cols = (
        sorted(v)
        for v in zip(placement.to_pixel(box[0], box[1]), placement.to_pixel(box[2], box[3]), strict=True)
    )
    level = max(0, math.floor(math.log2(max((rows[1] - rows[0]), (cols[1] - cols[0]), 1) / _MOST_PX)) + 1)
    size = 2**level
    pixels = picture.pyramid.level(level)
    top, left = (max(0, math.floor((v[0] + 0.5) / size + 1e-6)) for v in (rows, cols))
    bottom, right = (math.ceil((v[1] + 0.5) / size - 1e-6) for v in (rows, cols))
    part = np.asarray(pixels[top : max(bottom, top + 1), left : max(right, left + 1)], np.float32)
    step = [float(np.hypot(*placement.matrix[:, axis])) * size for axis in (0, 1)]
    marks = [
        np.array([((r + 0.5) / size - 0.5 - top, (c + 0.5) / size - 0.5 - left) for r, c in
                  (placement.to_pixel(*point) for point in outline)])
        for outline in state.outlines
    ]  # fmt: skip
    title = picture.title
    if factor != 1 and state.shared:
        title = f"{title} × {factor:.3g}"
    else:
        factor = 1.0
    low, high = picture.limits
    nm = field is not None and field.unit == "nm"
    return FramePanel(
        title,
        part * np.float32(factor),
        (step[0], step[1]) if nm else None,
        (low * factor, high * factor),
        tuple(_closed(mark) for mark in marks),
        picture.unit,
    )


def _turn_upright(picture: Picture) -> Picture:
    """Resample a turned picture along the rows and columns of the field, in pixels of its own size."""
    from scipy import ndimage

    matrix, shape = picture.placement.matrix, picture.placement.shape
    steps = np.array([np.hypot(*matrix[:, 0]), np.hypot(*matrix[:, 1])])
    first = matrix @ (shape[0] / 2, shape[1] / 2, 1.0) - steps * shape / 2
    back = np.linalg.inv(matrix[:, :2])
    to_own = back * steps
    offset = back @ (first + steps / 2 - matrix[:, 2]) - 0.5
    pixels = ndimage.affine_transform(
        np.asarray(picture.pixels, np.float32), to_own, offset, order=1, cval=np.nan
    )
    placement = Placement(shape, np.column_stack([np.diag(steps), first]))
    return replace(picture, pyramid=Pyramid(pixels), placement=placement)


def _closed(mark: Any) -> Any:
    """Corners of a region, each once."""
    return mark[:-1] if len(mark) > 3 and np.allclose(mark[0], mark[-1]) else mark


def make_layer_image(
    state: CompareState, what: str, images: Mapping[str, Image], request: ResultsRequest | None
) -> Image:
    """Make the image of a new layer on the grid: "HDE" resampled and registered, "LDE" averaged, "residual".

    Raises
    ------
    ValueError
        Where there is none.
    """
    field, picture = state.field, picture_of(state, what)
    if field is None or request is None:
        raise ValueError("Choose images first.")
    size = request.grid.pixel_size_nm
    if what == "residual":
        found = state.results.residual if state.results is not None else None
        if found is None:
            raise ValueError(NO_RESIDUAL)
        provenance: dict[str, Any] = {"residual_of": [state.chosen[1], state.chosen[2]]}
        return Image(found.map, size, name="LDE − output", provenance=provenance)
    if picture is None:
        raise ValueError(f"There is no {what} to add.")
    image = images[what]
    if what == "HDE":
        frame = request.frame("HDE")
        if frame is None:
            raise ValueError("The HDE is still being read; try again in a moment.")
        pixels = resample_to_grid(frame, request.grid, request.alignment)
        provenance = {"brought_to": state.chosen[1] or state.chosen[2]}
        if request.alignment is not None:
            similarity = request.alignment.similarity
            provenance["registered"] = {
                "shift_px": list(similarity.shift_px),
                "rotation_deg": similarity.rotation_deg,
                "scale": similarity.scale,
            }
        name = f"{image.name} on the grid of {state.chosen[1] or state.chosen[2]}"
    else:
        pixels, provenance = np.asarray(picture.pixels), {"mean_of_frames": state.average}
        name = f"{image.name} mean of {state.average}"
    provenance = {**image.provenance, **provenance}
    return Image(pixels, size, image.counts_per_electron, name=name, provenance=provenance)
