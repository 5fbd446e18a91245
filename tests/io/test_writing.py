import json
import os
import subprocess
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import open_writer, read, write

ENDINGS = [".tif", ".ome.tif", ".zarr"]


def leftovers(folder, name):
    return sorted(p.name for p in folder.iterdir() if p.name != name)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("stack", [True, False])
def test_round_trip(tmp_path, movie, ending, stack):
    image = movie if stack else movie.with_data(movie.data[3])
    path = tmp_path / f"Probe µ 1{ending}"
    assert write(image, path) == path
    back = read(path)
    assert back.is_lazy == stack
    np.testing.assert_array_equal(back.data, image.data)
    assert back.data.dtype == np.float32
    assert back.pixel_size_nm == pytest.approx(image.pixel_size_nm, rel=1e-6)
    assert back.counts_per_electron == image.counts_per_electron
    assert back.frame_time_s == image.frame_time_s
    assert back.provenance["recipe"] == image.provenance["recipe"]
    assert back.provenance["origin"] == {"source": "/scope/run 7.dm4", "format": "DM4", "reader": "x 1"}
    assert back.provenance["source"] == str(path)
    assert leftovers(tmp_path, path.name) == []
    # the first source stays through a second generation
    write(back, tmp_path / f"b{ending}")
    assert read(tmp_path / f"b{ending}").provenance["origin"]["source"] == "/scope/run 7.dm4"


@pytest.mark.parametrize("ending", ENDINGS)
@given(
    size=st.tuples(*[st.floats(1e-3, 1e5)] * 2),
    gain=st.none() | st.floats(1e-3, 1e5),
    time=st.none() | st.floats(1e-6, 1e4),
    dtype=st.sampled_from(["u1", "i1", "u2", ">u2", "i2", "u4", "i4", "f4", "f8", "f2", "?"]),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
)
@settings(max_examples=25, deadline=None)
def test_any_round_trip(tmp_path_factory, ending, size, gain, time, dtype, shape):
    path = tmp_path_factory.mktemp("x") / f"a{ending}"
    data = (np.arange(np.prod(shape)).reshape(shape) % 2**7).astype(dtype)
    back = read(write(Image(data, size, gain, time), path))
    np.testing.assert_array_equal(back.frames(0, 9), data)
    kept = {"f": "f4", "b": "u1"}.get(data.dtype.kind, data.dtype.newbyteorder("="))
    assert back.data.dtype == np.dtype(kept)
    assert back.pixel_size_nm == pytest.approx(size, rel=1e-5)
    assert (back.counts_per_electron, back.frame_time_s) == (gain, time)


@pytest.mark.parametrize("ending", ENDINGS)
def test_unknown_stays_unknown(tmp_path, movie, ending):
    back = read(write(Image(movie.data), tmp_path / f"a{ending}"))
    assert (back.pixel_size_nm, back.counts_per_electron, back.frame_time_s) == (None, None, None)


def test_other_programs_see_the_calibration(tmp_path, movie):
    with tifffile.TiffFile(write(movie, tmp_path / "a.tif")) as tif:
        assert (tif.is_imagej, len(tif.pages), tif.series[0].axes) == (True, 5, "TYX")
        meta = tif.imagej_metadata
        assert (meta["images"], meta["frames"], meta["unit"], meta["finterval"]) == (5, 5, "nm", 0.04)
        x, y = (tif.pages[0].tags[f"{axis}Resolution"].value for axis in "XY")
        assert (x[1] / x[0], y[1] / y[0]) == pytest.approx((0.21, 0.35))
        assert tif.pages[0].tags["ResolutionUnit"].value == 1
    with tifffile.TiffFile(write(movie, tmp_path / "a.ome.tif")) as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.21, "nm")
        assert (pixels["PhysicalSizeY"], pixels["SizeT"]) == (0.35, 5)
        np.testing.assert_array_equal(tif.asarray(), movie.data)


@pytest.mark.parametrize(
    ("ending", "old", "new"),
    [
        (".tif", "finterval=0.04", "finterval=0.05"),
        (".ome.tif", 'TimeIncrement="0.04"', 'TimeIncrement="0.05"'),
    ],
)
@pytest.mark.parametrize("stack", [True, False])
def test_a_frame_time_set_in_another_program_counts(tmp_path, movie, ending, old, new, stack):
    path = write(movie if stack else movie.with_data(movie.data[3]), tmp_path / f"a{ending}")
    text = tifffile.tiffcomment(path)
    for replacement, expected in ((new, 0.05), ("", None)):
        assert old in text
        tifffile.tiffcomment(path, text.replace(old, replacement))
        back = read(path)
        assert back.frame_time_s == expected
        # what the format has no field for
        assert back.counts_per_electron == 44
        assert back.provenance["origin"]["source"] == "/scope/run 7.dm4"


