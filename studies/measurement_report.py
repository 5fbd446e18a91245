"""Tables and figures of studies/measurement.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pages import tabulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXPECTED = {
    "paper, no blur": (97.4, 102.7, 107.0),
    "exponential, no blur": (96.0, 96.0, 96.0),
    "exponential, blur 4 nm": (94.4, 94.2, 94.0),
    "full, blur 4 nm": (96.0, 96.0, 96.0),
}
"""By the fits written out elsewhere, before this program [nm]."""

NAMES = {
    "full": "line, full",
    "exponential": "line, exponential",
    "paper": "line, paper",
    "sphere": "2-D",
    "counts": "found on the counts",
    "near": "started near",
}
COLORS = {
    "full": "#0b62b3",
    "exponential": "#b85c00",
    "paper": "#00805a",
    "sphere": "#a0408e",
    "counts": "#555555",
    "near": "#0b62b3",
}
LABELS = {
    "diameter_nm": "diameter [nm]",
    "t_min": "T$_{min}$",
    "blur_nm": "blur σ [nm]",
    "offset": "line off the centre [radii]",
    "width_px": "width of the line [px]",
    "dose_e_per_px": "dose [e$^-$/px]",
    "pixel_nm": "pixel [nm]",
}
LOWEST = 75.0
"""Coverage [%] below which a figure shows an arrow."""
LOGARITHMIC = ("diameter_nm", "dose_e_per_px")
TARGETS = {"hde": (0.92, 0.98), "enhanced": (0.90, 0.99), "counts": (0.90, 0.99)}

_HEAD = ["n", "refused", "bias [nm]", "SD [nm]", "its own error [nm]", "95 % interval holds the truth"]


def write_tables(path: Path, template: Path, stored: dict[str, Any]) -> dict[str, str]:
    """Put the tables between their markers on the page; return them by name."""
    tables = {
        name: write(stored[key]) for name, write in _TABLES.items() if (key := name.split("-")[0]) in stored
    }
    fill_in(path, template, tables)
    return tables


def fill_in(path: Path, template: Path, texts: dict[str, str]) -> None:
    """Put texts between their markers on a page, or on a copy of another one."""
    page = (path if path.exists() else template).read_text("utf-8")
    for name, text in texts.items():
        if f"<!-- {name} -->\n" not in page:
            raise ValueError(f"{path}: no line <!-- {name} -->; delete the page to begin with a new one")
        start, rest = page.split(f"<!-- {name} -->\n", 1)
        page = f"{start}<!-- {name} -->\n\n{text}\n\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    path.write_text(page, encoding="utf-8")


def describe(row: dict[str, Any]) -> list[str]:
    """Cells of a summary."""
    if "bias" not in row:
        return [str(row["n"]), f"{row['refused']:.0%}", "-", "-", "-", "-"]
    digits = 2 if row["sd"] < 1.5 else 1
    return [
        str(row["n"]), f"{row['refused']:.0%}", f"{row['bias']:+.{digits}f} ± {row['bias_se']:.{digits}f}",
        f"{row['sd']:.{digits}f}", f"{row['se']:.{digits}f}",
        f"{100 * row['coverage']:.1f} ± {100 * row['coverage_se']:.1f} %",
    ]  # fmt: skip


def _write_bias(section: dict[str, Any]) -> str:
    rows = {}
    for name, values in section["found"].items():
        expected = EXPECTED.get(name)
        notes = [f" ({e:.1f})" for e in expected] if expected else [""] * 3
        rows[name] = [
            "refused" if v is None else f"{v:.2f}{note}" for v, note in zip(values, notes, strict=True)
        ]
    return tabulate([f"T_min {t}" for t in ("0.90", "0.59", "0.41")], dict(sorted(rows.items())))


def _write_hde(section: dict[str, Any]) -> str:
    rows = {NAMES[way]: describe(row) for way, row in section["main"].items()}
    return tabulate(_HEAD, rows)


def _write_pair(section: dict[str, Any]) -> str:
    names = {"smaller": "58.3 nm", "larger": "73.0 nm", "separation": "separation 78.4 nm"}
    rows = {
        label: [*describe(section["pair"][name]), f"{section['pair'][name]['largest']:.2f}"]
        for name, label in names.items()
    }
    return tabulate([*_HEAD, "largest error [nm]"], rows)


def _write_enhanced(section: dict[str, Any]) -> str:
    rows = {}
    for way in ("full", "sphere"):
        rows[f"d 96 nm, T_min 0.59, 4.8 nm/px, 5 e-/px: {NAMES[way]}"] = section["main"][way]
    for way in ("full", "sphere"):
        rows[f"all kinds: {NAMES[way]}"] = section["all"][way]
    units = {
        "t_min": "T_min {:g}",
        "dose_e_per_px": "{:g} e-/px",
        "pixel_nm": "{:g} nm/px",
        "diameter_nm": "d about {:.0f} nm",
    }
    for axis, unit in units.items():
        for value, both in section["axes"][axis]:
            for way in ("full", "sphere"):
                rows[f"{unit.format(value)}: {NAMES[way]}"] = both[way]
    return _tabulate_medians(rows)


def _write_pairs(section: dict[str, Any]) -> str:
    units = {
        "apart": "l = {:g} mean diameters",
        "t_min": "T_min {:g} at 100 nm",
        "dose_e_per_px": "{:g} e-/px",
        "pixel_nm": "{:g} nm/px",
    }
    kinds = [("all kinds", section["all"])]
    kinds += [
        (unit.format(value), row) for axis, unit in units.items() for value, row in section["axes"][axis]
    ]
    return _tabulate_medians({f"{kind}: {what}": row[what] for kind, row in kinds for what in row})


def _tabulate_medians(rows: dict[str, dict[str, Any]]) -> str:
    """Tabulate summaries of which a few errors are large."""
    cells = {}
    for name, row in rows.items():
        cells[name] = describe(row)
        if "bias" in row:
            cells[name][2:4] = [f"{row['median']:+.1f}", f"{row['spread']:.1f}"]
    return tabulate([*_HEAD[:2], "median error [nm]", "spread [nm]", *_HEAD[4:]], cells)


def _write_counts(section: dict[str, Any]) -> str:
    rows = {}
    for name, ways in section["rows"].items():
        for way, row in ways.items():
            bound = row.get("bound")
            more = [f"{bound:.2f}", f"{row['sd'] / bound:.2f}"] if bound else ["-", "-"]
            rows[name + ", started near" * (way == "near")] = [*describe(row), *more]
    return tabulate([*_HEAD, "bound [nm]", "SD / bound"], rows)


def _write_clipping(section: dict[str, Any]) -> str:
    return tabulate(
        [f"{dose:g} e-/px" for dose, _ in section["clipped"]],
        {"d - 96 nm, by clipping alone": [f"{shift:+.1f} nm" for _, shift in section["clipped"]]},
    )


_TABLES = {
    "bias": _write_bias,
    "hde": _write_hde,
    "hde-pair": _write_pair,
    "enhanced": _write_enhanced,
    "pairs": _write_pairs,
    "counts": _write_counts,
    "counts-clipping": _write_clipping,
}


# ---- figures


def draw_figures(folder: Path, stored: dict[str, Any]) -> None:
    """Draw what was measured."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"font.size": 8, "axes.linewidth": 0.6}):
        if "sweeps" in stored:
            _draw_sweeps(folder / "measurement-bias.png", stored["sweeps"])
        for name, target in TARGETS.items():
            if name in stored:
                ways = ("counts", "near") if name == "counts" else ("full", "sphere")
                _draw_axes(folder / f"measurement-{name}.png", stored[name]["axes"], ways, target)


