"""Match the particles found with those there are: hits, missed and invented ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.particles.find import LEAST_DEPTH, Detection

_TOLERANCE_PX = 1.0  # between the centre of one and the disc of the other


@dataclass(frozen=True)
class Match:
    """Detections and true particles, compared.

    `hits` and `invented` are detections, `missed` are true particles.
    """

    hits: tuple[Detection, ...]
    missed: tuple[Detection, ...]
    invented: tuple[Detection, ...]


def read_truth(particles: Iterable[Mapping[str, Any]], pixel_size_nm: float) -> list[Detection]:
    """Turn the simulator's list of particles into detections on a grid [nm/px]."""
    return [
        Detection(p["row_px"], p["col_px"], p["diameter_nm"] / pixel_size_nm, 1 - p["t_center"])
        for p in particles
    ]


def match_particles(
    found: Sequence[Detection],
    truth: Sequence[Detection],
    shape: tuple[int, int],
    least_depth: float = LEAST_DEPTH,
) -> Match:
    """Sort particles into hits, missed and invented ones.

    A detection and a true particle belong together when the centre of one lies within the disc of the other,
    give or take a pixel; in a cluster several detections may share a particle and the reverse. A detection
    that belongs to none is invented. A true particle that belongs to none is missed, if it can be asked for:
    its centre lies in the frame and it is `least_depth` deep.

    Parameters
    ----------
    found
        As `find_particles` returns them.
    truth
        Of the simulator (`read_truth`), or found in a high-dose frame by the same rule.
    shape
        Of the frame (rows, columns) [px].
    least_depth
        Depth from which on a true particle can be missed.
    """
    together = _belong(found, truth)
    real: list[bool] = np.asarray(together.any(1)).tolist()
    seen: list[bool] = np.asarray(together.any(0)).tolist()
    missed = tuple(
        particle
        for particle, is_seen in zip(truth, seen, strict=True)
        if not is_seen
        and particle.depth >= least_depth
        and 0 <= particle.row_px <= shape[0] - 1
        and 0 <= particle.col_px <= shape[1] - 1
    )
    return Match(
        hits=tuple(d for d, yes in zip(found, real, strict=True) if yes),
        missed=missed,
        invented=tuple(d for d, yes in zip(found, real, strict=True) if not yes),
    )


def _belong(found: Sequence[Detection], truth: Sequence[Detection]) -> npt.NDArray[np.bool_]:
    a, b = (
        np.array([(d.row_px, d.col_px, d.diameter_px / 2) for d in entries]).reshape(-1, 3)
        for entries in (found, truth)
    )
    distance = np.hypot(a[:, None, 0] - b[None, :, 0], a[:, None, 1] - b[None, :, 1])
    return np.asarray(distance <= np.maximum(a[:, None, 2], b[None, :, 2]) + _TOLERANCE_PX)
