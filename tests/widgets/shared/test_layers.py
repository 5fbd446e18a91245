import dask.array as da
import numpy as np
import pytest
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.shared.layers import (
    contrast_limits,
    image_from_layer,
    layer_tuple,
    limits_of,
    place,
    set_calibration,
    why_not,
)

STACK = np.arange(3 * 8 * 10, dtype=np.float32).reshape(3, 8, 10)


def layer_of(image, **options):
    data, attributes, kind = layer_tuple(image, **options)
    assert kind == "image"
    return ImageLayer(data, **attributes)


@pytest.mark.parametrize("frame_time_s", [None, 0.25])
@pytest.mark.parametrize("pixel_size_nm", [None, (2.0, 0.5)])
@pytest.mark.parametrize("data", [STACK, STACK[0], da.from_array(STACK, chunks=(1, -1, -1))])
def test_round_trip_through_a_layer(data, pixel_size_nm, frame_time_s):
    image = Image(data, pixel_size_nm, 44.0, frame_time_s, "a", {"source": "x.tif"})
    back = image_from_layer(layer_of(image))
    assert back.pixel_size_nm == pixel_size_nm
    assert back.counts_per_electron == 44.0
    assert back.frame_time_s == frame_time_s
    assert back.provenance == {"source": "x.tif"}
    assert back.data is data or np.shares_memory(back.data, data)


def test_units_and_axes_of_a_calibrated_stack():
    layer = layer_of(Image(STACK, (2.0, 0.5), frame_time_s=0.25))
    assert tuple(layer.scale) == (0.25, 2.0, 0.5)
    assert [str(unit) for unit in layer.units] == ["second", "nanometer", "nanometer"]
    assert layer.axis_labels == ("frame", "y", "x")


@pytest.mark.parametrize(
    ("units", "scale", "expected"),
    [
        (("um", "um"), (0.002, 0.001), (2.0, 1.0)),
        (("angstrom", "nm"), (20, 3), (2.0, 3.0)),
        (("pixel", "pixel"), (1, 1), None),
        (("pixel", "pixel"), (3, 3), None),
        (("1/nm", "1/nm"), (3, 3), None),
        (("nm", "nm"), (-2, 3), (2.0, 3.0)),
    ],
)
def test_pixel_size_in_nm_or_none(units, scale, expected):
    size = image_from_layer(ImageLayer(STACK[0], units=units, scale=scale)).pixel_size_nm
    assert size == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Labels(np.zeros((4, 5), int), name="seg"), "labels layer"),
        (ImageLayer(np.zeros((4, 5, 3), np.uint8), rgb=True), "colour"),
        (ImageLayer(np.zeros((2, 3, 4, 5))), "4 axes"),
    ],
)
def test_refuses_with_a_reason(layer, reason):
    assert reason in why_not(layer)
    with pytest.raises(ValueError, match=reason):
        image_from_layer(layer)


def test_takes_the_finest_level_of_a_pyramid():
    layer = ImageLayer([STACK, STACK[:, ::2, ::2]], multiscale=True)
    assert image_from_layer(layer).data.shape == STACK.shape


def test_output_lies_on_its_source():
    source = ImageLayer(
        STACK,
        scale=(0.5, 2, 3),
        translate=(1, 20, 30),
        rotate=[[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]],
        shear=(0, 0, 0.1),
        units=("s", "nm", "nm"),
        axis_labels=("t", "row", "col"),
    )
    image = image_from_layer(source)
    whole = layer_of(image, like=source)
    frame = layer_of(image.with_data(STACK[2:3]), like=source, frame=2)
    for point in ((0, 1, 2), (2, 7, 9)):
        np.testing.assert_allclose(whole.data_to_world(point), source.data_to_world(point))
    np.testing.assert_allclose(frame.data_to_world((0, 3, 4)), source.data_to_world((2, 3, 4)))
    assert whole.units == frame.units == source.units
    assert whole.axis_labels == ("t", "row", "col")


def test_place_moves_to_another_frame():
    source = ImageLayer(STACK, scale=(0.5, 2, 3), translate=(1, 20, 30))
    layer = layer_of(image_from_layer(source).with_data(STACK[:1]), like=source, frame=0)
    place(layer, source, 2)
    np.testing.assert_allclose(layer.data_to_world((0, 3, 4)), source.data_to_world((2, 3, 4)))


def test_contrast_limits_ignore_outliers_and_holes():
    frames = np.tile(np.linspace(10, 20, 60_000, dtype=np.float32).reshape(200, 300), (3, 1, 1))
    frames[1, 0, 0], frames[1, 1, 1] = 1e6, np.nan
    low, high = contrast_limits(Image(da.from_array(frames, chunks=(1, -1, -1))))
    assert 10 <= low < 10.1
    assert 19.9 < high <= 20
    assert limits_of(np.full((1, 3, 4), 7)) == (7, 8)
    assert limits_of(np.full((1, 3, 4), np.nan)) == (0, 1)


def test_contrast_limits_read_one_frame_from_disk():
    read = []
    frames = da.map_blocks(
        lambda block_info=None: (read.append(block_info[None]["chunk-location"][0]), np.ones((1, 8, 10)))[1],
        chunks=((1,) * 9, 8, 10),
        dtype=float,
        meta=np.empty((0, 0, 0)),
    )
    contrast_limits(Image(frames))
    assert read == [4]


def test_calibration_is_corrected_whole_or_not_at_all():
    layer = ImageLayer(STACK, translate=(0, 10, 10))
    set_calibration(layer, (2.0, 3.0), 44.0)
    image = image_from_layer(layer)
    assert (image.pixel_size_nm, image.counts_per_electron) == ((2.0, 3.0), 44.0)
    assert tuple(layer.translate) == (0, 20, 30)  # still the same pixel
    with pytest.raises(ValueError, match="not positive"):
        set_calibration(layer, (2.0, 0.0), 1.0)
    assert image_from_layer(layer).counts_per_electron == 44.0
    set_calibration(layer, None, None)
    assert image_from_layer(layer).pixel_size_nm is None
    assert tuple(layer.translate) == (0, 10, 10)
