"""Count dark spots that a model draws on films with nothing on them.

    python studies/spots.py [--films N] [--first N] [--model NAME_OR_FILE …] [--json]

The films are the bare ones of reliability.py: 512 × 512 px, 3 nm/px, 5 e-/px, the measured camera, each
with grain, uneven thickness, a ramp and falloff. A spot is a connected patch of at least 30 px where the
enhanced frame over the film's truth, both of mean 1 and blurred by a Gaussian of σ 1.5 px, lies below 0.95.
No counts are asked whether they support it, so that what an eye would see is counted.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from scipy import ndimage

from napari_lowdose_tem.engine.engine import Engine
from reliability_scenes import SEED, draw_empty, record

SIGMA_PX = 1.5
DARKEST = 0.95
LEAST_PX = 30
RIM_PX = 16
FIRST = 1000  # studies/reliability.py draws the films before these


@dataclass(frozen=True)
class Spot:
    """A dark patch: place, size, lowest transmission, and distance of its nearest pixel from the rim."""

    row_px: float
    col_px: float
    size_px: int
    lowest: float
    rim_px: float


def find_spots(output: npt.ArrayLike, truth: npt.ArrayLike) -> list[Spot]:
    """Find dark spots of an enhanced frame that are not in its truth, both (rows, columns)."""
    pixels, film = (np.asarray(a, np.float64) / np.mean(a) for a in (output, truth))
    ratio = ndimage.gaussian_filter(pixels / film, SIGMA_PX, mode="nearest")
    labels, n = ndimage.label(ratio < DARKEST)
    spots = []
    for label in range(1, n + 1):
        rows, cols = np.nonzero(labels == label)
        if len(rows) < LEAST_PX:
            continue
        rims = (rows.min(), cols.min(), ratio.shape[0] - 1 - rows.max(), ratio.shape[1] - 1 - cols.max())
        lowest = float(ratio[rows, cols].min())
        spots.append(
            Spot(float(rows.mean()), float(cols.mean()), len(rows), round(lowest, 4), float(min(rims)))
        )
    return spots


def measure_spots(engine: Engine, n_films: int, first: int = FIRST) -> dict[str, Any]:
    """Count spots on bare films, and how many of them lie within 16 px of the rim."""
    found = []
    for index in track(range(first, first + n_films), f"{engine.model.file.label}: empty films"):
        scene = draw_empty(index)
        counts = record(scene, np.random.default_rng([SEED, 1, index]))
        found.append(find_spots(engine.enhance(counts), scene.transmission))
    spots = [spot for film in found for spot in film]
    return {
        "sha256": engine.model.file.sha256,
        "films": n_films,
        "spots": len(spots),
        "films_with_any": sum(bool(film) for film in found),
        "at_the_rim": sum(spot.rim_px < RIM_PX for spot in spots),
        "sizes_px": [spot.size_px for spot in spots],
        "lowest": [spot.lowest for spot in spots],
    }


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=100)
    parser.add_argument("--first", type=int, default=FIRST, help="number of the first film")
    parser.add_argument("--model", nargs="+", default=["default"], help="names or files")
    parser.add_argument("--json", action="store_true", help="print all that was measured")
    args = parser.parse_args()
    result = {}
    for name in args.model:
        with Engine(name) as engine:
            result[engine.model.file.label] = measure_spots(engine, args.films, args.first)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    for label, row in result.items():
        Console().print(
            f"{label}: {row['spots']} spots on {row['films_with_any']} of {row['films']} films, "
            f"{row['at_the_rim']} within {RIM_PX} px of the rim",
            highlight=False,
        )


if __name__ == "__main__":
    main()
