import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import open_writer, read, write

ENDINGS = [".tif", ".ome.tif", ".zarr"]
JOB = {"model": "abc", "tile": [256, 256]}


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


def test_big_tiff(tmp_path):
    like = Image(np.zeros((1500, 1000), np.float32))
    with open_writer(tmp_path / "a.tif", like, 800, job={}) as writer:
        writer.write(799, np.full((1, 1500, 1000), 7, np.float32))
        # what is not written is a hole in the file: no disk is filled here
        with tifffile.TiffFile(tmp_path / "a.tif.partial") as tif:
            assert tif.is_bigtiff
            assert tif.series[0].shape == (800, 1500, 1000)
            assert tif.pages[799].asarray()[3, 4] == 7
        writer.discard()
    assert leftovers(tmp_path, "") == []


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


@pytest.mark.parametrize("ending", ENDINGS)
def test_existing_output_is_kept_until_the_new_one_is_complete(tmp_path, movie, ending):
    path = tmp_path / f"a{ending}"
    write(movie, path)
    with pytest.raises(ValueError, match="exists already"):
        write(movie, path)
    with pytest.raises(ValueError, match="exists already"):
        open_writer(path, movie, 5, job=JOB, resume=True)
    with open_writer(path, movie, 5, job=JOB, overwrite=True) as writer:
        writer.write(0, movie.data + 1)
        np.testing.assert_array_equal(read(path).data, movie.data)
        writer.finish()
    np.testing.assert_array_equal(read(path).data, movie.data + 1)
    assert leftovers(tmp_path, path.name) == []


def precious(folder):
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("precious", encoding="utf-8")
    return folder / "notes.txt"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_folder_that_is_no_output_is_never_replaced(tmp_path, movie, ending):
    path = tmp_path / f"keep{ending}"
    kept = precious(path)
    for attempt in (
        lambda: write(movie, path, overwrite=True),
        lambda: open_writer(path, movie, 5, job=JOB, overwrite=True),
    ):
        with pytest.raises(ValueError, match=r"keep\S*: is a folder.*choose another name"):
            attempt()
    assert kept.read_text(encoding="utf-8") == "precious"
    assert leftovers(tmp_path, path.name) == []


def test_a_zarr_is_not_replaced_by_a_tiff(tmp_path, movie):
    path = write(movie, tmp_path / "a.zarr").rename(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="is a folder"):
        write(movie, path, overwrite=True)
    np.testing.assert_array_equal(read(path).data, movie.data)


@pytest.mark.parametrize("name", ["notes.txt", "raw"])
def test_a_zarr_that_holds_more_is_not_replaced(tmp_path, movie, name):
    path = write(movie, tmp_path / "a.zarr")
    kept = precious(path / "raw")
    if name == "notes.txt":
        kept = kept.rename(path / name)
        (path / "raw").rmdir()
    with pytest.raises(ValueError, match=rf"a\.zarr: holds {name} besides a Zarr store"):
        write(movie, path, overwrite=True)
    assert kept.read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("group", [True, False])
def test_zarrs_of_others_are_replaced(tmp_path, movie, version, group):
    import zarr

    path = tmp_path / "a.zarr"
    if group:
        made = zarr.open_group(path, mode="w", zarr_format=version)
        made.create_array("labels/s0", data=np.ones((3, 4)))
        made.create_array("s0", data=np.ones((3, 4)))
    else:
        zarr.create_array(path, data=np.ones((3, 4)), zarr_format=version)
    (path / ".DS_Store").touch()
    write(movie, path, overwrite=True)
    np.testing.assert_array_equal(read(path).data, movie.data)
    assert leftovers(tmp_path, path.name) == []


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("overwrite", [True, False])
def test_what_comes_to_lie_there_meanwhile_is_kept(tmp_path, movie, ending, overwrite):
    path = tmp_path / f"a{ending}"
    with open_writer(path, movie, 5, job=JOB, overwrite=overwrite) as writer:
        writer.write(0, movie.data)
        kept = precious(path)
        with pytest.raises(ValueError, match="is a folder" if overwrite else "exists already"):
            writer.finish()
    assert kept.exists()
    kept.unlink()
    path.rmdir()
    with open_writer(path, movie, 5, job=JOB, resume=True) as writer:
        writer.finish()
    np.testing.assert_array_equal(read(path).data, movie.data)


