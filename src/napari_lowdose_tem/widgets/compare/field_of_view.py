"""The field of view that all images show, and where each lies in it; no Qt, no napari."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F32, F64, Image

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""First row, first column, last row, last column."""

_SAME = 0.02  # by which sides' ratios may differ in one field
_MOST_LEVELS = 12


@dataclass(frozen=True)
class FieldOfView:
    """What is compared: the whole of the reference frame, the outer corner of its first pixel at (0, 0).

    Parameters
    ----------
    role
        Whose pixels are the grid that the numbers are computed on: the low dose where there is one.
    shape
        (rows, columns) of that grid [px].
    extent
        (height, width) [unit].
    unit
        "nm", or "px" where no image is calibrated.
    """

    role: str
    shape: tuple[int, int]
    extent: Point
    unit: str

    @property
    def step(self) -> Point:
        """Pixel of the grid (row, column) [unit]."""
        return self.extent[0] / self.shape[0], self.extent[1] / self.shape[1]


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a frame of `shape` lies: field = matrix · (row, column, 1), pixels' corners at whole numbers."""

    shape: tuple[int, int]
    matrix: F64

    def to_field(self, row: float, col: float) -> Point:
        """Place in the field of a point on the frame; pixel centres are whole numbers, as in napari."""
        found = self.matrix @ (row + 0.5, col + 0.5, 1.0)
        return float(found[0]), float(found[1])

    def to_pixel(self, row: float, col: float) -> Point:
        """Point on the frame, of a place in the field."""
        found = np.linalg.solve(self.matrix[:, :2], np.array([row, col]) - self.matrix[:, 2]) - 0.5
        return float(found[0]), float(found[1])

    def value_at(self, pixels: npt.NDArray[Any], row: float, col: float) -> float | None:
        """Value of the pixel at a place in the field, None beside the frame."""
        at = [math.floor(v + 0.5) for v in self.to_pixel(row, col)]
        if not all(0 <= v < n for v, n in zip(at, self.shape, strict=True)):
            return None
        return float(pixels[at[0], at[1]])


def find_field_of_view(images: Mapping[str, Image]) -> FieldOfView | None:
    """Return the field of low dose, output or high dose, whichever there is; calibrated if any image is."""
    role = next((role for role in ("LDE", "output", "HDE") if role in images), None)
    if role is None:
        return None
    shape = images[role].frame_shape
    size = images[role].pixel_size_nm
    if size is not None:
        return FieldOfView(role, shape, (shape[0] * size[0], shape[1] * size[1]), "nm")
    for other in images.values():
        if other.pixel_size_nm is not None and _is_alike(other.frame_shape, shape):
            (rows, cols), (row_nm, col_nm) = other.frame_shape, other.pixel_size_nm
            return FieldOfView(role, shape, (rows * row_nm, cols * col_nm), "nm")
    return FieldOfView(role, shape, (float(shape[0]), float(shape[1])), "px")


def place_image(
    image: Image, field: FieldOfView, is_calibrated: bool, alignment: F64 | None = None
) -> Placement:
    """Place an image in a field: by its pixel size, else as showing the same field, whole.

    Parameters
    ----------
    is_calibrated
        Whether the field's own image is.
    alignment
        (2, 3) matrix from where the image seems to lie on the field's grid [px] to where it does.
    """
    shape, size = image.frame_shape, image.pixel_size_nm
    if size is None or not is_calibrated:
        size = field.extent[0] / shape[0], field.extent[1] / shape[1]
    matrix = np.array([[size[0], 0.0, 0.0], [0.0, size[1], 0.0]])
    if alignment is not None:
        to_grid = np.diag([1 / field.step[0], 1 / field.step[1], 1.0])
        steps = np.diag([*field.step])
        matrix = steps @ alignment @ to_grid @ np.vstack([matrix, [0, 0, 1]])
    return Placement(shape, matrix)


def why_not_same_field(image: Image, field: FieldOfView, is_calibrated: bool) -> str:
    """Say that an image's sides do not fit the field's, or nothing."""
    if (image.pixel_size_nm is None or not is_calibrated) and not _is_alike(image.frame_shape, field.shape):
        ours, other = (f"{n[0]} × {n[1]} px" for n in (image.frame_shape, field.shape))
        return f"{ours} cannot show the field of {other}; give the pixel sizes of both in the Load dock"
    return ""


class Pyramid:
    """A frame and its means over 2, 4, 8 … pixels, made when looked at."""

    def __init__(self, pixels: npt.NDArray[Any]) -> None:
        self._levels = [pixels]

    @property
    def pixels(self) -> npt.NDArray[Any]:
        """The frame itself."""
        return self._levels[0]

    def level(self, index: int) -> npt.NDArray[Any]:
        """Means over 2**index pixels along rows and columns; at an odd edge over what is there."""
        index = min(index, _MOST_LEVELS)
        while len(self._levels) <= index and max(self._levels[-1].shape) > 1:
            self._levels.append(_halve(self._levels[-1]))
        return self._levels[min(index, len(self._levels) - 1)]

    def thin(self, most: int = 2**16) -> F32:
        """About `most` pixels spread over the frame."""
        step = max(1, math.isqrt(self.pixels.size // most))
        return np.asarray(self.pixels[::step, ::step], np.float32)


def _halve(pixels: npt.NDArray[Any]) -> F32:
    rows, cols = pixels.shape
    if rows % 2 or cols % 2:
        pixels = np.pad(pixels, ((0, rows % 2), (0, cols % 2)), mode="edge")
    half: F32 = np.add(pixels[::2, ::2], pixels[1::2, ::2], dtype=np.float32)
    half += pixels[::2, 1::2]
    half += pixels[1::2, 1::2]
    half *= np.float32(0.25)
    return half


def _is_alike(shape: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(shape[0] * other[1] / (shape[1] * other[0]) - 1) <= _SAME
