"""What the Line profile dock shows; no Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.figures.profile import scale_profile
from napari_lowdose_tem.measure.measurement import Measurement
from napari_lowdose_tem.measure.profile import Profile
from napari_lowdose_tem.widgets.profile.kept_rows import Row
from napari_lowdose_tem.widgets.shared.state import DockState

Segments = tuple[tuple[float, float], ...]
"""Parts of a line, (start, stop) along it."""

ROLES = ("HDE", "LDE", "output")
LAYOUTS = {"overlaid": "Overlaid", "stacked": "Stacked"}
SCALES = {"counts": "Counts", "transmission": "Transmission T", "unit": "Scaled to 0–1"}
FITS = {
    "full": "Blurred sphere",
    "exponential": "Sphere, central part only",
    "paper": "Ellipse, as in the paper",
}
RULES = {"fraction": "10 % of depth", "first_crossing": "first crossing, as in the paper"}
MOST_PARTICLES = 6
HOW_TO_DRAW = "Draw a line across one particle, or across two."


@dataclass(frozen=True, eq=False)
class Curve:
    """A profile with its fit, or why there is none; `is_fresh` when the fit is of this profile."""

    role: str
    layer: str
    profile: Profile | None = None
    measurement: Measurement | None = None
    is_fresh: bool = False
    refused: str = ""
    name: str = ""

    @property
    def reason(self) -> str:
        """Why there are no numbers, or nothing."""
        return self.refused or (self.measurement.refused if self.measurement is not None else "")


@dataclass
class ProfileState(DockState):
    """State of the dock, changed by its control only.

    `chosen` names the layers of the roles, "" for none; `background` are the user's segments [unit], empty
    for those found; `counts` is the fit to the raw counts.
    """

    layers: tuple[str, ...] = ()
    chosen: tuple[str, str, str] = ("", "", "")
    lines: tuple[str, ...] = ()
    line: int = -1
    drawing: bool = False
    line_text: str = HOW_TO_DRAW
    unit: str = "nm"
    width: float = 0.0
    layout: str = "overlaid"
    scale: str = "transmission"
    fit: str = "full"
    particles: int = 0
    rule: str = "fraction"
    background: Segments = ()
    curves: tuple[Curve, ...] = ()
    counts: Any = None
    counts_text: str = ""
    stack: str = ""
    follow: bool = False
    time_running: bool = False
    time_share: float = 0.0
    time_text: str = ""
    over_time: Any = None
    rows: tuple[Row, ...] = field(default_factory=tuple)


def scaled(curve: Curve, scale: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Profile, fitted curve and background (at the profile's positions) on an axis of `SCALES`."""
    if curve.profile is None:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    return scale_profile(curve.profile, curve.measurement, scale)


def describe_line(state: ProfileState, is_drawn: bool) -> str:
    """Return length and width of the line measured, or how to draw one."""
    profile = next((curve.profile for curve in state.curves if curve.profile is not None), None)
    if profile is None:
        return "" if is_drawn else HOW_TO_DRAW
    width = f"{state.width:.4g} {profile.unit} wide" if state.width else "one pixel wide"
    return f"{profile.length:.4g} {profile.unit} long, {width}"


def parse_segments(text: str) -> Segments:
    """Read `0–30, 120–150`; nothing is automatic.

    Raises
    ------
    ValueError
        For anything else.
    """
    segments = []
    for part in text.replace(";", ",").split(","):
        if not part.strip():
            continue
        ends = part.replace("…", "–").replace("-", "–").split("–")
        try:
            low, high = (float(end) for end in ends)
        except ValueError:
            raise ValueError(
                f"background “{part.strip()}” is not a segment; write it as 0–30, 120–150"
            ) from None
        if not low < high:
            raise ValueError(
                f"background {low:g}–{high:g} is empty; the first number must be the smaller one"
            )
        segments.append((low, high))
    return tuple(sorted(segments))


def segments_text(segments: Segments) -> str:
    """Return `0–30, 120–150`."""
    return ", ".join(f"{low:.4g}–{high:.4g}" for low, high in segments)