def test_an_old_zarr_stays_when_the_new_one_cannot_take_its_place(tmp_path, movie, monkeypatch):
    path = write(movie, tmp_path / "a.zarr")
    rename = os.replace

    def fail(source, target):
        if str(source).endswith("a.zarr.partial"):
            raise PermissionError(13, "held open")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with open_writer(path, movie, 5, job=JOB, overwrite=True) as writer:
        writer.write(0, movie.data + 1)
        with pytest.raises(PermissionError):
            writer.finish()
        np.testing.assert_array_equal(read(path).data, movie.data)
        writer.discard()
    assert leftovers(tmp_path, path.name) == []


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path, movie):
    target = write(movie, tmp_path / "target.zarr")
    path = tmp_path / "a.zarr"
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    write(movie.with_data(movie.data + 1), path, overwrite=True)
    np.testing.assert_array_equal(read(path).data, movie.data + 1)
    np.testing.assert_array_equal(read(target).data, movie.data)
    assert leftovers(tmp_path, path.name) == ["target.zarr"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_numbers_that_json_lacks_become_null(tmp_path, movie, ending):
    def refuse(constant):
        raise AssertionError(constant)

    nan = float("nan")
    image = movie.with_provenance(loss=nan, range=[-np.inf, 1.5], fit={"r2": np.float64(nan)})
    path = write(image, tmp_path / f"a{ending}")
    if ending == ".zarr":
        json.loads((path / ".zattrs").read_text(encoding="utf-8"), parse_constant=refuse)
    else:
        assert "NaN" not in tifffile.tiffcomment(path) and "Infinity" not in tifffile.tiffcomment(path)
    back = read(path).provenance
    assert (back["loss"], back["range"], back["fit"]) == (None, [None, 1.5], {"r2": None})
    # the same job, although NaN differs from itself
    for resume in (False, True):
        with open_writer(tmp_path / f"b{ending}", image, 5, job={"dose": nan}, resume=resume) as writer:
            assert writer.done == ({0} if resume else set())
            writer.write(0, movie.data[:1])
    journal = (tmp_path / f"b{ending}.partial.journal").read_text(encoding="utf-8").splitlines()[0]
    json.loads(journal, parse_constant=refuse)


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


@pytest.mark.parametrize("ending", ENDINGS)
def test_frames_in_any_order_then_resume(tmp_path, movie, ending):
    path = tmp_path / f"a{ending}"
    with pytest.raises(KeyboardInterrupt), open_writer(path, movie, 5, job=JOB) as writer:
        writer.write(3, movie.data[3:])
        writer.write(1, movie.data[1:2])
        raise KeyboardInterrupt
    assert not path.exists()
    like = movie.with_provenance(device="cpu µ", long="x" * 5000)
    with open_writer(path, like, 5, job=JOB, resume=True) as writer:
        assert writer.done == {1, 3, 4}
        with pytest.raises(ValueError, match="2 of 5 frames missing, first 0"):
            writer.finish()
        writer.write(0, movie.data[:1])
        writer.write(2, movie.data[2:3])
        assert writer.finish() == path
    back = read(path)
    np.testing.assert_array_equal(back.data, movie.data)
    assert back.provenance["device"] == "cpu µ"
    assert leftovers(tmp_path, path.name) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_resume_of_another_job_is_refused(tmp_path, movie, ending):
    path = tmp_path / f"a{ending}"
    with open_writer(path, movie, 5, job=JOB) as writer:
        writer.write(0, movie.data[:2])
    with pytest.raises(ValueError, match="model was 'abc', is 'xyz'"):
        open_writer(path, movie, 5, job={**JOB, "model": "xyz"}, resume=True)
    with pytest.raises(ValueError, match=r"shape was \[5, 7, 12\], is \[4, 7, 12\]"):
        open_writer(path, movie, 4, job=JOB, resume=True)
    with open_writer(path, movie, 5, job=JOB) as writer:  # without resume: start over
        assert writer.done == frozenset()
        writer.discard()
    with open_writer(path, movie, 5, job=JOB, resume=True) as writer:  # nothing to resume
        assert writer.done == frozenset()
        writer.discard()
    assert leftovers(tmp_path, "") == []


def test_a_torn_journal_line_does_not_count(tmp_path, movie):
    path = tmp_path / "a.tif"
    journal = tmp_path / "a.tif.partial.journal"
    with open_writer(path, movie, 5, job=JOB) as writer:
        writer.write(2, movie.data[2:4])
    whole = journal.read_bytes()
    journal.write_bytes(whole + b"4")
    with open_writer(path, movie, 5, job=JOB, resume=True) as writer:
        assert writer.done == {2, 3}
        writer.write(1, movie.data[1:2])
    assert journal.read_bytes() == whole + b"1 2\n"
    journal.write_bytes(whole[:10])  # killed while the first line was written
    with open_writer(path, movie, 5, job=JOB, resume=True) as writer:
        assert writer.done == frozenset()
        writer.discard()


def test_frames_that_do_not_fit(tmp_path, movie):
    with open_writer(tmp_path / "a.tif", movie, 5, job=JOB) as writer:
        for start, frames in ((0, movie.data.swapaxes(1, 2)), (3, movie.data[:3]), (-1, movie.data[:1])):
            with pytest.raises(ValueError, match="do not fit"):
                writer.write(start, frames)
        writer.discard()
    with pytest.raises(ValueError, match="closed"):
        writer.write(0, movie.data[:1])


@pytest.mark.parametrize("ending", ENDINGS)
def test_single_frame(tmp_path, movie, ending):
    path = tmp_path / f"a{ending}"
    with open_writer(path, movie, None, job=JOB) as writer:
        writer.write(0, movie.data[2:3])
        writer.finish()
    back = read(path)
    assert back.data.shape == (7, 12)
    np.testing.assert_array_equal(back.data, movie.data[2])


def test_the_array_fills_while_it_is_looked_at(tmp_path, movie):
    with open_writer(tmp_path / "a.zarr", movie, 5, job=JOB) as writer:
        view = writer.data
        assert (view.shape, view.dtype) == ((5, 7, 12), np.float32)
        writer.write(2, movie.data[2:3])
        np.testing.assert_array_equal(view[2], movie.data[2])
        assert not np.asarray(view[1]).any()
        writer.write(0, movie.data)
        writer.finish()
    np.testing.assert_array_equal(view, movie.data)
    with open_writer(tmp_path / "a.tif", movie, 5, job=JOB) as writer:
        assert writer.data is None
        writer.discard()


def test_another_thread_may_write(tmp_path, movie):
    with open_writer(tmp_path / "a.tif", movie, 5, job=JOB) as writer:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(writer.write, 0, movie.data).result()
            pool.submit(writer.finish).result()
    np.testing.assert_array_equal(read(tmp_path / "a.tif").data, movie.data)


@pytest.mark.parametrize("ending", ENDINGS)
def test_two_writers(tmp_path, movie, ending):
    path = tmp_path / f"a{ending}"
    with open_writer(path, movie, 5, job=JOB) as writer:
        for resume in (False, True):
            with pytest.raises(ValueError, match="another run is writing it"):
                open_writer(path, movie, 5, job=JOB, resume=resume, overwrite=True)
        writer.write(0, movie.data)
        writer.finish()
    np.testing.assert_array_equal(read(path).data, movie.data)


RUN = """
import sys, numpy as np
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import open_writer
rows, cols = 300, 411
writer = open_writer(sys.argv[1], Image(np.zeros((rows, cols), "f4"), (0.3, 0.2)), 4000, job={"seed": 1})
for i in range(4000):
    writer.write(i, np.full((1, rows, cols), i + 1, "f4"))
    print(i, flush=True)
"""


@pytest.mark.parametrize("ending", [".tif", ".zarr"])
@pytest.mark.parametrize("after", [1, 23])
def test_resume_after_a_kill(tmp_path, ending, after):
    path = tmp_path / f"a{ending}"
    with subprocess.Popen([sys.executable, "-c", RUN, str(path)], stdout=subprocess.PIPE, text=True) as run:
        told = [int(run.stdout.readline()) for _ in range(after)]
        with pytest.raises(ValueError, match="another run is writing it"):
            open_writer(path, Image(np.zeros((300, 411))), 4000, job={"seed": 1}, resume=True)
        os.kill(run.pid, signal.SIGKILL)
        told += [int(line) for line in run.stdout if line.endswith("\n")]
    assert not path.exists()
    like = Image(np.zeros((300, 411), "f4"), (0.3, 0.2))
    with open_writer(path, like, 4000, job={"seed": 1}, resume=True) as writer:
        assert writer.done >= set(told)
        done = sorted(writer.done)
        assert len(done) < 4000
    # what is recorded as done is in the file
    journal = json.loads(
        (tmp_path / f"a{ending}.partial.journal").read_text(encoding="utf-8").splitlines()[0]
    )
    if ending == ".zarr":
        stored = read_partial_zarr(path)
    else:
        offset = journal["state"]["offset"]
        stored = np.memmap(f"{path}.partial", "<f4", "r", offset, (4000, 300, 411))
    for i in done:
        assert (np.asarray(stored[i]) == i + 1).all()


def read_partial_zarr(path):
    import zarr

    return zarr.open_array(f"{path}.partial/0", mode="r")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_disk_too_small_is_told_before(small_disk, movie):
    like = Image(np.zeros((500, 301)))
    for ending, n_frames in ((".tif", 5), (".zarr", 20)):
        with pytest.raises(
            OSError, match=r"needs 0\.003\d* GB, the disk has 0\.002\d* GB free; make room"
        ) as error:
            open_writer(small_disk / f"a{ending}", like, n_frames, job=JOB)
        assert error.value.errno == errno.ENOSPC
    assert leftovers(small_disk, "") == []


def disk_with(monkeypatch, free):
    usage = shutil.disk_usage(os.curdir)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))


