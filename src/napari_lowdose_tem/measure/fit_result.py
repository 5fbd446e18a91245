"""What a fit found, whatever its model, and how it says that it found nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.measure.measurement import Background

BACKGROUND_NOT_POSITIVE = "the background is not above zero; use counts, with the dark level subtracted"


class RefusedError(ValueError):
    """The data do not support a number; the text says why and what to do."""


@dataclass(frozen=True, eq=False)
class FitResult:
    """Parameters of the spheres with their covariance; what differs between the models ends here."""

    centers: F64
    radii: F64
    contrasts: F64
    sigma: float | None
    background: Background
    covariance: F64  # of (center, radius) of the spheres in turn
    contrast_se: F64 | None
    dof: float
    significance: F64
    base: F64  # background at the samples
    position: F64
    curve: F64
    used: npt.NDArray[np.bool_]
    misfit: float = 0.0  # r.m.s., of the background
    notes: tuple[str, ...] = ()
