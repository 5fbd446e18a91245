"""Read EMD files of Velox and NCEM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import rosetta
from napari_lowdose_tem.io.frames import LazyFrames, as_pixels


def read_emd(path: Path) -> Image:
    """Read the first image of an EMD file, counts as stored; stacks lazily."""
    import h5py

    if not h5py.is_hdf5(path):
        raise ValueError(f"{path}: not an HDF5 file, so no EMD; copy it again from where it was recorded")
    found = _open(path)
    index, _, provenance = rosetta.first_image(path, found)
    signal = found[index]
    # the reader leaves the frame axis first or last
    order = sorted(range(signal["data"].ndim), key=lambda i: not signal["axes"][i]["navigate"])
    data = signal["data"].transpose(order)
    *n_frames, rows, cols = data.shape
    frames = _EmdFrames(path, (max(n_frames, default=1), rows, cols), data.dtype, index, order)
    fields = rosetta.calibration([signal["axes"][i] for i in order])
    fields["provenance"] |= provenance | {"format": "EMD"}
    return Image(as_pixels(frames), **fields)


class _EmdFrames(LazyFrames):
    """Frames of dataset number `index` of RosettaSciIO, with its axes transposed to `order`."""

    def __init__(
        self, path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], index: int, order: list[int]
    ) -> None:
        super().__init__(path, shape, dtype)
        self._index = index
        self._order = order

    def _open(self) -> Any:
        return _open(self.path)[self._index]["data"].transpose(self._order).reshape(self.shape)

    def _read_frame(self, handle: Any, index: int) -> npt.NDArray[Any]:
        frame: npt.NDArray[Any] = handle[index].compute(scheduler="synchronous")
        return frame


def _open(path: Path) -> list[dict[str, Any]]:
    # only images: decoding the spectra of a Velox file takes minutes
    return rosetta.signals(path, "emd", select_type="images")
