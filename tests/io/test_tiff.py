import pickle

import numpy as np
import pytest
import tifffile

from napari_lowdose_tem.io import read

STACK = np.arange(6 * 9 * 14, dtype=np.uint16).reshape(6, 9, 14)


def save(path, data=STACK, **options):
    options = {"photometric": "minisblack", "metadata": None, **options}
    with tifffile.TiffWriter(
        path, **{k: options.pop(k) for k in ("byteorder", "bigtiff") if k in options}
    ) as tif:
        tif.write(data, **options)
    return path


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pixels(tmp_path, compression, predictor, byteorder):
    if predictor and not compression:
        pytest.skip("no predictor without compression")
    path = save(tmp_path / "é µ.tif", compression=compression, predictor=predictor, byteorder=byteorder)
    image = read(path)
    assert image.is_lazy
    assert image.data.dtype == STACK.dtype
    assert image.data.dtype.isnative
    np.testing.assert_array_equal(image.data, STACK)
    np.testing.assert_array_equal(image.data[4, 2:5, ::3], STACK[4, 2:5, ::3])
    np.testing.assert_array_equal(image.frames(1, 3), STACK[1:3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image.data))[5], STACK[5])


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_types_stay(tmp_path, dtype):
    data = STACK[0].astype(dtype)
    image = read(save(tmp_path / "a.tif", data))
    assert image.data.dtype == np.dtype(dtype)
    assert isinstance(image.data, np.ndarray)
    np.testing.assert_array_equal(image.data, data)


def test_only_the_frames_asked_for_are_decoded(tmp_path, monkeypatch):
    image = read(save(tmp_path / "a.tif", np.zeros((2500, 9, 14), np.uint16), compression="zlib"))
    pages = []
    original = tifffile.TiffFrame.asarray
    monkeypatch.setattr(
        tifffile.TiffFrame,
        "asarray",
        lambda self, *a, **k: pages.append(self.index) or original(self, *a, **k),
    )
    assert image.data.numblocks[0] < 1000  # several frames a chunk
    assert image.frames(1234, 1236).shape == (2, 9, 14)
    assert pages == [1234, 1235]


