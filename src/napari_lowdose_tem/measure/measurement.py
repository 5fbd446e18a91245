"""What a measurement says: numbers with their errors, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F64

MODELS = ("full", "exponential", "paper")
RULES = ("fraction", "first_crossing")
MOST_PARTICLES = 6
_NONE = np.zeros(0)
_BARE = ("t_min", "t_min_se")  # have no unit


@dataclass(frozen=True)
class FitOptions:
    """How a profile is measured.

    Parameters
    ----------
    model
        "full": sphere with exponential contrast, blurred; "exponential": the same without blur, by the
        points near the centre; "paper": an ellipse through those points (Katsuno et al. 2021, Fig. 6).
    particles
        On the line; None for as many as `suggest_particles` sees.
    background
        (from, to) of the stretches of bare background along the line [unit of the profile]; without any, what
        lies beyond the particles.
    rule
        Where the pseudo-diameter D ends: "first_crossing", as in the paper, or at a "fraction", a tenth, of
        the depth.
    offset_known
        Zero is no electrons. False for images stretched to 0…1: contrast and depth are then independent.
    is_enhanced
        The frame is a network's output: its errors are correlated, and larger than its residuals show.
    """

    model: str = "full"
    particles: int | None = None
    background: tuple[tuple[float, float], ...] = ()
    rule: str = "fraction"
    offset_known: bool = True
    is_enhanced: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown choices."""
        if self.model not in MODELS:
            raise ValueError(f"unknown fit {self.model!r}; choose {', '.join(MODELS)}")
        if self.rule not in RULES:
            raise ValueError(f"unknown rule {self.rule!r}; choose {' or '.join(RULES)}")
        if self.particles is not None and not 1 <= self.particles <= MOST_PARTICLES:
            raise ValueError(f"{self.particles} particles on a line; give 1 to {MOST_PARTICLES}")
        for low, high in self.background:
            if not low < high:
                raise ValueError(f"background from {low:g} to {high:g}; give its beginning first")


@dataclass(frozen=True)
class Particle:
    """A particle on the line; lengths in the measurement's unit, None where not measured.

    `center` runs from the line's start. `diameter_ci95` is the interval that holds the diameter in 95 of 100
    cases. `pseudo_diameter` D ends where the profile meets the background; `edge_total` = D − d is what the
    paper calls edge width, `edge_per_side` half of it; `edge_sigma` the fitted Gaussian blur; `edge_10_90`
    the way from a tenth to nine tenths of the depth, mean of both sides. `t_min` is the transmission at the
    centre.
    """

    center: float
    center_se: float | None
    diameter: float
    diameter_se: float | None
    diameter_ci95: tuple[float, float] | None
    pseudo_diameter: float | None = None
    edge_total: float | None = None
    edge_per_side: float | None = None
    edge_sigma: float | None = None
    edge_10_90: float | None = None
    t_min: float | None = None
    t_min_se: float | None = None


@dataclass(frozen=True)
class Background:
    """Background at the line's middle [intensity], its slope [1/unit], and the stretches it was found in."""

    level: float
    level_se: float | None
    slope: float
    segments: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Measurement:
    """Particles on a line, or the reason why there is no number.

    `position` and `curve` are the fitted curve, finer than the data; `used` marks the samples it rests on.
    `margin` = l − (d₁ + d₂)/2, positive when two particles are told apart (`resolved`).
    """

    unit: str
    fit: str
    rule: str
    particles: tuple[Particle, ...] = ()
    background: Background | None = None
    separation: float | None = None
    separation_se: float | None = None
    margin: float | None = None
    margin_se: float | None = None
    refused: str = ""
    notes: tuple[str, ...] = ()
    position: F64 = field(default_factory=lambda: _NONE)
    curve: F64 = field(default_factory=lambda: _NONE)
    used: npt.NDArray[np.bool_] = field(default_factory=lambda: _NONE.astype(bool))

    @property
    def resolved(self) -> bool | None:
        """Whether two particles are apart; None for one."""
        return None if self.margin is None else self.margin > 0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; keys of lengths end in the unit."""
        u = self.unit
        background = self.background and {
            "level": self.background.level,
            "level_se": self.background.level_se,
            f"slope_per_{u}": self.background.slope,
            f"segments_{u}": [list(segment) for segment in self.background.segments],
        }
        return {
            "unit": u,
            "fit": self.fit,
            "pseudo_diameter_rule": self.rule,
            "background": background,
            "particles": [_particle_to_json(particle, u) for particle in self.particles],
            f"separation_{u}": self.separation,
            f"separation_se_{u}": self.separation_se,
            f"margin_{u}": self.margin,
            f"margin_se_{u}": self.margin_se,
            "resolved": self.resolved,
            "refused": self.refused or None,
            "notes": list(self.notes),
        }


def _particle_to_json(particle: Particle, unit: str) -> dict[str, Any]:
    entries = {}
    for entry in fields(particle):
        value = getattr(particle, entry.name)
        name = entry.name if entry.name in _BARE else f"{entry.name}_{unit}"
        entries[name] = list(value) if isinstance(value, tuple) else value
    return entries
