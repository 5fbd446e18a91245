"""What concerns all formats: what is refused and how, and what importing costs."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import READABLE_SUFFIXES, can_read, read, read_shape, write

FILES = [suffix for suffix in READABLE_SUFFIXES if suffix != ".zarr"]


@pytest.mark.parametrize("suffix", FILES)
def test_empty_file(tmp_path, suffix):
    path = tmp_path / f"movie{suffix}"
    path.touch()
    assert can_read(path)  # so that the reason is told
    with pytest.raises(ValueError, match="the file is empty"):
        read(path)


@pytest.mark.parametrize("suffix", [s for s in FILES if s != ".emi"])
@given(content=st.binary(min_size=1, max_size=3000))
@settings(max_examples=15, deadline=None)
def test_foreign_content(tmp_path_factory, suffix, content):
    path = tmp_path_factory.mktemp("x") / f"movie{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="movie") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_unknown_ending(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"1")
    assert not can_read(tmp_path / "a.xyz")
    with pytest.raises(ValueError, match=r"a\.xyz: cannot read \.xyz; can read \.tif"):
        read(tmp_path / "a.xyz")


def test_file_and_folder_mixed_up(tmp_path):
    (tmp_path / "a.zarr").write_bytes(b"1")
    (tmp_path / "b.tif").mkdir()
    for name in ("a.zarr", "b.tif"):
        with pytest.raises(ValueError, match=name):
            read(tmp_path / name)


def test_missing(tmp_path):
    for name in ("a.tif", "folder", "b.zarr"):
        with pytest.raises(FileNotFoundError, match=name):
            read(tmp_path / name)


def test_capital_endings(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "A.TIF", np.ones((2, 3), np.uint8))
    assert can_read(tmp_path / "A.TIF")
    assert read(tmp_path / "A.TIF").data.shape == (2, 3)


def test_import_is_light():
    heavy = "torch matplotlib napari qtpy dask zarr tifffile rsciio h5py numcodecs imagecodecs".split()
    code = "import sys, napari_lowdose_tem.io as io; io.can_read('a.dm4'); "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_needs_no_torch(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 4, 5), np.uint8), photometric="minisblack")
    code = "import sys, napari_lowdose_tem.io as io; io.write(io.read(sys.argv[1]), sys.argv[1] + '.zarr'); "
    code += "print([m for m in ('torch', 'matplotlib', 'napari', 'qtpy') if m in sys.modules])"
    command = [sys.executable, "-c", code, str(tmp_path / "a.tif")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".zarr"])
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_the_shape_comes_from_headers(tmp_path, monkeypatch, ending, shape):
    path = write(Image(np.ones(shape, np.float32)), tmp_path / f"a{ending}")
    monkeypatch.setattr("napari_lowdose_tem.io.frames.LazyFrames.__getitem__", None)
    assert read_shape(path) == shape
