"""Convert lengths and times to nm and s, from units as microscopes and programs spell them."""

from __future__ import annotations

import math
import re
import unicodedata

_NM = {
    ("pm", "picometer", "picometre"): 1e-3,
    ("å", "a", "ang", "angstrom", "ångström", "ångstrom"): 0.1,
    ("nm", "nanometer", "nanometre"): 1.0,
    # the last two are "μm" in Shift-JIS and in UTF-8, each read as Western text
    ("μm", "um", "μ", "micron", "micrometer", "micrometre", "ƒêm", "âμm"): 1e3,
    ("mm", "millimeter", "millimetre"): 1e6,
    ("cm", "centimeter", "centimetre"): 1e7,
    ("in", "inch", "inche"): 2.54e7,
    ("m", "meter", "metre"): 1e9,
}
_SECONDS = {
    ("ns", "nsec", "nanosecond"): 1e-9,
    ("μs", "us", "μsec", "usec", "microsecond"): 1e-6,
    ("ms", "msec", "millisecond"): 1e-3,
    ("s", "sec", "second"): 1.0,
    ("min", "minute"): 60.0,
    ("h", "hr", "hour"): 3600.0,
}
_NM_PER = {name: nm for names, nm in _NM.items() for name in names}
_SECONDS_PER = {name: s for names, s in _SECONDS.items() for name in names}


def length_nm(value: object, unit: object) -> float | None:
    """Return a length [nm]; None unless it is a positive number and the unit is a length."""
    return _convert(value, unit, _NM_PER)


def time_s(value: object, unit: object) -> float | None:
    """Return a time [s]; None unless it is a positive number and the unit is a time."""
    return _convert(value, unit, _SECONDS_PER)


def pixel_size_nm(
    row: object, col: object, row_unit: object, col_unit: object
) -> tuple[tuple[float, float] | None, str]:
    """Return the (row, column) sampling [nm/px], or None and the reason.

    A reciprocal unit (a diffraction pattern), a bare pixel and an unknown unit give none.
    """
    size = length_nm(row, row_unit), length_nm(col, col_unit)
    if size[0] is not None and size[1] is not None:
        return (size[0], size[1]), ""
    units = sorted({str(unit or "").strip() for unit in (row_unit, col_unit)})
    if all(_name(unit) in {"", "none", "pixel", "px", "null", "<>"} for unit in units):
        return None, ""
    kind = "reciprocal" if any(_is_reciprocal(unit) for unit in units) else "not usable"
    return None, f"sampling of {row} by {col} {' and '.join(units)} is {kind}; pixel size left unknown"


def _convert(value: object, unit: object, table: dict[str, float]) -> float | None:
    factor = table.get(_name(unit)) or table.get(_name(unit).removesuffix("s"))
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if factor is None or not math.isfinite(number * factor) or number * factor <= 0:
        return None
    return number * factor


def _name(unit: object) -> str:
    # ImageJ escapes the micro sign in ASCII descriptions; NFKC makes one of its two code points;
    # NCEM's EMD writes [n_m]
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), str(unit or ""))
    return unicodedata.normalize("NFKC", text).strip(" \0\t\r\n[]").replace("_", "").casefold()


def _is_reciprocal(unit: str) -> bool:
    name = _name(unit).replace(" ", "")
    return name.startswith("1/") or name.endswith(("-1", "\N{MINUS SIGN}1")) or "reciprocal" in name