def test_pyramid_gives_full_resolution(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(STACK, subifds=1, metadata={"axes": "TYX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.3})
        tif.write(STACK[:, ::2, ::2], subfiletype=1)
    image = read(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(image.data, STACK)
    assert image.pixel_size_nm == pytest.approx((300, 200))  # the schema's default unit is µm
    assert image.provenance["format"] == "OME-TIFF"
    assert image.name == "a"


def test_ome_units_and_time(tmp_path):
    meta = {"axes": "TYX", "PhysicalSizeX": 2.5, "PhysicalSizeXUnit": "Å", "PhysicalSizeY": 40}
    meta |= {"PhysicalSizeYUnit": "pm", "TimeIncrement": 20, "TimeIncrementUnit": "ms"}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(STACK, metadata=meta)
    image = read(tmp_path / "a.ome.tif")
    assert image.pixel_size_nm == pytest.approx((0.04, 0.25))
    assert image.frame_time_s == pytest.approx(0.02)


@pytest.mark.parametrize("unit", ["nm", "\\u00B5m", "micron", "angstrom"])
def test_imagej(tmp_path, unit):
    with tifffile.TiffWriter(tmp_path / "a.tif", imagej=True) as tif:
        meta = {"axes": "TYX", "unit": unit, "finterval": 0.5}
        tif.write(STACK, resolution=(4.0, 2.0), metadata=meta)
    image = read(tmp_path / "a.tif")
    nm = {"nm": 1, "angstrom": 0.1}.get(unit, 1000)
    assert image.pixel_size_nm == pytest.approx((0.5 * nm, 0.25 * nm))
    assert image.frame_time_s == 0.5
    np.testing.assert_array_equal(image.data, STACK)


@pytest.mark.parametrize(
    ("dpi", "unit", "size"),
    [
        ((72, 72), "INCH", None),
        ((2400, 2400), "INCH", None),
        ((1, 1), "NONE", None),
        ((0, 0), "CENTIMETER", None),
        ((5e7, 2e7), "CENTIMETER", (0.5, 0.2)),
    ],
)
def test_resolution_counts_only_where_a_microscope_could_have_it(tmp_path, dpi, unit, size):
    image = read(save(tmp_path / "a.tif", resolution=dpi, resolutionunit=unit))
    assert image.pixel_size_nm == (None if size is None else pytest.approx(size))


def dm_tags(x_nm, y_nm, unit, intensity=("e-", 0.05, 0.0)):
    name, scale, origin = intensity
    return [
        (65009, 12, 1, x_nm, True),
        (65010, 12, 1, y_nm, True),
        (65012, 2, 0, unit, True),
        (65013, 2, 0, unit, True),
        (65022, 2, 0, name, True),
        (65024, 12, 1, origin, True),
        (65025, 12, 1, scale, True),
    ]


def test_digital_micrograph_tags(tmp_path):
    image = read(save(tmp_path / "a.tif", extratags=dm_tags(0.2, 0.3, "nm", ("e-", 0.05, 7.0))))
    assert image.pixel_size_nm == pytest.approx((0.3, 0.2))
    assert image.counts_per_electron == pytest.approx(20)
    assert image.provenance["brightness_origin_counts"] == 7


def test_digital_micrograph_diffraction(tmp_path):
    image = read(save(tmp_path / "a.tif", extratags=dm_tags(0.2, 0.2, "1/nm", ("counts", 2.0, 0.0))))
    assert image.pixel_size_nm is None
    assert "reciprocal" in image.provenance["pixel_size_note"]
    assert image.counts_per_electron is None


def test_other_images_are_named(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(STACK, photometric="minisblack")
        tif.write(STACK[0, :5], photometric="minisblack")
    image = read(tmp_path / "a.tif")
    assert image.data.shape == STACK.shape
    assert "(5, 14)" in image.provenance["other_images"][0]


@pytest.mark.parametrize("shape", [(9, 14, 3), (9, 14, 4), (3, 9, 14)])
def test_colour_is_refused(tmp_path, shape):
    planar = "separate" if shape[0] == 3 else "contig"
    save(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric="rgb", planarconfig=planar)
    with pytest.raises(ValueError, match=r"a\.tif: a colour image.*convert it to grey first"):
        read(tmp_path / "a.tif")


def test_complex_is_refused(tmp_path):
    save(tmp_path / "a.tif", STACK[0].astype(np.complex64))
    with pytest.raises(ValueError, match="complex64; needs real numbers"):
        read(tmp_path / "a.tif")


def test_hyperstack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(STACK.reshape(3, 2, 9, 14), metadata={"axes": "TZYX"})
    with pytest.raises(ValueError, match=r"TZYX of shape \(3, 2, 9, 14\)"):
        read(tmp_path / "a.ome.tif")
    with tifffile.TiffWriter(tmp_path / "b.ome.tif") as tif:
        tif.write(STACK.reshape(1, 6, 1, 9, 14), metadata={"axes": "CTZYX"})
    np.testing.assert_array_equal(read(tmp_path / "b.ome.tif").data, STACK)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("pages_first", [False, True])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_cut_short_is_noticed_on_opening(tmp_path, compression, pages_first, part):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 1000, (12, 30, 41), dtype=np.uint16)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for frame in [data] if pages_first else data:
            tif.write(
                frame, compression=compression, metadata=None, contiguous=False, photometric="minisblack"
            )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ValueError, match=r"a\.tif"):
        read(path)


def test_a_frame_lost_later_is_named(tmp_path):
    path = save(
        tmp_path / "a.tif", np.random.default_rng(0).integers(0, 999, (12, 30, 41)), compression="zlib"
    )
    image = read(path)
    image.frames(0, 1)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"a\.tif: frame 11 cannot be read|a\.tif: cut short: page 11"):
        image.frames(11, 12)
