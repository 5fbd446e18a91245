"""Files of known layout, made here: byte order, laziness, and what real files do not show."""

import builtins
import struct

import numpy as np
import pytest

from napari_lowdose_tem.io import read

STACK = np.arange(4 * 6 * 11, dtype=np.float32).reshape(4, 6, 11)


def mrc(path, stack, mode, size_nm=(0.3, 0.2), order="<", n_frames=None):
    frames, rows, cols = stack.shape
    frames = n_frames or frames
    header = bytearray(1024)
    struct.pack_into(f"{order}10i", header, 0, cols, rows, frames, mode, 0, 0, 0, cols, rows, frames)
    lengths = cols * size_nm[1] * 10, rows * size_nm[0] * 10, 1.0
    struct.pack_into(f"{order}6f", header, 40, *lengths, 90, 90, 90)
    header[208:216] = b"MAP " + (b"\x11\x11\0\0" if order == ">" else b"DD\0\0")
    with open(path, "wb") as file:
        file.write(header)
        file.write(stack.astype(stack.dtype.newbyteorder(order)).tobytes())
        file.truncate(1024 + frames * rows * cols * stack.itemsize)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("mode", "dtype"), [(1, "i2"), (2, "f4"), (6, "u2")])
def test_mrc(tmp_path, order, mode, dtype):
    stack = STACK.astype(dtype)
    image = read(mrc(tmp_path / "movie.mrc", stack, mode, order=order))
    assert image.data.dtype == np.dtype(dtype)
    assert image.pixel_size_nm == pytest.approx((0.3, 0.2))
    np.testing.assert_array_equal(image.data, stack)


def test_mrc_default_sampling_is_unknown(tmp_path):
    image = read(mrc(tmp_path / "a.mrc", STACK, 2, size_nm=(0.1, 0.1)))
    assert image.pixel_size_nm is None
    assert "unset" in image.provenance["pixel_size_note"]
    assert read(mrc(tmp_path / "a.mrc", STACK, 2, size_nm=(0, 0))).pixel_size_nm is None


def test_opening_twenty_gigabytes_reads_next_to_nothing(tmp_path):
    frame = np.arange(512 * 500, dtype=np.uint16).reshape(1, 512, 500)
    path = mrc(tmp_path / "movie.mrc", frame, 6, n_frames=40_000)
    assert path.stat().st_size > 20e9
    read(path)  # what importing reads does not count

    def bytes_read():
        with open("/proc/self/io", "rb") as file:
            return int(file.readline().split()[1])

    before = bytes_read()
    image = read(path)
    assert bytes_read() - before < 100_000
    assert image.data.numblocks == (1000, 1, 1)
    assert image.data.chunks[0][0] * frame.nbytes < 64e6
    before = bytes_read()
    np.testing.assert_array_equal(image.frames(0, 1), frame)
    assert image.frames(39_999, 40_000).max() == 0
    assert bytes_read() - before < 3 * frame.nbytes


def test_a_stack_is_opened_once(tmp_path, monkeypatch):
    image = read(mrc(tmp_path / "a.mrc", STACK, 2))
    opened = []
    original = builtins.open
    monkeypatch.setattr(builtins, "open", lambda *a, **k: opened.append(a[0]) or original(*a, **k))
    for i in range(4):
        image.frames(i, i + 1)
    assert len(opened) == 1


def test_a_file_cut_later_names_the_frame(tmp_path):
    path = mrc(tmp_path / "a.mrc", STACK, 2)
    image = read(path)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1)
    np.testing.assert_array_equal(image.frames(2, 3), STACK[2:3])
    with pytest.raises(ValueError, match=r"a\.mrc: frame 3 cannot be read"):
        image.frames(3, 4)
