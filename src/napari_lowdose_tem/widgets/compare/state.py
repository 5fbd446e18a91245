"""What the Compare dock shows; no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.widgets.compare.field_of_view import Box, FieldOfView, Placement, Point, Pyramid
from napari_lowdose_tem.widgets.shared.state import DockState

if TYPE_CHECKING:
    from napari_lowdose_tem.judge.comparison import Comparison
    from napari_lowdose_tem.judge.histogram import Histogram
    from napari_lowdose_tem.judge.residual import Residual
    from napari_lowdose_tem.pairs import Similarity

ROLES = ("HDE", "LDE", "output")
_RESIDUAL_REACH = 3.0  # standard deviations from black to grey
MODES = {
    "side": "Side by side",
    "swipe": "Swipe",
    "blink": "Blink",
    "overlay": "Overlay, green and magenta",
}
CONTRASTS = {True: "Same limits in all views", False: "Per image"}
HISTOGRAMS = {False: "Counts", True: "Scaled to 0–1"}
NO_RESIDUAL = "The residual needs a low-dose image and its output."
HOW_TO_BEGIN = {
    "HDE": "No high-dose image.\nOpen one of the same field; the numbers need it.",
    "LDE": "No low-dose image.\nOpen one (File → Open) or the sample “High-dose and low-dose pair”.",
    "output": "No output.\nEnhance the low-dose image in the Enhance dock; the result appears here.",
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
class ScoreRow:
    """Errors of one frame against the high dose, or why there are none."""

    title: str
    comparison: Comparison | None = None
    refused: str = ""


@dataclass(frozen=True, eq=False)
class Results:
    """What was computed from the frames shown; `is_region` if the scores are those of the region."""

    scores: tuple[ScoreRow, ...] = ()
    is_region: bool = False
    residual: Residual | None = None
    residual_text: str = ""
    levels: dict[str, float] = field(default_factory=dict)
    histograms: dict[bool, tuple[Histogram, ...]] = field(default_factory=dict)
    histogram_text: dict[bool, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the high dose was found to lie on the grid; its layer remembers it once accepted."""

    similarity: Similarity
    text: str
    is_accepted: bool = False

    @property
    def matrix(self) -> F64:
        """(2, 3) matrix from where it seemed to lie [px of the grid] to where it does."""
        found = self.similarity
        angle, middle = np.radians(found.rotation_deg), np.array(found.shape) / 2
        turn = found.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return np.column_stack([turn, middle + found.shift_px - turn @ middle])


@dataclass
class CompareState(DockState):
    """State of the dock, changed by its control only.

    `chosen` names the layers of the roles, "" for none; `average` is the number of low-dose frames averaged;
    `pair` are the two roles shown by blink, swipe and overlay; `shared` is whether the views are to have the
    same limits, `limits_are_shared` whether they can; `cursor` is a place in the field; `outlines` are lines
    and regions drawn, as (row, column) in the field; `scaled` is for the histograms; `unregistered` shows the
    high dose where it lay before.
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
    limits_are_shared: bool = False
    limits: tuple[float, float] = (0.0, 1.0)
    limits_by_hand: bool = False
    contrast_text: str = ""
    field: FieldOfView | None = None
    pictures: tuple[Picture, ...] = ()
    cursor: Point | None = None
    outlines: tuple[tuple[Point, ...], ...] = ()
    region: Box | None = None
    drawing: bool = False
    in_region: bool = True
    residual_shown: bool = False
    residual_picture: Picture | None = None
    scaled: bool = False
    results: Results | None = None
    is_fresh: bool = False
    rotation: bool = False
    magnification: bool = False
    registering: bool = False
    alignment: Alignment | None = None
    unregistered: bool = False


def picture_of(state: CompareState, role: str) -> Picture | None:
    """Return the picture of a role, if there is one."""
    return next((picture for picture in state.pictures if picture.role == role), None)


def make_residual_picture(residual: Residual | None, like: Picture | None) -> Picture | None:
    """Make a picture of low dose − output: black where the output is the brighter one."""
    if residual is None or like is None:
        return None
    reach = _RESIDUAL_REACH * max(residual.rms, 1e-9)
    return Picture("residual", "LDE − output", Pyramid(residual.map), like.placement, (-reach, reach))


def cursor_texts(state: CompareState) -> dict[str, str]:
    """Value and transmission of each picture at the cursor."""
    texts = {}
    extra = [state.residual_picture] if state.residual_picture is not None and state.residual_shown else []
    shown = (*state.pictures, *extra)
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
    """Place of the cursor [nm] from the corner of the field, and the pixel of its grid."""
    if state.cursor is None or state.field is None:
        return ""
    (row, col), step = state.cursor, state.field.step
    pixel = f"{state.field.role} pixel ({int(row // step[0])}, {int(col // step[1])})"
    if state.field.unit == "px":
        return pixel
    return f"y {row:.1f} nm, x {col:.1f} nm · {pixel}"


def region_text(state: CompareState) -> str:
    """Size of the region."""
    if state.region is None:
        return "Whole frame; draw a region to compare inside it."
    top, left, bottom, right = state.region
    unit = state.field.unit if state.field is not None else "px"
    return f"Region {bottom - top:.4g} × {right - left:.4g} {unit}"


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "−")
