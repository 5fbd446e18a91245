"""Outputs that others read while they grow."""

import json
import threading

import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read
from napari_lowdose_tem.live.save import open_output

N_OUTPUTS, N_FRAMES = 12, 3


def fill(path, frames, resume=False, n=N_FRAMES):
    output = open_output(path, {}, resume)
    for number in range(output.count, n):
        output.write(f"frame {number}", Image(frames(number).astype(np.float32)), None, 0.0)
    output.close()


def test_a_zarr_can_be_read_from_the_moment_it_is_there(tmp_path, frames):
    paths = [tmp_path / f"{i}.ome.zarr" for i in range(N_OUTPUTS)]
    is_written, seen = threading.Event(), []

    def look():
        while not is_written.is_set():
            seen.extend(read(path).n_frames if path.exists() else None for path in paths)

    watcher = threading.Thread(target=look)
    watcher.start()
    for path in paths:
        fill(path, frames)
    is_written.set()
    watcher.join()  # an error of the watcher fails the test
    assert {1, 2, 3} >= set(seen) - {None} > set()
    assert not list(tmp_path.glob("*partial*"))


def test_a_zarr_stopped_before_its_first_line_goes_on(tmp_path, frames):
    path = tmp_path / "a.ome.zarr"
    fill(path, frames, n=1)
    table = path.with_name(f"{path.name}.frames.csv")
    table.write_text(table.read_text().splitlines(keepends=True)[0])
    fill(path, frames, resume=True)
    np.testing.assert_array_equal(read(path).data, [frames(n) for n in range(N_FRAMES)])


def test_a_zarr_left_half_made_is_made_again(tmp_path, frames):
    path = tmp_path / "a.ome.zarr"
    half = path.with_name(f"{path.name}.partial")
    (half / "0").mkdir(parents=True)
    (half / "0" / ".zarray").write_text("{")
    fill(path, frames)
    assert read(path).n_frames == N_FRAMES
    assert not half.exists()


def test_a_zarr_without_frames_is_told(tmp_path, frames):
    path = tmp_path / "a.ome.zarr"
    fill(path, frames)
    meta = path / "0" / ".zarray"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"shape": [0, 40, 56]}))
    with pytest.raises(ValueError, match="holds no frame yet"):
        read(path)
