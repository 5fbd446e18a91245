import struct

import numpy as np
import pytest
import tifffile
import zarr

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import write
from napari_lowdose_tem.live import Arrival, GrowingSource, Passed, Skipped, open_source

QUICK = {"poll_s": 0.01, "patience_s": 0.2}


def check(found, frames, numbers):
    assert [event.name for event in found] == [f"frame {n}" for n in numbers]
    for event, n in zip(found, numbers, strict=True):
        np.testing.assert_array_equal(event.image.data, frames(n))


@pytest.mark.parametrize("options", [{}, {"bigtiff": True, "byteorder": ">"}, {"compression": "zlib"}])
def test_growing_tiff(tmp_path, frames, collect, options):
    path = tmp_path / "movie.tif"
    page = {"compression": options.pop("compression", None), "contiguous": False, "metadata": None}
    events = GrowingSource(path, **QUICK).iter_events(False)
    assert not collect(events, 1, idle_s=0.05)
    with tifffile.TiffWriter(path, **options) as tif:
        for n in range(7):
            tif.write(frames(n), resolution=(5e6, 4e6), resolutionunit="CENTIMETER", **page)
            tif.filehandle.flush()
            (event,) = collect(events, 1)
            check([event], frames, [n])
            assert event.image.pixel_size_nm == pytest.approx((2.5, 2.0))
    assert not collect(events, 1, idle_s=0.1)


@pytest.mark.parametrize("compression", ["zlib", None])
def test_page_cut_short_waits_then_is_named(tmp_path, frames, collect, compression):
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as tif:
        for n in range(3):
            tif.write(frames(n), metadata=None, contiguous=False, compression=compression)
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    events = GrowingSource(path, poll_s=0.01, patience_s=60).iter_events(False)
    check(collect(events, 9, idle_s=0.2), frames, [0, 1])
    path.write_bytes(whole)
    check(collect(events, 1), frames, [2])
    path.write_bytes(whole[:-60])
    events = GrowingSource(path, **QUICK).iter_events(False)
    assert [type(event) for event in collect(events, 9, idle_s=0.5)] == [Arrival, Arrival, Skipped]


@pytest.mark.parametrize("order", ["<", ">"])
def test_growing_mrc(tmp_path, frames, collect, order):
    rows, cols = frames(0).shape
    header = bytearray(1024 + 80)
    struct.pack_into(f"{order}10i", header, 0, cols, rows, 0, 6, 0, 0, 0, cols, rows, 1)
    struct.pack_into(f"{order}3f", header, 40, cols * 20.0, rows * 30.0, 1.0)
    struct.pack_into(f"{order}i", header, 92, 80)
    header[208:214] = b"MAP " + (b"\x44\x44" if order == "<" else b"\x11\x11")
    path = tmp_path / "movie.mrc"
    path.write_bytes(header)
    events = GrowingSource(path, **QUICK).iter_events(False)
    with open(path, "ab") as file:
        for n in range(3):
            data = frames(n).astype(f"{order}u2").tobytes()
            file.write(data[:500])
            file.flush()
            assert not collect(events, 1, idle_s=0.05)
            file.write(data[500:])
            file.flush()
            (event,) = collect(events, 1)
            check([event], frames, [n])
            assert event.image.pixel_size_nm == pytest.approx((3.0, 2.0))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("chunk", [1, 3])
def test_zarr_that_is_appended_to(tmp_path, frames, collect, zarr_format, chunk):
    path = tmp_path / "movie.zarr"
    array = zarr.create_array(
        path, shape=(0, 40, 56), chunks=(chunk, 24, 56), dtype="u2", zarr_format=zarr_format, fill_value=0
    )
    events = GrowingSource(path, **QUICK).iter_events(False)
    assert not collect(events, 1, idle_s=0.05)
    for n in range(7):
        array.append(frames(n)[None])
        check(collect(events, 1), frames, [n])


@pytest.mark.parametrize("chunk", [1, 3])
def test_zarr_of_full_length_that_fills(tmp_path, frames, collect, chunk):
    path = tmp_path / "movie.ome.zarr"
    write(Image(np.zeros((9, 40, 56), np.uint16), (2.0, 3.0), frame_time_s=0.5, name="m"), path)
    meta = path / "0"
    array = zarr.create_array(
        meta, shape=(9, 40, 56), chunks=(chunk, 40, 56), dtype="u2", zarr_format=2, fill_value=0,
        overwrite=True, chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip
    events = GrowingSource(path, **QUICK).iter_events(False)
    assert not collect(events, 1, idle_s=0.05)
    for n in range(3):
        array[n] = frames(n)
        (event,) = collect(events, 1)
        check([event], frames, [n])
        assert event.image.pixel_size_nm == (2.0, 3.0)
        assert event.recorded_s == 0.5 * n
    array[4] = frames(4)  # frame 3 is all 0, of which Zarr stores nothing
    three, four = collect(events, 2)
    assert not three.image.data.any()
    check([four], frames, [4])


def test_newest_of_a_growing_file(tmp_path, frames, collect):
    path = tmp_path / "movie.zarr"
    array = zarr.create_array(path, shape=(4, 40, 56), chunks=(1, 40, 56), dtype="u2")
    array[:] = np.stack([frames(n) for n in range(4)])
    events = GrowingSource(path, **QUICK).iter_events(True)
    check(collect(events, 1), frames, [3])
    array.append(np.stack([frames(n) for n in range(4, 9)]))
    passed, newest = collect(events, 1)
    assert passed == Passed(4)
    check([newest], frames, [8])


def test_file_begun_anew(tmp_path, frames, collect):
    path = tmp_path / "movie.tif"
    page = {"compression": "zlib", "metadata": None, "photometric": "minisblack"}
    tifffile.imwrite(path, np.stack([frames(n) for n in range(4)]), **page)
    newest, all_frames = (GrowingSource(path, **QUICK).iter_events(only) for only in (True, False))
    check(collect(newest, 9, idle_s=0.1)[-1:], frames, [3])
    check(collect(all_frames, 4), frames, range(4))
    tifffile.imwrite(tmp_path / "other.tif", np.stack([frames(n) for n in (7, 8)]), **page)
    (tmp_path / "other.tif").replace(path)
    event = collect(newest, 9, idle_s=0.1)[-1]
    np.testing.assert_array_equal(event.image.data, frames(8))
    with pytest.raises(ValueError, match="begun anew"):
        collect(all_frames, 9)


def test_kinds_of_sources(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    assert isinstance(open_source(tmp_path / "a.zarr"), GrowingSource)
    assert isinstance(open_source(tmp_path / "later.mrc"), GrowingSource)
    assert open_source(tmp_path).name == tmp_path.name
    with pytest.raises(ValueError, match="cannot follow"):
        open_source(tmp_path / "movie.dm4")
