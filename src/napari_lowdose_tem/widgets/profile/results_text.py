"""Numbers of the Line profile dock as text; no Qt."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from napari_lowdose_tem.measure.measurement import Measurement, Particle
from napari_lowdose_tem.measure.sphere_window import SphereFit
from napari_lowdose_tem.widgets.profile.state import Curve

_DASH = "–"


def with_error(value: float | None, error: float | None) -> str:
    """Return `95.23 ± 0.41`: two digits of the error, one decimal without one."""
    if value is None or not math.isfinite(value):
        return _DASH
    if error is None or not math.isfinite(error) or error <= 0:
        return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")
    digits = min(6, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def with_transmission(value: float | None, error: float | None) -> str:
    """Return `0.592 ± 0.011`."""
    return with_error(value, error) if error or value is None else f"{value:.2f}"


def numbers_html(curves: tuple[Curve, ...], counts: SphereFit | None, unit: str) -> str:
    """Make a table with a column for each layer, and one for the fit to the raw counts."""
    columns = [c for c in curves if c.measurement is not None and c.profile is not None and not c.reason]
    if not unit or (not columns and counts is None):
        return ""
    n = max((len(c.measurement.particles) for c in columns if c.measurement is not None), default=1)
    heads = [c.role for c in columns] + (["LDE (count fit)"] if counts is not None else [])
    lines = ["".join(f"<th align='right'>&nbsp;&nbsp;{escape(head)}</th>" for head in [f"[{unit}]", *heads])]
    if n > 1:
        for label, pair in _PAIR:
            cells = [pair(c.measurement) if c.measurement is not None else _DASH for c in columns]
            lines.append(_line(label, [*cells, ""]))
    for i in range(n):
        sub = f"<sub>{i + 1}</sub>" if n > 1 else ""
        for label, text_of in _ROWS:
            cells = [_particle_cell(c, i, text_of) for c in columns]
            extra = [_counts_cell(counts, label) if i == 0 else ""] if counts is not None else []
            lines.append(_line(label.replace("*", sub), cells + extra))
    return f"<table cellspacing='0' cellpadding='1'>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def describe_counts(found: SphereFit) -> str:
    """Describe the fit to the raw counts, or say why there is none."""
    if found.refused:
        return f"Count fit: {found.refused}"
    text = f"Count fit: the centre is {abs(found.off_line):.1f} {found.unit} off the line"
    if found.bound is not None:
        text += f"; smallest possible error of d: ± {found.bound:.2g} {found.unit} (Cramér–Rao)"
    return f"{text}."


def reasons_text(curves: tuple[Curve, ...]) -> str:
    """Return the notes on the numbers, one a line."""
    lines = []
    for curve in curves:
        for note in curve.measurement.notes if curve.measurement is not None and not curve.reason else ():
            lines.append(f"{curve.role}: {note}")
    return "\n".join(lines)


_ROWS: list[tuple[str, Callable[[Particle], str]]] = [
    ("diameter d*", lambda p: f"<b>{with_error(p.diameter, p.diameter_se)}</b>"),
    ("&nbsp;&nbsp;95 % interval", lambda p: _interval(p.diameter_ci95)),
    ("centre*", lambda p: with_error(p.center, p.center_se)),
    ("outer diameter D*", lambda p: with_error(p.pseudo_diameter, None)),
    ("edge width D − d*", lambda p: with_error(p.edge_total, None)),
    ("&nbsp;&nbsp;per side", lambda p: with_error(p.edge_per_side, None)),
    ("&nbsp;&nbsp;σ of the blur", lambda p: with_error(p.edge_sigma, None)),
    ("&nbsp;&nbsp;10–90 %", lambda p: with_error(p.edge_10_90, None)),
    ("T at the centre", lambda p: with_transmission(p.t_min, p.t_min_se)),
]
_PAIR: list[tuple[str, Callable[[Measurement], str]]] = [
    ("separation l (centre to centre)", lambda m: with_error(m.separation, m.separation_se)),
    ("gap between particles", lambda m: with_error(m.margin, m.margin_se)),
    ("resolved", lambda m: {True: "yes", False: "no", None: _DASH}[m.resolved]),
]


def _particle_cell(curve: Curve, i: int, text: Callable[[Particle], str]) -> str:
    particles = curve.measurement.particles if curve.measurement is not None else ()
    return text(particles[i]) if i < len(particles) else _DASH


def _counts_cell(counts: SphereFit, label: str) -> str:
    if label.startswith("diameter"):
        return f"<b>{with_error(counts.diameter, counts.diameter_se)}</b>"
    if "95 %" in label:
        return _interval(counts.diameter_ci95)
    if label.startswith("T at"):
        return with_transmission(counts.t_min, None)
    return ""


def _interval(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return _DASH
    low, high = interval
    digits = min(4, max(0, 1 - math.floor(math.log10(max(high - low, 1e-9)))))
    return f"{low:.{digits}f}–{high:.{digits}f}"


def _line(label: str, cells: list[str]) -> str:
    return f"<td>{label}</td>" + "".join(f"<td align='right'>&nbsp;&nbsp;&nbsp;{cell}</td>" for cell in cells)
