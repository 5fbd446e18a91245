"""Places taken from one layer to another, whatever their units, scales and axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_lowdose_tem.image import F64

if TYPE_CHECKING:
    from napari.layers import Layer


def convert_points(points: Iterable[Sequence[float]], source: Layer, target: Layer) -> F64:
    """Take (row, column) points, (n, 2), from the coordinates of one layer to those of another.

    The last two axes count; units that cannot be compared, as pixels and nm, are taken for equal.
    """
    factors = np.array(
        [
            float((1 * own).to(other).magnitude) if own.is_compatible_with(other) else 1.0
            for own, other in zip(source.units[-2:], target.units[-2:], strict=True)
        ]
    )
    world = [np.asarray(source.data_to_world(pad(point, source.ndim)))[-2:] * factors for point in points]
    found = [target.world_to_data(pad(point, target.ndim))[-2:] for point in world]
    return np.asarray(found, np.float64).reshape(-1, 2)


def pad(point: Sequence[float], ndim: int) -> list[float]:
    """Put zeros before a (row, column) point for the other axes of a layer."""
    return [0.0] * (ndim - 2) + [float(value) for value in point]
