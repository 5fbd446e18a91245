"""What a fit found, whatever its model, and how it says that it found nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.measure.measurement import Background

Floats = npt.NDArray[np.float64]

LEAST_SIGNIFICANCE = 4.0
"""Of a dip, to be there: its depth over its error, as a matched filter sees it."""

MEASURABLE = 12.0
"""Significance from which on a line's standard errors hold; below, they miss the truth far too often."""

MOST_ERROR = 0.4
"""Standard error of a diameter, of the diameter."""

SMALLEST_RADIUS_PX = 1.0


class RefusedError(ValueError):
    """The data do not support a number; the text says why and what to do."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """Parameters of the spheres with their covariance; what differs between the models ends here."""

    centers: Floats
    radii: Floats
    contrasts: Floats
    sigma: float | None
    background: Background
    covariance: Floats  # of (center, radius) of the spheres in turn
    contrast_se: Floats | None
    dof: float
    significance: Floats
    base: Floats  # background at the samples
    position: Floats
    curve: Floats
    used: npt.NDArray[np.bool_]
    misfit: float = 0.0  # r.m.s., of the background
    notes: tuple[str, ...] = ()