@pytest.mark.parametrize("ending", [".tif", ".ome.tif"])
def test_a_frame_time_rounded_by_another_program_keeps_its_digits(tmp_path, movie, ending):
    time_s = 0.123456789012
    path = write(replace(movie, frame_time_s=time_s), tmp_path / f"a{ending}")
    standard, stored = tifffile.tiffcomment(path).split("lowdose_tem", 1)
    tifffile.tiffcomment(path, standard.replace(str(time_s), "0.123457") + "lowdose_tem" + stored)
    assert read(path).frame_time_s == time_s


def test_a_pixel_size_set_in_imagej_counts(tmp_path, movie):
    path = write(movie, tmp_path / "a.tif")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags["XResolution"].overwrite((2, 1))
    assert read(path).pixel_size_nm == pytest.approx((0.35, 0.5))
    tifffile.tiffcomment(path, tifffile.tiffcomment(path).replace("unit=nm", "unit=micron"))
    assert read(path).pixel_size_nm == pytest.approx((350, 500))


@pytest.mark.parametrize("stack", [True, False])
def test_a_zarr_calibrated_by_another_program(tmp_path, movie, stack):
    path = write(movie if stack else movie.with_data(movie.data[3]), tmp_path / "a.zarr")
    attributes = json.loads((path / ".zattrs").read_text(encoding="utf-8"))
    scale = [0.05, 0.3, 0.7] if stack else [0.3, 0.7]
    attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = scale
    (path / ".zattrs").write_text(json.dumps(attributes), encoding="utf-8")
    back = read(path)
    assert back.pixel_size_nm == (0.3, 0.7)
    # a frame has no axis of time
    assert back.frame_time_s == (0.05 if stack else 0.04)
    assert back.counts_per_electron == 44


def test_ome_zarr_is_read_by_its_reference_reader(tmp_path, movie):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    node = next(iter(Reader(parse_url(write(movie, tmp_path / "a.zarr")))()))
    np.testing.assert_array_equal(node.data[0], movie.data)
    assert [axis.get("unit") for axis in node.metadata["axes"]] == ["second", "nanometer", "nanometer"]
    assert node.metadata["coordinateTransformations"][0][0]["scale"] == [0.04, 0.35, 0.21]


def test_no_64_bit_integers_in_ome_tiff(tmp_path):
    image = Image(np.ones((2, 3), np.int64))
    with pytest.raises(ValueError, match=r"no int64 pixels; write \.tif or \.zarr"):
        write(image, tmp_path / "a.ome.tif")
    assert leftovers(tmp_path, "") == []
    assert read(write(image, tmp_path / "a.tif")).data.dtype == np.int64


def test_large_frames_are_cut_into_chunks_and_read_whole(tmp_path):
    data = np.random.default_rng(0).random((2, 2500, 3000), dtype=np.float32)
    back = read(write(Image(data), tmp_path / "a.zarr"))
    assert len(list((tmp_path / "a.zarr/0/0").rglob("*"))) > 2
    assert back.data.chunks[1:] == ((2500,), (3000,))
    np.testing.assert_array_equal(back.frames(1, 2)[0], data[1])


def test_copying_keeps_memory_bounded(tmp_path):
    frame = np.random.default_rng(0).random((500, 512), dtype=np.float32)
    with open_writer(tmp_path / "a.tif", Image(frame), 200, job={}) as writer:
        for i in range(200):
            writer.write(i, frame[None])
        writer.finish()
    image = read(tmp_path / "a.tif")
    write(image.with_data(image.data[:40]), tmp_path / "warm.zarr")
    tracemalloc.start()
    try:
        write(image, tmp_path / "b.zarr")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 130e6 < image.data.nbytes


@pytest.mark.parametrize("ending", [".png", "", ".dm4"])
def test_unknown_ending(tmp_path, movie, ending):
    with pytest.raises(ValueError, match=r"use one of \.tif"):
        write(movie, tmp_path / f"a{ending}")


def test_a_failing_source_leaves_nothing(tmp_path, movie):
    import dask.array as da

    def fail(block):
        raise ValueError("lost")

    data = da.from_array(movie.data, chunks=(1, -1, -1)).map_blocks(
        fail, dtype="f4", meta=np.empty((0, 0, 0))
    )
    with pytest.raises(ValueError, match="lost"):
        write(movie.with_data(data), tmp_path / "a.tif")
    assert leftovers(tmp_path, "") == []


def test_missing_and_read_only_folder(tmp_path, movie):
    with pytest.raises(FileNotFoundError, match="no such folder; create it first"):
        write(movie, tmp_path / "none" / "a.tif")
    folder = tmp_path / "fixed"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o500)
    elif subprocess.run(["chattr", "+i", folder], capture_output=True, check=False).returncode:
        pytest.skip("root writes everywhere, and chattr +i does not work here")
    try:
        for ending in ENDINGS:
            with pytest.raises(PermissionError, match="fixed"):
                write(movie, folder / f"a{ending}")
    finally:
        folder.chmod(0o700) if os.geteuid() != 0 else subprocess.run(["chattr", "-i", folder], check=True)
