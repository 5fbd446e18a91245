import pickle

import numpy as np
import pytest
import tifffile

from napari_lowdose_tem.io import can_read, natural_key, read

FRAMES = np.random.default_rng(1).integers(0, 1000, (12, 10, 17), dtype=np.uint16)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "run 3"
    path.mkdir()
    for i, frame in enumerate(FRAMES):
        # 2.5 pixels per nm along x, 2 along y
        tifffile.imwrite(
            path / f"frame_{i + 1}.tif", frame, imagej=True, resolution=(2.5, 2), metadata={"unit": "nm"}
        )
    (path / "Thumbs.db").write_bytes(b"x")
    (path / "notes.txt").write_text("beam 1 nA", encoding="utf-8")
    return path


def test_natural_order_and_foreign_files(folder):
    image = read(folder)
    assert can_read(folder)
    assert image.is_lazy
    assert image.pixel_size_nm == pytest.approx((0.5, 0.4))
    np.testing.assert_array_equal(image.data, FRAMES)
    assert image.name == "run 3"
    assert image.provenance["ignored_files"] == 2
    assert (image.provenance["first_frame"], image.provenance["last_frame"]) == (
        "frame_1.tif",
        "frame_12.tif",
    )
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image.data))[7], FRAMES[7])


def test_digits_of_other_kinds_are_text(tmp_path):
    names = ["a5²6.tif", "a5²10.tif", "a10.tif", "a٣.tif", "²7.tif"]
    assert [p.name for p in sorted((tmp_path / name for name in reversed(names)), key=natural_key)] == names


@pytest.mark.parametrize(
    ("odd", "what"),
    [(np.zeros((17, 10), np.uint16), "shape"), (np.zeros((10, 17), np.uint8), "type"), (FRAMES[:2], "shape")],
)
def test_the_odd_frame_is_named(folder, odd, what):
    tifffile.imwrite(folder / "frame_5.tif", odd, photometric="minisblack", metadata=None)
    with pytest.raises(ValueError, match=rf"frame_5\.tif: {what}.*move it"):
        read(folder)


def test_another_magnification_is_named(folder):
    tifffile.imwrite(
        folder / "frame_5.tif",
        FRAMES[4],
        imagej=True,
        resolution=(5, 4),
        metadata={"unit": "nm", "Info": "x"},
    )
    with pytest.raises(ValueError, match=r"frame_5\.tif: pixel size"):
        read(folder)


def test_a_frame_that_changes_later_is_named(folder):
    image = read(folder)
    tifffile.imwrite(folder / "frame_5.tif", np.zeros((17, 10), np.uint16))
    with pytest.raises(ValueError, match=r"frame_5\.tif: shape"):
        image.frames(4, 5)


def test_mixed_kinds(folder):
    (folder / "overview.dm4").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"1 \.dm3, 12 \.tif; keep one kind"):
        read(folder)


def test_no_images(tmp_path):
    (tmp_path / "readme.txt").touch()
    assert not can_read(tmp_path)
    with pytest.raises(ValueError, match="no readable image among 1 files"):
        read(tmp_path)
