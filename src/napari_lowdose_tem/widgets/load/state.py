"""What the Load dock shows; no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.shared.state import DockState

NO_LAYER = "Open files or a folder, or drop them here."


@dataclass
class LoadState(DockState):
    """State of the dock, changed by its control only; None is unknown.

    `dose_e_per_px` is measured on the frame in the middle of the layer.
    """

    dark_reference: Path | None = None
    loading: bool = False
    layer: str = ""
    layer_ok: bool = False
    text: str = NO_LAYER
    pixel_size_nm: tuple[float, float] | None = None
    counts_per_electron: float | None = None
    frame_time_s: float | None = None
    dose_e_per_px: float | None = None
    mean_counts: float | None = None


def describe_calibration(state: LoadState) -> str:
    """List what is known of a layer, and what is not."""
    if not state.layer_ok:
        return state.text
    lines = [state.text]
    if state.pixel_size_nm is None:
        lines.append("The file has no pixel size; until you enter one, lengths are in px.")
    if state.frame_time_s is not None:
        lines.append(f"Frame time {state.frame_time_s:.4g} s")
    if state.dose_e_per_px is not None:
        lines.append(f"Mean dose {state.dose_e_per_px:.3g} e⁻/px per frame")
        if state.pixel_size_nm is not None:
            row, col = state.pixel_size_nm
            lines.append(f"= {state.dose_e_per_px / (row * col):.3g} e⁻/nm² per frame")
    elif state.mean_counts is not None:
        lines.append(f"Mean {state.mean_counts:.4g} counts/px; enter the gain to see the dose.")
    return "\n".join(lines)


def size_and_type(image: Image) -> str:
    """Return `50 frames of 384 × 512 px, uint16`."""
    rows, cols = image.frame_shape
    frames = f"{image.n_frames} frame{'s' * (image.n_frames > 1)} of " if image.is_stack else ""
    return f"{frames}{rows} × {cols} px, {image.data.dtype}"
