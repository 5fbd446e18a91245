"""A field of view: its high-dose frame and the low-dose frames of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_lowdose_tem.io import read_shape

Shape = tuple[int, int]
Region = tuple[int, int, int, int]

TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class Field:
    """A field of view: its high-dose frame and the low-dose frames of it.

    Parameters
    ----------
    set_name
        What it is counted with: the material, in the authors' data.
    hde, ldes
        The files. A field without low-dose frames is there to draw them from its high-dose frame.
    hde_shape, lde_shape
        (rows, columns) of the frames, or of what is used of them [px].
    hde_region, lde_region
        What is used of the frames, (row, column, rows, columns) [px]; None for all.
    """

    set_name: str
    hde: Path
    ldes: tuple[Path, ...]
    hde_shape: Shape
    lde_shape: Shape
    hde_region: Region | None = None
    lde_region: Region | None = None

    @property
    def factor(self) -> int:
        """High-dose pixels along a low-dose pixel."""
        return self.hde_shape[0] // self.lde_shape[0]


def frame_shape(path: Path) -> Shape:
    """Give the shape of a single frame from its file's headers, no pixel read [px].

    Raises
    ------
    ValueError
        For a stack, and for what cannot be read.
    """
    shape = read_shape(path)
    if len(shape) != 2:
        raise ValueError(f"{path}: {len(shape)} axes of shape {shape}; needs a single frame")
    return shape[0], shape[1]


def find_factor(hde: Path, hde_shape: Shape, lde: str, lde_shape: Shape) -> int:
    """Give the high-dose pixels along a low-dose pixel; ValueError unless they are a whole number."""
    factor = hde_shape[0] // lde_shape[0]
    if factor and hde_shape == (factor * lde_shape[0], factor * lde_shape[1]):
        return factor
    raise ValueError(
        f"{hde}: {hde_shape[0]} × {hde_shape[1]} px is not a whole multiple of {lde}'s "
        f"{lde_shape[0]} × {lde_shape[1]} px; "
        + ("crop or export it again" if factor else "is the order of the two swapped?")
    )
