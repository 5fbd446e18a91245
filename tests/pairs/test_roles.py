import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.pairs.roles import Roles, pair_up

RNG = np.random.default_rng(2)


def frame(dose, shape=(96, 128), **options):
    return Image(RNG.poisson(dose, shape).astype(np.float32), **options)


def output_of(source, shape=(96, 128)):
    return frame(900, shape, provenance={"enhanced": {"source": source}})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("HDE sample", "LDE sample"), ("HDE sample", "LDE sample")),
        (("lde_3", "hde_3"), ("hde_3", "lde_3")),
        (("a low dose", "b high dose"), ("b high dose", "a low dose")),
    ],
)
def test_names_decide_between_equal_frames(names, expected):
    images = {name: frame(50) for name in names}
    assert pair_up(images) == Roles(*expected, None)


def test_sizes_pixels_and_noise_decide_between_other_names():
    low = frame(5, pixel_size_nm=(4.0, 4.0))
    assert pair_up({"a": low, "b": frame(5, (384, 512))}) == Roles("b", "a", None)
    assert pair_up({"b": frame(5, (384, 512)), "a": low}) == Roles("b", "a", None)
    assert pair_up({"a": low, "b": frame(5, pixel_size_nm=(0.5, 0.5))}) == Roles("b", "a", None)
    assert pair_up({"a": low, "b": frame(1000)}) == Roles("b", "a", None)
    assert pair_up({"a": low, "b": frame(5)}) == Roles(None, "a", None)  # repeats


def test_output_brings_its_source():
    images = {
        "film": frame(5),
        "x": frame(5),
        "x enhanced": output_of("x"),
        "y": frame(5, provenance={"source": "/data/y.tif"}),
        "big": frame(800, (192, 256)),
    }
    assert pair_up(images) == Roles("big", "x", "x enhanced")
    images["latest"] = output_of("/data/y.tif")
    assert pair_up(images) == Roles("big", "y", "latest")


def test_fields_are_kept_together_by_their_names():
    images = {
        f"{field}_{dose}": frame(5 if dose == "lde" else 900) for field in "pq" for dose in ("hde", "lde")
    }
    images["out"] = output_of("q_lde")
    assert pair_up(images) == Roles("q_hde", "q_lde", "out")


def test_nothing_to_tell_is_no_error():
    assert pair_up({}) == Roles()
    assert pair_up({"one": frame(5)}) == Roles(None, "one", None)
    assert pair_up({"HDE": frame(5)}) == Roles("HDE", None, None)
    assert pair_up({"out": output_of("gone")}) == Roles(None, None, "out")
    empty = Image(np.full((3, 4), np.nan))
    assert pair_up({"a": empty, "b": empty, "out": Image(np.ones((5, 6)), provenance={"enhanced": 3})}).output


def test_pair_from_one_source_is_told_apart_by_name():
    made = {"source": "simulation"}
    images = {
        "HDE sample": frame(900, provenance=made),
        "LDE sample": frame(5, provenance=made),
        "LDE sample enhanced": output_of("simulation"),
    }
    assert pair_up(images) == Roles("HDE sample", "LDE sample", "LDE sample enhanced")
