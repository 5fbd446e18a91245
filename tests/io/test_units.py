import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_lowdose_tem.io.units import length_nm, pixel_size_nm, time_s

# micrometre as Shift-JIS, Latin-1 readings, ImageJ's escape, both code points, NCEM's brackets
SPELLINGS = {
    1e-3: ["pm", "picometer", "Picometre", "picometers"],
    0.1: ["A", "Å", "\u212b", "angstrom", "Angstroms", "Ångström"],
    1.0: ["nm", "NM", " nm\0", "nanometer", "nanometres", "[n_m]"],
    1e3: [
        "um",
        "\u00b5m",
        "\u03bcm",
        "\\u00B5m",
        "micron",
        "microns",
        "micrometer",
        "µ",
        "ƒÊm",
        "Âµm",
        "[u_m]",
    ],
    1e6: ["mm", "millimeter"],
    1e7: ["cm"],
    2.54e7: ["inch", "in"],
    1e9: ["m", "meters", "metre"],
}


@pytest.mark.parametrize(("nm", "unit"), [(nm, unit) for nm, units in SPELLINGS.items() for unit in units])
def test_lengths(nm, unit):
    assert length_nm(2.5, unit) == pytest.approx(2.5 * nm)


@pytest.mark.parametrize(
    ("unit", "s"),
    [("s", 1), ("sec", 1), ("seconds", 1), ("ms", 1e-3), ("µs", 1e-6), ("min", 60), ("h", 3600)],
)
def test_times(unit, s):
    assert time_s(0.4, unit) == pytest.approx(0.4 * s)


@given(st.floats(1e-6, 1e6), st.sampled_from([unit for units in SPELLINGS.values() for unit in units]))
def test_length_is_proportional(value, unit):
    assert length_nm(2 * value, unit) == pytest.approx(2 * length_nm(value, unit))


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), None, "wide"])
def test_no_length_from_nonsense(value):
    assert length_nm(value, "nm") is None


@pytest.mark.parametrize("unit", [None, "", "pixel", "px", "1/nm", "nm^-1", "furlong", "s"])
def test_no_length_from_other_units(unit):
    assert length_nm(1, unit) is None


@given(st.text())
def test_any_text_is_a_unit_or_not(unit):
    assert length_nm(1.0, unit) is None or length_nm(1.0, unit) > 0


def test_rows_and_columns_have_their_own_unit():
    assert pixel_size_nm(2.0, 3.0, "A", "um") == (pytest.approx((0.2, 3000.0)), "")


@pytest.mark.parametrize("unit", ["1/nm", "1 / nm", "nm-1", "nm^-1", "1/m"])
def test_diffraction_is_told(unit):
    size, note = pixel_size_nm(0.1, 0.1, unit, unit)
    assert size is None
    assert "reciprocal" in note


def test_bare_pixels_need_no_note():
    assert pixel_size_nm(1, 1, "pixel", None) == (None, "")
