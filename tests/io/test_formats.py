"""Every real file against RosettaSciIO's reading, or the numbers its README gives."""

import importlib
import logging
import pickle
import warnings

import numpy as np
import pytest

from napari_lowdose_tem.io import can_read, read

# name: shape, type, (row, column) nm/px, frame time s, counts/e-
FILES = {
    "64x64_TEM_images_acquire.emi": ((64, 64), "f4", (6.281833616, 6.281833616), None, None),
    "64x64_TEM_images_acquire_1.ser": ((64, 64), "f4", (6.281833616, 6.281833616), None, None),
    "HAADFscan.mrc": ((16, 16), "u2", (5.679131317, 5.679131317), None, None),
    "dmTest_3D_int16_64,65,66.dm3": ((66, 65, 64), "i2", (3.0, 0.002), None, 1 / 1.1),
    "dmTest_float32_nonSquare_diffPixelSize.dm4": ((64, 128), "f4", (0.2, 1.0), None, None),
    "fei_example_tem_stack.emd": ((2, 3, 3), "i2", (0.0081728832, 0.0081728832), 0.8, None),
    "test_STEM_image.dm3": ((68, 68), "u4", (0.248538017, 0.248538017), None, None),
    "test_loading_image_saved_with_DM.tif": ((68, 68), "i4", (168.6746925, 168.6746925), None, None),
    "test_loading_image_saved_with_DM_stack.tif": ((2, 68, 68), "f4", (1686.740041, 168.674007), 2.5, None),
    "test_loading_image_saved_with_imageJ.tif": ((68, 68), "f4", (168.6747110, 168.6747110), None, None),
}
APIS = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".mrc": "mrc",
    ".ser": "tia",
    ".emi": "tia",
    ".emd": "emd",
    ".tif": "tiff",
}


@pytest.mark.parametrize("name", FILES)
def test_real_file(data_dir, name):
    path = data_dir / "formats" / name
    shape, dtype, size, frame_time, gain = FILES[name]
    image = read(path)
    assert can_read(path)
    assert image.data.shape == shape
    assert image.data.dtype == np.dtype(dtype)
    assert image.is_lazy == image.is_stack
    assert image.pixel_size_nm == pytest.approx(size)
    assert image.frame_time_s == pytest.approx(frame_time)
    assert image.counts_per_electron == pytest.approx(gain)
    assert image.name == path.stem
    assert image.provenance["source"] == str(path)
    assert {"format", "reader"} <= set(image.provenance)

    reader = importlib.import_module(f"rsciio.{APIS[path.suffix]}").file_reader
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = reader(str(path))[0]["data"]
    np.testing.assert_array_equal(image.frames(0, shape[0]), theirs.reshape(image.n_frames, *shape[-2:]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image.data)), theirs)


def test_every_file_is_tested(data_dir):
    assert {path.name for path in (data_dir / "formats").iterdir()} == set(FILES)


@pytest.mark.parametrize("name", ["train_0001.tif", "train_0002.tif"])
def test_low_dose_frame(data_dir, name, caplog):
    with caplog.at_level(logging.WARNING):
        image = read(data_dir / "lde_pair" / name)
    assert (image.data.shape, image.data.dtype) == ((512, 512), np.uint16)
    assert image.pixel_size_nm == pytest.approx((2.98846, 2.98846), rel=1e-5)
    assert image.counts_per_electron == pytest.approx(44, rel=1e-6)
    assert image.data.mean() / image.counts_per_electron == pytest.approx(4.55, abs=0.03)


def test_low_dose_folder(data_dir):
    folder = data_dir / "lde_pair"
    image = read(folder)
    assert image.data.shape == (2, 512, 512)
    assert image.pixel_size_nm == pytest.approx((2.98846, 2.98846), rel=1e-5)
    assert image.provenance["ignored_files"] == 1
    np.testing.assert_array_equal(image.frames(1, 2)[0], read(folder / "train_0002.tif").data)


def test_screen_resolution_is_no_calibration(data_dir):
    image = read(data_dir / "liquid_cell" / "sample.tif")
    assert image.data.shape == (512, 512)
    assert image.pixel_size_nm is None
    assert image.counts_per_electron is None


@pytest.mark.parametrize("part", [0.02, 0.5])
@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".emi")])
def test_cut_short(data_dir, tmp_path, name, part):
    whole = (data_dir / "formats" / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ValueError, match=name) as error:
        read(path).frames(0, 2)
    assert "\n" not in str(error.value)