def _draw_sweeps(path: Path, section: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    from measurement_cells import SWEEPS

    figure = Figure((9.0, 5.0), layout="constrained", dpi=130)
    panels = figure.subplots(2, 3).ravel()
    for panel, (axis, ways) in zip(panels, section["axes"].items(), strict=False):
        for way, values in ways.items():
            biases = np.array(values, float)
            panel.plot(SWEEPS[axis], biases, "o-", ms=3, lw=1, color=COLORS[way], label=NAMES[way])
        if axis == "offset":
            b = np.linspace(0, 0.5)
            law = panel.plot(b, 100 * (np.sqrt(1 - b**2) - 1), "k--", lw=1, label="√(1 - (b/r)²)")
            panel.legend(handles=law, frameon=False, loc="lower left")
        _finish(panel, axis, list(SWEEPS[axis]))
    share, pair = section["pair"]
    for way, biases in pair.items():
        panels[5].plot(share, np.array(biases, float), "o-", ms=3, lw=1, color=COLORS[way])
    _finish(panels[5], "distance of two alike [diameters]", [])
    for panel in panels[::3]:
        panel.set_ylabel("bias of the diameter [%]")
    for panel in panels:
        panel.set_ylim(-14, 14)
    panels[0].legend(frameon=False, loc="upper right", ncols=2)
    figure.savefig(path)


def _draw_axes(path: Path, axes: dict[str, Any], ways: tuple[str, ...], target: tuple[float, float]) -> None:
    """Bias with SD above, coverage below; a column an axis."""
    from matplotlib.figure import Figure

    figure = Figure((2.1 * len(axes) + 0.8, 4.2), layout="constrained", dpi=130)
    panels = figure.subplots(2, len(axes), sharey="row", squeeze=False)
    for (above, below), (axis, cells) in zip(panels.T, axes.items(), strict=True):
        values = np.array([value for value, _ in cells])
        for i, way in enumerate(ways):
            rows = [row.get(way, {}) for _, row in cells]
            known = np.array(["bias" in row for row in rows])
            if not known.any():
                continue
            numbers = {
                key: np.array([row[key] for row in rows if "bias" in row])
                for key in ("median", "spread", "coverage", "coverage_se")
            }
            at = _move(values[known], i, len(ways), axis)
            style: Any = {"color": COLORS[way], "fmt": "o", "ms": 3.5, "lw": 1, "capsize": 2}
            above.errorbar(at, numbers["median"], numbers["spread"], label=NAMES[way], **style)
            share = 100 * numbers["coverage"]
            below.errorbar(at, share, 100 * numbers["coverage_se"], **style)
            off = share < LOWEST
            below.plot(at[off], np.full(off.sum(), LOWEST + 0.7), "v", ms=5, color=COLORS[way])
        above.axhline(0, color="0.6", lw=0.6)
        below.axhspan(100 * target[0], 100 * target[1], color="0.9", lw=0)
        below.axhline(95, color="0.6", lw=0.6)
        for panel in (above, below):
            _finish(panel, axis, values.tolist(), zero=False)
        above.set_xlabel("")
    panels[0, 0].set_ylabel("median error ± spread [nm]")
    panels[1, 0].set_ylabel("95 % intervals right [%]")
    panels[1, 0].set_ylim(LOWEST, 101)
    if len(ways) > 1:
        panels[0, 0].legend(frameon=False, loc="best")
    figure.savefig(path)


def _move(values: Any, i: int, n: int, axis: str) -> Any:
    """Set the marks of several ways beside one another."""
    share = 0.04 * (i - (n - 1) / 2)
    if axis in LOGARITHMIC:
        return values * (values.max() / values.min()) ** share
    return values + share * float(np.ptp(values))


def _finish(panel: Axes, axis: str, ticks: list[float], zero: bool = True) -> None:
    panel.set_xlabel(LABELS.get(axis, axis))
    if axis in LOGARITHMIC:
        panel.set_xscale("log")
        every = ticks[:: 1 if len(ticks) < 6 else 2]
        panel.set_xticks(every, [f"{t / 1000:.0f}k" if t >= 1000 else f"{t:.0f}" for t in every], minor=False)
        panel.minorticks_off()
    elif 0 < len(ticks) < 6:
        panel.set_xticks(ticks, [f"{t:g}" for t in ticks])
    if zero:
        panel.axhline(0, color="0.6", lw=0.6, zorder=0)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
