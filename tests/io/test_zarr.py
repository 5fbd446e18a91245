"""OME-Zarr of others: versions, levels, axes, plain arrays."""

import pickle

import numpy as np
import pytest
import zarr

from napari_lowdose_tem.io import can_read, read

STACK = np.random.default_rng(2).integers(0, 1000, (6, 9, 14), dtype=np.uint16)


def ome(path, data=STACK, version=3, axes="tyx", units=("millisecond", "micrometer", "angstrom"), levels=2):
    group = zarr.open_group(path, mode="w", zarr_format=version)
    datasets = []
    for level in range(levels):
        group.create_array(f"s{level}", data=data[..., :: 2**level, :: 2**level])
        scale = [1.0] * (data.ndim - 3) + [40.0, 0.003 * 2**level, 2.5 * 2**level]
        transform = [{"type": "scale", "scale": scale[-data.ndim :]}]
        datasets.append({"path": f"s{level}", "coordinateTransformations": transform})
    of = dict(zip("tyx", units, strict=True))
    named = [{"name": a} | ({"unit": of[a]} if of.get(a) else {}) for a in axes]
    multiscales = [{"version": "0.4", "axes": named, "datasets": datasets}]
    group.attrs.update(
        {"ome": {"version": "0.5", "multiscales": multiscales}}
        if version == 3
        else {"multiscales": multiscales}
    )
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_full_resolution_with_units(tmp_path, version):
    image = read(ome(tmp_path / "a µ.ome.zarr", version=version))
    assert image.name == "a µ"
    assert image.is_lazy
    assert image.pixel_size_nm == pytest.approx((3.0, 0.25))
    assert image.frame_time_s == pytest.approx(0.04)
    np.testing.assert_array_equal(image.data, STACK)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(image.data))[3], STACK[3])
    assert image.provenance["format"] == f"OME-Zarr, Zarr {version}"


def test_axes_of_length_one(tmp_path):
    data = STACK[:, None, None]
    image = read(ome(tmp_path / "a.zarr", data, axes="tczyx"))
    np.testing.assert_array_equal(image.data, STACK)
    image = read(ome(tmp_path / "b.zarr", data[:1], axes="tczyx"))
    np.testing.assert_array_equal(image.data, STACK[0])
    assert isinstance(image.data, np.ndarray)


def test_channels_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"tczyx of shape \(3, 2, 1, 9, 14\)"):
        read(ome(tmp_path / "a.zarr", STACK.reshape(3, 2, 1, 9, 14), axes="tczyx"))


def test_no_unit_no_calibration(tmp_path):
    image = read(ome(tmp_path / "a.zarr", units=(None, None, None)))
    assert image.pixel_size_nm is None
    assert image.frame_time_s is None


def test_bioformats2raw_layout(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    ome(tmp_path / "a.zarr" / "0", version=2)
    np.testing.assert_array_equal(read(tmp_path / "a.zarr").data, STACK)


@pytest.mark.parametrize("version", [2, 3])
def test_plain_array(tmp_path, version):
    zarr.create_array(tmp_path / "plain", data=STACK, zarr_format=version)
    assert can_read(tmp_path / "plain")
    image = read(tmp_path / "plain")
    np.testing.assert_array_equal(image.data, STACK)
    assert image.pixel_size_nm is None


def test_a_damaged_chunk_names_the_frame(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=STACK, chunks=(1, 9, 14), zarr_format=2)
    image = read(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "4.0.0").write_bytes(b"garbage")
    np.testing.assert_array_equal(image.frames(3, 4), STACK[3:4])
    with pytest.raises(ValueError, match=r"a\.zarr: frame 4 cannot be read"):
        image.frames(4, 5)


def test_empty_and_foreign_folders(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(ValueError, match=r"a\.zarr"):
        read(tmp_path / "a.zarr")
    zarr.open_group(tmp_path / "b.zarr", mode="w")
    with pytest.raises(ValueError, match=r"b\.zarr: a Zarr group without image"):
        read(tmp_path / "b.zarr")
