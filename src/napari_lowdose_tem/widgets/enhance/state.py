"""What the Enhance dock shows; no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.shared.state import ModelState


@dataclass
class EnhanceState(ModelState):
    """State of the dock, changed by its control only.

    `source_ok` and `source_text` say what the chosen layer is, or why it cannot be enhanced; `output` None is
    memory.
    """

    layers: tuple[str, ...] = ()
    source: str = ""
    source_ok: bool = False
    source_text: str = "Open an image or select an image layer."
    is_stack: bool = False
    preview: bool = False
    preview_text: str = ""
    output: Path | None = None
    needs_disk: bool = False
    output_text: str = ""
    can_resume: bool = False
    running: bool = False
    stopping: bool = False
    share_done: float = 0.0
    progress_text: str = ""


def describe_image(image: Image) -> str:
    """Return `50 frames of 384 × 512 px · 2.99 nm/px · 44 counts/e⁻`."""
    rows, cols = image.frame_shape
    parts = [f"{rows} × {cols} px"]
    if image.is_stack:
        parts[0] = f"{image.n_frames} frame{'s' * (image.n_frames > 1)} of {parts[0]}"
    if image.pixel_size_nm is None:
        parts.append("no pixel size")
    else:
        row, col = image.pixel_size_nm
        parts.append(f"{row:.4g} nm/px" if abs(row - col) < 1e-4 * row else f"{row:.4g} × {col:.4g} nm/px")
    return " · ".join(parts)
