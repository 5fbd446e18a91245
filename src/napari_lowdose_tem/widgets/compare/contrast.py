"""Which values are black and white in each picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.widgets.compare.grid_frame import mean_of
from napari_lowdose_tem.widgets.compare.state import CompareState, Picture

if TYPE_CHECKING:
    from napari.layers import Layer

_ALIKE = 1.25  # ratio of means up to which values are shared as they are
_PER_IMAGE = "Each image has the limits of its layer controls."


class Contrast:
    """Chooses shared limits once, so that they do not flicker from frame to frame.

    `factors` multiply the values of a role before they share limits, where its counts are of another dose.
    """

    def __init__(self, state: CompareState) -> None:
        self._state = state
        self.factors: dict[str, float] = {}
        self._shared: tuple[float, float] | None = None
        self._why_not = ""
        self._roles: tuple[str, ...] = ()
        self._is_known = False

    def forget(self) -> None:
        """Choose again with the next pictures."""
        self._is_known, self._state.limits_by_hand = False, False

    def set(self, low: float, high: float) -> None:
        """Take the user's shared limits."""
        self._shared, self._is_known, self._state.limits_by_hand = (low, high), True, True
        self._state.limits = low, high

    def apply(self, pictures: Sequence[Picture], layers: Mapping[str, Layer]) -> tuple[Picture, ...]:
        """Give the pictures their limits and colours, and describe them."""
        roles = tuple(picture.role for picture in pictures)
        if not self._is_known or roles != self._roles:
            self._find(pictures)
            self._roles, self._is_known = roles, True
        shared = self._shared if self._state.shared else None
        self._describe(pictures, shared)
        made = []
        for picture in pictures:
            layer = layers[picture.role]
            limits = tuple(float(v) for v in layer.contrast_limits)
            if shared is not None:
                factor = self.factors.get(picture.role, 1.0)
                limits = shared[0] / factor, shared[1] / factor
            made.append(replace(picture, limits=(limits[0], limits[1]), colors=_colors_of(layer)))
        return tuple(made)

    def _find(self, pictures: Sequence[Picture]) -> None:
        from napari_lowdose_tem.figures.comparison import FramePanel, choose_limits

        by_hand = self._shared if self._state.limits_by_hand else None
        self.factors, self._shared, self._why_not = {}, None, ""
        if not pictures:
            return
        thin = {picture.role: picture.pyramid.thin() for picture in pictures}
        means = {role: mean_of(pixels) for role, pixels in thin.items()}
        base = next((means[role] for role in ("LDE", "output") if role in means), 0.0)
        if "HDE" in means and base > 0 and means["HDE"] > 0 and not 1 / _ALIKE < base / means["HDE"] < _ALIKE:
            self.factors["HDE"] = base / means["HDE"]
        panels = [
            FramePanel(p.role, thin[p.role] * self.factors.get(p.role, 1.0), unit=_unit(p, self.factors))
            for p in pictures
        ]
        limits, self._why_not = choose_limits(panels)
        if not self._why_not:
            self._shared = by_hand or (float(limits[0][0]), float(limits[0][1]))
            self._state.limits = self._shared

    def _describe(self, pictures: Sequence[Picture], shared: tuple[float, float] | None) -> None:
        if not pictures:
            text = ""
        elif shared is not None:
            text = f"{_plain(shared[0])} to {_plain(shared[1])} counts"
            if "HDE" in self.factors:
                text += f"; HDE × {self.factors['HDE']:.3g} (ratio of the means)"
            text += "."
        elif self._state.shared and self._why_not:
            text = f"Not the same limits: {self._why_not.removeprefix('own limits: ')}. {_PER_IMAGE}"
        else:
            text = _PER_IMAGE
        self._state.limits_are_shared, self._state.contrast_text = shared is not None, text


def _unit(picture: Picture, factors: Mapping[str, float]) -> str:
    return "counts" if picture.role in factors else picture.unit


def _colors_of(layer: Layer) -> npt.NDArray[np.uint8] | None:
    """(256, 4) colours of a layer, or None for grey."""
    if layer.colormap.name in ("gray", "grey"):
        return None
    colors: npt.NDArray[np.float64] = np.asarray(layer.colormap.map(np.linspace(0, 1, 256)), np.float64)
    return (colors * 255).round().astype(np.uint8)


def _plain(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}".replace("-", "−")
