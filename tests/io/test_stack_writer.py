import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import open_writer, read, write

ENDINGS = [".tif", ".ome.tif", ".zarr"]

JOB = {"model": "abc", "tile": [256, 256]}


def leftovers(folder, name):
    return sorted(p.name for p in folder.iterdir() if p.name != name)


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
