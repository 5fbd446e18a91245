"""Files of known layout, made here."""

import pickle
import struct

import numpy as np
import pytest

from napari_lowdose_tem.io import read

STACK = np.arange(4 * 6 * 11, dtype=np.float32).reshape(4, 6, 11)


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
