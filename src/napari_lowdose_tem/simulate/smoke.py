"""Smoke: spheres that stuck together in three dimensions before they fell on the film, many layers deep."""

from __future__ import annotations

import numpy as np

from napari_lowdose_tem.image import AnyFloat
from napari_lowdose_tem.simulate.specimen import Particles

ATTENUATION_NM = (60.0, 800.0)
"""Bounds of the attenuation length, from which spheres of 60 nm keep 37 to 93 % of the light [nm]."""
_EXTINCTION_NM = (30.0, 75.0)
_LARGEST_NM = 220.0
_TRIALS = 12
_LEAST_GAP = 0.85  # of the sum of two radii that their centres keep: sintered necks, not one within the other


def draw_smoke(
    count: int,
    median_nm: float,
    field_nm: tuple[float, float],
    rng: np.random.Generator,
    *,
    clusters: int = 1,
    crystalline_share: float = 0.0,
) -> Particles:
    """Draw aggregates of spheres, amorphous but for a share of crystals.

    Parameters
    ----------
    count
        Spheres in all.
    median_nm
        Median diameter [nm]; the spread is log-normal.
    field_nm
        Field of view (rows, columns) that the aggregates begin in [nm].
    rng
        Generator.
    clusters
        Aggregates the spheres belong to, of unequal size.
    crystalline_share
        Share of the spheres that diffract.
    """
    diameter = median_nm * np.exp(rng.uniform(0.1, 0.5) * rng.standard_normal(count))
    diameter = diameter.clip(0.4 * median_nm, max(min(3 * median_nm, _LARGEST_NM), 0.4 * median_nm))
    share = rng.dirichlet(np.ones(clusters))
    member = np.sort(rng.choice(clusters, count, p=share))
    center = np.empty((count, 2))
    for cluster in range(clusters):
        mine = member == cluster
        start = rng.uniform(0, 1, 2) * np.asarray(field_nm)
        center[mine] = start + _stick(diameter[mine] / 2, rng)
    spread = rng.uniform(0, 0.4)  # one substance, or several
    attenuation = np.exp(rng.uniform(*np.log(ATTENUATION_NM)) + spread * rng.standard_normal(count))
    extinction = np.full(count, np.inf)
    crystalline = rng.random(count) < crystalline_share
    extinction[crystalline] = rng.uniform(*_EXTINCTION_NM, crystalline.sum())
    deviation = rng.exponential(1.5, count)
    return Particles(center, diameter, attenuation, extinction, deviation, (None,) * count)


def _stick(radius: AnyFloat, rng: np.random.Generator) -> AnyFloat:
    """Let spheres stick to one another in space; centres (row, col) around their mean [nm]."""
    place = np.zeros((len(radius), 3))
    chain = rng.uniform(0, 0.8)  # 0: a compact pile, 1: a chain that grows at its tip
    flatness = np.array([1.0, 1.0, rng.uniform(0.3, 1.0)])  # it collapses on the film
    for i in range(1, len(radius)):
        best = -np.inf
        for _ in range(_TRIALS):
            host = i - 1 if rng.random() < chain else int(rng.integers(i))
            towards = rng.standard_normal(3) * flatness
            towards *= (radius[host] + radius[i]) * rng.uniform(_LEAST_GAP, 1) / np.linalg.norm(towards)
            tried = place[host] + towards
            gap = (np.linalg.norm(place[:i] - tried, axis=1) / (radius[:i] + radius[i])).min()
            if gap > best:
                best, place[i] = gap, tried
            if gap >= _LEAST_GAP:
                break
    return np.asarray((place - place.mean(0))[:, :2]) if len(radius) else np.empty((0, 2))
