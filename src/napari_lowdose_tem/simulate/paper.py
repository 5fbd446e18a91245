"""A data set with the numbers of images of Katsuno et al. 2021, Table 1."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from napari_lowdose_tem.simulate.dataset import DatasetStep, iter_dataset

IMAGES = {
    "training": {"Ni": 224, "FeNi": 260, "SiC": 140, "silicate": 176, "alumina": 200},
    "validation": {"Ni": 36, "FeNi": 40, "SiC": 20, "silicate": 24, "alumina": 40},
}
"""Low-dose images by part and material; every field of view has two."""

_DOSES_E_PER_PX = (5.0, 10.0)
_FIRST_VALIDATION_SEED = 2**40


def iter_paper_dataset(
    folder: str | Path,
    fraction: float = 1.0,
    parts: Sequence[str] = tuple(IMAGES),
    *,
    seed: int = 0,
    dose_e_per_px: float | tuple[float, float] = _DOSES_E_PER_PX,
    **options: Any,
) -> Iterator[DatasetStep]:
    """Write folder/training/MATERIAL and folder/validation/MATERIAL, of disjoint seeds.

    Parameters
    ----------
    folder
        Where to write; created if need be. All of it takes 20 GB.
    fraction
        Share of Table 1's fields, one at least of each material.
    parts
        "training", "validation" or both.
    seed
        Another seed, other specimens and noise; below 2⁴⁰.
    dose_e_per_px
        As in `iter_dataset`; 5 to 10 in the paper.
    **options
        As `iter_dataset`; with ``resume=True`` a data set that was stopped is completed.

    Raises
    ------
    ValueError
        For a fraction that is not within 0…1, unknown parts, and as `iter_dataset`.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction} of the paper's data set; give more than 0, 1 at most")
    if not parts or (unknown := set(parts) - set(IMAGES)):
        raise ValueError(f"unknown part {sorted(unknown) if parts else ''}; choose from {', '.join(IMAGES)}")
    if not 0 <= seed < _FIRST_VALIDATION_SEED:
        raise ValueError(f"seed {seed}; give one from 0 to {_FIRST_VALIDATION_SEED - 1}")
    jobs = []
    for part, material, images in ((p, m, n) for p in parts for m, n in IMAGES[p].items()):
        fields = max(1, round(fraction * images / 2))
        own_seed = seed + (_FIRST_VALIDATION_SEED if part == "validation" else 0)
        place = Path(folder) / part
        if not options.get("resume") and (place / material).exists():
            raise ValueError(f"{place / material}: exists already; resume, or choose another folder")
        steps = iter_dataset(place, [material], fields, dose_e_per_px=dose_e_per_px, seed=own_seed, **options)
        jobs.append((fields, steps))
    total = sum(fields for fields, _ in jobs)
    for done, step in enumerate(itertools.chain.from_iterable(steps for _, steps in jobs), 1):
        yield DatasetStep(done, total, step.path)
