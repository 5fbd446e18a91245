import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.pairs.roles import Roles, find_roles

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
    assert find_roles(images) == Roles(*expected, None)


def test_sizes_pixels_and_noise_decide_between_other_names():
    low = frame(5, pixel_size_nm=(4.0, 4.0))
    assert find_roles({"a": low, "b": frame(5, (384, 512))}) == Roles("b", "a", None)
    assert find_roles({"b": frame(5, (384, 512)), "a": low}) == Roles("b", "a", None)
    assert find_roles({"a": low, "b": frame(5, pixel_size_nm=(1.5, 1.5))}) == Roles("b", "a", None)
    assert find_roles({"a": low, "b": frame(5, pixel_size_nm=(0.5, 0.5))}).hde is None  # another field
    assert find_roles({"a": low, "b": frame(1000)}) == Roles("b", "a", None)
    assert find_roles({"a": low, "b": frame(5)}) == Roles(None, "b", None)  # repeats: the topmost


def test_output_brings_its_source():
    images = {
        "film": frame(5),
        "x": frame(5),
        "x enhanced": output_of("x"),
        "y": frame(5, provenance={"source": "/data/y.tif"}),
        "big": frame(800, (192, 256)),
    }
    assert find_roles(images) == Roles("big", "x", "x enhanced")
    images["latest"] = output_of("/data/y.tif")
    assert find_roles(images) == Roles("big", "y", "latest")


def test_fields_are_kept_together_by_their_names():
    images = {
        f"{field}_{dose}": frame(5 if dose == "lde" else 900) for field in "pq" for dose in ("hde", "lde")
    }
    images["out"] = output_of("q_lde")
    assert find_roles(images) == Roles("q_hde", "q_lde", "out")


def test_nothing_to_tell_is_no_error():
    assert find_roles({}) == Roles()
    assert find_roles({"one": frame(5)}) == Roles(None, "one", None)
    assert find_roles({"HDE": frame(5)}) == Roles("HDE", None, None)
    assert find_roles({"out": output_of("gone")}) == Roles(None, None, "out")
    empty = Image(np.full((3, 4), np.nan))
    assert find_roles(
        {"a": empty, "b": empty, "out": Image(np.ones((5, 6)), provenance={"enhanced": 3})}
    ).output


def test_pair_from_one_source_is_told_apart_by_name():
    made = {"source": "simulation"}
    images = {
        "HDE sample": frame(900, provenance=made),
        "LDE sample": frame(5, provenance=made),
        "LDE sample enhanced": output_of("simulation"),
    }
    assert find_roles(images) == Roles("HDE sample", "LDE sample", "LDE sample enhanced")


