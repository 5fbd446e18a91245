"""The scaling of the frames of a live series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from napari_lowdose_tem.network.scaling import Scaling, measure_scaling

LEVELS = ("first", "frame")
_CHANGED = 1.5  # factor of brightness at which the level of the first frame no longer fits


class SeriesScaling:
    """The scaling of the first frame with signal for all that follow, or of each frame by itself.

    Parameters
    ----------
    recipe
        How the model scales its input; one that scales each frame by itself does so here too.
    each
        Measure the scaling of each frame.
    follow
        Measure it again when the brightness changes by half; otherwise only note that.
    fixed
        The scaling of the run that is continued.
    """

    def __init__(
        self, recipe: Mapping[str, Any], *, each: bool, follow: bool, fixed: Scaling | None = None
    ) -> None:
        self._recipe = recipe
        self._each = each or recipe["per"] == "frame"
        self._follow = follow
        self.scaling = None if self._each else fixed
        self.note = ""

    def scaling_for(self, frame: npt.NDArray[Any]) -> Scaling:
        """Give the scaling to use for a frame."""
        own = measure_scaling(self._recipe, frame)
        if self._each or not own.has_signal:
            return own if self.scaling is None else self.scaling
        if self.scaling is None:
            self.scaling = own
        factor = own.scale / self.scaling.scale
        self.note = ""
        if not 1 / _CHANGED < factor < _CHANGED:
            if self._follow:
                self.scaling = own
            else:
                self.note = (
                    f"the frames are {factor:.2g} times as bright as the first one, whose level scales them"
                )
        return self.scaling
