"""NCEM's EMD, made here."""

import pickle

import h5py
import numpy as np
import pytest

from napari_lowdose_tem.io import read

STACK = np.arange(4 * 6 * 11, dtype=np.float32).reshape(4, 6, 11)


def ncem(path, data):
    from rsciio.emd import file_writer

    axes = [
        {"name": n, "size": s, "offset": 0.0, "scale": 0.1 * (k + 2), "units": "nm", "navigate": n in "wz"}
        for k, (n, s) in enumerate(zip("wzyx"[-data.ndim :], data.shape, strict=True))
    ]
    metadata = {"General": {"title": "movie"}, "Signal": {"signal_type": ""}}
    file_writer(str(path), {"data": data, "axes": axes, "metadata": metadata, "original_metadata": {}})
    return path


def test_ncem(tmp_path):
    path = ncem(tmp_path / "a.emd", STACK)
    image = read(path)
    assert image.is_lazy
    assert image.pixel_size_nm == pytest.approx((0.3, 0.4))
    np.testing.assert_array_equal(image.data, STACK)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image.data))[3], STACK[3])


def test_ncem_lists_other_images(tmp_path):
    path = ncem(tmp_path / "a.emd", STACK)
    with h5py.File(path, "r+") as file:
        group = next(iter(file["signals"].values()))
        file.copy(group, file["signals"], "zz")
        del file["signals/zz/data"]
        file["signals/zz/data"] = np.zeros((11, 6, 4), np.complex64)
    image = read(path)
    np.testing.assert_array_equal(image.data, STACK)
    assert "complex64" in image.provenance["other_images"][0]


def test_four_axes_are_refused(tmp_path):
    path = ncem(tmp_path / "a.emd", np.zeros((2, 3, 4, 5), np.float32))
    with pytest.raises(ValueError, match=r"a\.emd: holds .*\(2, 3, 4, 5\) float32"):
        read(path)
