"""What an output may replace, a disk that is full, and the lock."""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import OutputLock, open_writer, read, write

ENDINGS = [".tif", ".ome.tif", ".zarr"]
JOB = {"model": "abc", "tile": [256, 256]}


def leftovers(folder, name):
    return sorted(p.name for p in folder.iterdir() if p.name != name)


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


def test_a_lock_is_held_by_one_writer_and_leaves_no_file(tmp_path):
    path = tmp_path / "a.zarr"
    with closing(OutputLock(path)) as lock:
        assert (tmp_path / "a.zarr.lock").exists()
        with pytest.raises(ValueError, match=r"a\.zarr: another training is writing it; wait for it"):
            OutputLock(path, writer="training")
        assert lock.is_held
    assert not lock.is_held
    lock.close()
    assert leftovers(tmp_path, "") == []
    OutputLock(path).close()


def test_a_lock_is_released_when_its_file_is_gone(tmp_path, monkeypatch):
    """Released first, the lock file might be another writer's by the time it is removed."""
    lock = OutputLock(tmp_path / "a.tif")
    held = []
    remove = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path: held.append(lock.is_held) or remove(path))
    lock.close()
    assert held == [True]