@pytest.mark.parametrize("told", ["blocks", "size"])
def test_a_partial_with_its_whole_place_goes_on_with_a_full_disk(tmp_path, monkeypatch, told):
    frames = np.random.default_rng(0).random((4, 300, 411), dtype=np.float32)
    path, partial = tmp_path / "a.tif", tmp_path / "a.tif.partial"
    with open_writer(path, Image(frames), 4, job=JOB) as writer:
        writer.write(1, frames[1:2])
    disk_with(monkeypatch, 50_000)
    if told == "blocks" and os.stat(partial).st_blocks * 512 < partial.stat().st_size:
        for resume in (True, False):  # holes: the place is still needed
            with pytest.raises(OSError, match="make room"):
                open_writer(path, Image(frames), 4, job=JOB, resume=resume)
        assert partial.exists()
    if told == "blocks":
        partial.write_bytes(partial.read_bytes())
    else:  # as on Windows, where files without holes are all there are
        stat = os.lstat
        size = SimpleNamespace(st_size=partial.stat().st_size)
        monkeypatch.setattr(os, "lstat", lambda path: size if path == partial else stat(path))
    with open_writer(path, Image(frames), 4, job=JOB, resume=True) as writer:
        assert writer.done == {1}
    with open_writer(path, Image(frames), 4, job={"another": 1}) as writer:
        assert writer.done == frozenset()