BIG = (192, 256)
WIDE_LDE, WIDE_HDE = "\uff2c\uff24\uff25\uff11", "\uff28\uff24\uff25\uff11"  # as Japanese keyboards type them


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # words are whole words, and high or low must be said of the dose
        ("highmag_03 highmag_04", (None, "highmag_04", None)),
        ("lowmag_01 highmag_03", (None, "highmag_03", None)),
        ("high_mag_02 low_mag_01", (None, "low_mag_01", None)),
        ("flow_cell_01 flow_cell_02", (None, "flow_cell_02", None)),
        ("slow_scan_1 slow_scan_2", (None, "slow_scan_2", None)),
        ("High-resolution Low-resolution", (None, "Low-resolution", None)),
        ("low_kV high_kV", (None, "high_kV", None)),
        ("highmag_03_LDE highmag_03_HDE", ("highmag_03_HDE", "highmag_03_LDE", None)),
        ("lowmag_HDE lowmag_LDE", ("lowmag_HDE", "lowmag_LDE", None)),
        (
            "high_vacuum_low_dose high_vacuum_high_dose",
            ("high_vacuum_high_dose", "high_vacuum_low_dose", None),
        ),
        ("yellow_03 highland_04", (None, "highland_04", None)),
        # the ways people write it
        ("high_dose low-dose", ("high_dose", "low-dose", None)),
        ("LowDose_01 HighDose_01", ("HighDose_01", "LowDose_01", None)),
        ("sampleHDE1 sampleLDE1", ("sampleHDE1", "sampleLDE1", None)),
        ("HDEframe LDEframe", ("HDEframe", "LDEframe", None)),
        ("grid3_low grid3_high", ("grid3_high", "grid3_low", None)),
        ("dose_low dose_high", ("dose_high", "dose_low", None)),
        ("Ni_LD Ni_HD", ("Ni_HD", "Ni_LD", None)),
        ("noisy ground_truth", ("ground_truth", "noisy", None)),
        ("short-exposure long-exposure", ("long-exposure", "short-exposure", None)),
        ("sample_raw sample_ref", ("sample_ref", "sample_raw", None)),
        # users write German and Japanese
        ("Hochdosis_1 Niedrigdosis_1", ("Hochdosis_1", "Niedrigdosis_1", None)),
        ("Probe_geringe_Dosis Probe_hohe_Dosis", ("Probe_hohe_Dosis", "Probe_geringe_Dosis", None)),
        ("Rohbild_3 Summe_3", ("Summe_3", "Rohbild_3", None)),
        ("Rohbild Rohbild_entrauscht", (None, "Rohbild", "Rohbild_entrauscht")),
        ("銀粒子_低線量01 銀粒子_高線量01", ("銀粒子_高線量01", "銀粒子_低線量01", None)),
        ("生データ 積算", ("積算", "生データ", None)),
        ("低倍率 高倍率", (None, "高倍率", None)),
        (f"{WIDE_LDE} {WIDE_HDE}", (WIDE_HDE, WIDE_LDE, None)),
        ("低線量 低線量_ノイズ除去", (None, "低線量", "低線量_ノイズ除去")),
        # outputs that other programs made, or whose provenance is lost
        ("frame_0001 frame_0001_enhanced frame_0002", (None, "frame_0001", "frame_0001_enhanced")),
        ("film film|enhanced|(preview) film2", (None, "film", "film|enhanced|(preview)")),
        ("LDE HDE LDE_denoised", ("HDE", "LDE", "LDE_denoised")),
        ("LDE HDE_denoised", ("HDE_denoised", "LDE", None)),
        ("movie movie_lowpass", (None, "movie", "movie_lowpass")),
        ("movie movie_low_pass", (None, "movie", "movie_low_pass")),
        ("zero_loss_filtered", (None, "zero_loss_filtered", None)),
        ("denoised", (None, None, "denoised")),
        # sums and means are of a higher dose than the frames they were made of, not than one called HDE
        ("frame_1 frame_2 average", ("average", "frame_2", None)),
        ("LDE LDE_sum", (None, "LDE", None)),
        ("HDE sum", ("HDE", "sum", None)),
        ("sum", (None, "sum", None)),
        # copies, repeats and leftovers
        ("HDE HDE|[1]", ("HDE|[1]", None, None)),
        ("LDE LDE|[1]", (None, "LDE|[1]", None)),
        ("raw_1 raw_2 raw_3", (None, "raw_3", None)),
        ("HDE a b", ("HDE", "b", None)),
        ("p_hde p_lde q_hde q_lde_2 q_lde_1", ("q_hde", "q_lde_1", None)),
        ("q1_HDE q10_HDE q1_LDE", ("q1_HDE", "q1_LDE", None)),
    ],
)
def test_names_that_people_use(names, expected):
    names = [name.replace("|", " ") for name in names.split()]
    expected = tuple(name and name.replace("|", " ") for name in expected)
    assert find_roles({name: frame(50) for name in names}) == Roles(*expected)


def test_frames_of_the_authors_layout_are_paired_by_size_and_order():
    images = {f"silicate_{i:04d}": frame(50, BIG if i in (1, 4) else (96, 128)) for i in range(1, 7)}
    assert find_roles(images) == Roles("silicate_0004", "silicate_0006", None)
    images["out"] = output_of("silicate_0003")
    assert find_roles(images) == Roles("silicate_0001", "silicate_0003", "out")


def test_provenance_comes_before_names():
    images = {
        "HDE": frame(50),
        "LDE": frame(50),
        "denoised": frame(50),
        "preview": output_of("HDE"),
    }
    assert find_roles(images) == Roles(None, "HDE", "preview")
    images["HDE enhanced"] = images.pop("preview")
    assert find_roles(images).lde == "HDE"


def test_names_come_before_sizes_and_noise():
    images = {"LDE": frame(900, BIG), "HDE": frame(5)}
    assert find_roles(images) == Roles("HDE", "LDE", None)
    assert find_roles({"raw": frame(5), "raw fine": frame(5, BIG)}) == Roles("raw fine", "raw", None)
