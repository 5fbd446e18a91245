"""What the Compare dock shows; no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.widgets.compare.field import Box, Field, Placement, Point, Pyramid
from napari_lowdose_tem.widgets.shared.state import DockState

ROLES = ("HDE", "LDE", "output")
_MAP_REACH = 3.0  # standard deviations
MODES = {
    "side": "Side by side",
    "swipe": "Swipe",
    "blink": "Blink",
    "overlay": "Overlay, green and magenta",
}
CONTRASTS = {True: "Shared", False: "Per image"}
HISTOGRAMS = {False: "Values", True: "Scaled to 0 … 1"}
HOW_TO_BEGIN = {
    "HDE": "No high-dose image.\nOpen one to compare with: numbers need it.",
    "LDE": "No low-dose image.\nOpen one (File → Open), or the sample “High-dose and low-dose pair”.",
    "output": "No output.\nMake one in the Enhance dock; it appears here by itself.",
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame as it is shown: where it lies, and which values [its own unit] are black and white."""

    role: str
    title: str
    pyramid: Pyramid
    placement: Placement
    limits: tuple[float, float]
    unit: str = "counts"
    level: float | None = None
    colors: npt.NDArray[np.uint8] | None = None

    @property
    def pixels(self) -> npt.NDArray[Any]:
        """(rows, columns)."""
        return self.pyramid.pixels


@dataclass(frozen=True)
class Score:
    """Errors of one frame against the high dose, or why there are none."""

    title: str
    comparison: Any = None
    refused: str = ""


@dataclass(frozen=True, eq=False)
class Found:
    """What was computed of the frames shown; `is_region` when the scores are those of the region."""

    scores: tuple[Score, ...] = ()
    is_region: bool = False
    residual: Any = None
    residual_text: str = ""
    levels: dict[str, float] = field(default_factory=dict)
    histograms: dict[bool, tuple[Any, ...]] = field(default_factory=dict)
    histogram_text: dict[bool, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Moved:
    """How the high dose was found to lie on the grid, a `pairs.Similarity`; kept once accepted."""

    similarity: Any
    text: str
    is_kept: bool = False

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """(2, 3) matrix from where it seemed to lie [px of the grid] to where it does."""
        found = self.similarity
        angle, middle = np.radians(found.rotation_deg), np.array(found.shape) / 2
        turn = found.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return np.column_stack([turn, middle + found.shift_px - turn @ middle])


@dataclass
class CompareState(DockState):
    """State of the dock, changed by its control only.

    `chosen` names the layers of the roles, "" for none; `average` is the number of low-dose frames averaged;
    `pair` are the two roles shown by blink, swipe and overlay; `cursor` is a place in the field; `outlines`
    are lines and regions drawn, as (row, column) in the field.
    """

    layers: tuple[str, ...] = ()
    chosen: tuple[str, str, str] = ("", "", "")
    note: str = ""
    averages: tuple[int, ...] = (1,)
    average: int = 1
    mode: str = "side"
    pair: tuple[str, str] = ("LDE", "output")
    blink_ms: int = 600
    shared: bool = True
    limits: tuple[float, float] = (0.0, 1.0)
    limits_by_hand: bool = False
    contrast_text: str = ""
    field: Field | None = None
    pictures: tuple[Picture, ...] = ()
    cursor: Point | None = None
    outlines: tuple[tuple[Point, ...], ...] = ()
    region: Box | None = None
    drawing: bool = False
    in_region: bool = True
    map_shown: bool = False
    map: Picture | None = None
    scaled: bool = False
    found: Found | None = None
    is_fresh: bool = False
    rotation: bool = False
    magnification: bool = False
    registering: bool = False
    moved: Moved | None = None
    before: bool = False


def picture_of(state: CompareState, role: str) -> Picture | None:
    """Return the picture of a role, if there is one."""
    return next((picture for picture in state.pictures if picture.role == role), None)


def make_map(residual: Any, like: Picture | None) -> Picture | None:
    """Make a picture of low dose − output: black where the output is the brighter one."""
    if residual is None or like is None:
        return None
    reach = _MAP_REACH * max(residual.rms, 1e-9)
    return Picture("residual", "LDE − output", Pyramid(residual.map), like.placement, (-reach, reach))


def cursor_texts(state: CompareState) -> dict[str, str]:
    """Say what each picture has at the cursor: value and transmission."""
    texts = {}
    shown = (*state.pictures, *([state.map] if state.map is not None and state.map_shown else []))
    for picture in shown:
        text = ""
        if state.cursor is not None:
            value = picture.placement.value_at(picture.pixels, *state.cursor)
            if value is None or not np.isfinite(value):
                text = "–"
            else:
                text = f"{_plain(value)} {picture.unit}".strip()
                if picture.level:
                    text += f" · T {value / picture.level:.2f}"
        texts[picture.role] = text
    return texts


def position_text(state: CompareState) -> str:
    """Say where the cursor is: in nm from the corner of the field, and the pixel of its grid."""
    if state.cursor is None or state.field is None:
        return ""
    (row, col), step = state.cursor, state.field.step
    pixel = f"{state.field.role} pixel ({int(row // step[0])}, {int(col // step[1])})"
    if state.field.unit == "px":
        return pixel
    return f"row {row:.1f} nm, column {col:.1f} nm · {pixel}"


def region_text(state: CompareState) -> str:
    """Say how large the region is."""
    if state.region is None:
        return "Whole frame. Draw a region to compare within it."
    top, left, bottom, right = state.region
    unit = state.field.unit if state.field is not None else "px"
    return f"Region {bottom - top:.4g} × {right - left:.4g} {unit}"


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "−")
