"""Files of known layout, made here: laziness, byte order, and what real files do not show."""

import builtins
import pickle
import struct

import h5py
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


def ser(path, stack, kind, size_m=(3e-10, 2e-10), version=0x220, shape=()):
    """Write what Boothroyd's description of the format says."""
    frames, rows, cols = stack.shape
    place = "Q" if version >= 0x220 else "I"
    axes = b"".join(struct.pack("<iddiii", n, 0, 1, 0, 0, 0) for n in shape or (frames,))
    start = 22 + struct.calcsize(f"<{place}") + 4 + len(axes)
    head = struct.pack("<HHHiiii", 0x4949, 0x0197, version, 0x4122, 0x4152, frames, frames)
    head += struct.pack(f"<{place}i", start, len(shape or (frames,))) + axes
    step = 50 + stack[0].nbytes + 8
    data = start + 2 * frames * struct.calcsize(f"<{place}")
    offsets = [data + i * step for i in range(frames)]
    tags = [offset + step - 8 for offset in offsets]
    with open(path, "wb") as file:
        file.write(head + struct.pack(f"<{2 * frames}{place}", *offsets, *tags))
        for i, frame in enumerate(stack):
            file.write(struct.pack("<ddiddiHii", 0, size_m[1], 0, 0, size_m[0], 0, kind, cols, rows))
            file.write(frame[::-1].tobytes() + struct.pack("<HHi", 0x4152, 0, 1456073429 + i))
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


@pytest.mark.parametrize("version", [0x210, 0x220])
@pytest.mark.parametrize(("kind", "dtype"), [(1, "u1"), (2, "u2"), (6, "i4"), (7, "f4")])
def test_ser(tmp_path, version, kind, dtype):
    stack = STACK.astype(dtype)
    path = ser(tmp_path / "run_1.ser", stack, kind, version=version)
    image = read(path)
    assert image.data.dtype == np.dtype(dtype)
    assert image.pixel_size_nm == pytest.approx((0.3, 0.2))
    np.testing.assert_array_equal(image.data, stack)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image.data))[2], stack[2])

    from rsciio.tia import file_reader

    np.testing.assert_array_equal(file_reader(str(path))[0]["data"], stack)


def test_emi_leads_to_its_series(tmp_path):
    ser(tmp_path / "run [1]_1.ser", STACK, 7)
    ser(tmp_path / "run [1]_2.ser", STACK[:1], 7)
    emi = tmp_path / "run [1].emi"
    emi.write_bytes(b"JK <Label>Mode</Label>\n<Value>TEM nP SA Zoom Diffraction</Value> \xff")
    image = read(emi)
    np.testing.assert_array_equal(image.data, STACK)
    assert image.provenance["series"] == "run [1]_1.ser"
    assert image.provenance["other_images"] == ["run [1]_2.ser"]
    assert image.pixel_size_nm is None
    assert "reciprocal" in image.provenance["pixel_size_note"]


def test_emi_alone(tmp_path):
    (tmp_path / "run.emi").write_bytes(b"JK")
    with pytest.raises(ValueError, match=r"run_1\.ser"):
        read(tmp_path / "run.emi")


def test_ser_refuses(tmp_path):
    with pytest.raises(ValueError, match="a map of 2 by 2 frames"):
        read(ser(tmp_path / "a.ser", STACK, 7, shape=(2, 2)))
    with pytest.raises(ValueError, match=r"complex64.*no counts"):
        read(ser(tmp_path / "a.ser", STACK.astype(np.complex64), 9))
    (tmp_path / "b.ser").write_bytes(b"II\x97\x01" + b"\0" * 200)
    with pytest.raises(ValueError, match=r"b\.ser: holds spectra"):
        read(tmp_path / "b.ser")


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