def test_a_stale_zarr_makes_room_for_the_new_one(tmp_path, monkeypatch):
    frames = np.random.default_rng(0).random((4, 300, 411), dtype=np.float32)
    path = tmp_path / "a.zarr"
    with open_writer(path, Image(frames), 4, job=JOB) as writer:
        writer.write(0, frames[:3])
    disk_with(monkeypatch, 50_000)
    # what is done is not room for the rest
    with pytest.raises(OSError, match="make room"):
        open_writer(path, Image(frames), 4, job=JOB, resume=True)
    with open_writer(path, Image(frames), 4, job=JOB) as writer:
        assert writer.done == frozenset()


def test_a_full_disk_is_told_in_a_sentence(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    with open_writer(path, Image(np.zeros((500, 301))), 4, job=JOB) as writer:

        def full(start, frames):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(writer._store, "write", full)
        with pytest.raises(OSError, match="disk is full") as error:
            writer.write(0, np.zeros((1, 500, 301)))
        writer.discard()
    assert error.value.errno == errno.ENOSPC
    assert error.value.strerror == f"{path}: the disk is full after 0 of 4 frames; make room and resume"
    disk_with(monkeypatch, 1e6)
    with pytest.raises(OSError, match="make room") as error:
        open_writer(path, Image(np.zeros((500, 301))), 4, job=JOB)
    assert error.value.errno == errno.ENOSPC
    assert error.value.strerror == (
        f"{path}: needs 0.00241 GB, the disk has 0.001 GB free; make room or write to another disk"
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_disk_full_on_the_way(small_disk, ending):
    path = small_disk / f"a{ending}"
    frames = np.random.default_rng(0).random((3, 400, 350), dtype=np.float32)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match=r"the disk is full after \d of 3 frames; make room and resume"):
        with open_writer(path, Image(frames[0]), 3, job=JOB) as writer:
            writer.write(0, frames[:1])
            filler.write_bytes(b"x" * 900_000)
            for i in (1, 2):
                writer.write(i, frames[i : i + 1])
    filler.unlink()
    assert not path.exists()
    with open_writer(path, Image(frames[0]), 3, job=JOB, resume=True) as writer:
        assert 0 in writer.done and 2 not in writer.done
        for i in {0, 1, 2} - writer.done:
            writer.write(i, frames[i : i + 1])
        writer.finish()
    np.testing.assert_array_equal(read(path).data, frames)


@pytest.mark.skipif(sys.platform == "win32", reason="limits a process as POSIX does")
def test_file_size_limit(tmp_path):
    # the same path as a full disk, where none can be mounted
    code = RUN.replace(
        "rows, cols",
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)); rows, cols",
        1,
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.tif")], capture_output=True, text=True, check=False
    )
    assert "OSError" in done.stderr.splitlines()[-1]
    assert "the disk is full after 0 of 4000 frames" in done.stderr
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
