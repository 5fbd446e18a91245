"""A file that another program appends frames to."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io.errors import as_value_error
from napari_lowdose_tem.io.names import image_name


class GrowingFile(ABC):
    """An open file that grows; `open_growing` makes the one for its format."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = os.stat(path).st_ino
        self._size = -1  # at the last `_has_settled`

    @abstractmethod
    def count(self) -> int:
        """Count the frames that are complete."""

    def frame(self, index: int) -> Image:
        """Read one frame.

        Raises
        ------
        ValueError
            Naming the frame that cannot be read, perhaps not yet.
        """
        with as_value_error(self.path, f"frame {index} cannot be read"):
            image = self._read_frame(index)
        provenance = {**image.provenance, "source": str(self.path)}
        return image.with_data(image.data, name=image_name(self.path), provenance=provenance)

    def is_replaced(self) -> bool:
        """Tell whether another file has taken its place, or it became shorter."""
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            return True
        return stat.st_ino != self._inode or stat.st_size < self._size

    def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Close it."""

    @abstractmethod
    def _read_frame(self, index: int) -> Image:
        """Read one frame with its calibration and format."""

    def _has_settled(self) -> bool:
        """Tell whether the size is that of the last call: then the last frame counts, too."""
        before, self._size = self._size, os.stat(self.path).st_size
        return before == self._size
