import struct

import numpy as np
import pytest
import tifffile

from napari_lowdose_tem.io import check_growing, open_growing, read


def test_last_page_counts_when_nothing_changes_any_more(tmp_path, frames):
    path = tmp_path / "movie.tif"
    data = np.stack([frames(n) for n in range(3)])
    tifffile.imwrite(path, data, metadata=None, photometric="minisblack", compression="zlib")
    growing = open_growing(path)
    assert [growing.count(), growing.count()] == [2, 3]
    with open(path, "ab") as file:
        file.write(b"more")
    assert [growing.count(), growing.count()] == [2, 3]
    growing.close()


@pytest.mark.parametrize(("mode", "dtype"), [(0, "u1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("n_written", [0, 3])
def test_an_mrc_is_followed_as_it_is_read(tmp_path, mode, dtype, order, n_written):
    stack = (np.arange(3 * 4 * 5).reshape(3, 4, 5) * 4).astype(f"{order}{dtype}")
    header = bytearray(1024)
    struct.pack_into(f"{order}10i", header, 0, 5, 4, 3, mode, 0, 0, 0, 5, 4, 3)
    struct.pack_into(f"{order}6f", header, 40, 5 * 2.0, 4 * 3.0, 1.0, 90, 90, 90)
    header[208:214] = b"MAP " + (b"\x11\x11" if order == ">" else b"DD")
    path = tmp_path / "movie.mrc"
    path.write_bytes(header + stack.tobytes())
    image = read(path)
    struct.pack_into(f"{order}i", header, 8, n_written)  # many programs write the number of frames last
    path.write_bytes(header + stack.tobytes())
    growing = open_growing(path)
    assert growing.count() == 3
    for i in range(3):
        frame = growing.frame(i)
        np.testing.assert_array_equal(frame.data, image.frames(i, i + 1)[0])
        assert frame.data.dtype == image.data.dtype == np.dtype(dtype)
        assert frame.pixel_size_nm == image.pixel_size_nm == pytest.approx((0.3, 0.2))
        assert dict(frame.provenance) == dict(image.provenance)
        assert frame.name == image.name == "movie"
    with pytest.raises(ValueError, match=r"movie\.mrc: frame 3 cannot be read \(it is cut short\)"):
        growing.frame(3)


def test_an_empty_mrc_header_waits(tmp_path):
    (tmp_path / "a.mrc").write_bytes(bytes(1024))
    with pytest.raises(ValueError, match=r"a\.mrc"):
        open_growing(tmp_path / "a.mrc")


def test_colour_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((9, 14, 3), np.uint8), photometric="rgb")
    growing = open_growing(path)
    with pytest.raises(ValueError, match=r"a\.tif: a colour image"):
        growing.frame(growing.count() and 0)
    growing.close()


@pytest.mark.parametrize("name", ["a.dm4", "a.ser", "a"])
def test_kinds_that_cannot_be_followed(tmp_path, name):
    for function in (check_growing, open_growing):
        with pytest.raises(ValueError, match=r"cannot follow .* can follow \.tif"):
            function(tmp_path / name)
