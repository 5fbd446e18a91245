"""Kept measurements and their lines: rows, tables, and the file they are stored in; no Qt."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.io.output import write_text
from napari_lowdose_tem.widgets.shared import layers as _layers

if TYPE_CHECKING:
    from napari_lowdose_tem.measure.sphere_window import SphereFit
    from napari_lowdose_tem.widgets.shared.layers import LayerTuple

ENDING = ".lines.json"
_KIND = "napari-lowdose-tem line profiles"
_PARTICLE = (
    "center", "center_se", "diameter", "diameter_se", "diameter_ci95_low", "diameter_ci95_high",
    "pseudo_diameter", "edge_total", "edge_per_side", "edge_sigma", "edge_10_90", "t_min", "t_min_se",
)  # fmt: skip
_PAIR = ("separation", "separation_se", "margin", "margin_se")
_BARE = ("t_min", "t_min_se")  # have no unit


@dataclass(frozen=True)
class Row:
    """A kept measurement: what was measured where, and what `Measurement.to_json` said.

    `line` is (row, column) of start and stop [px of the layer], `width_px` its width.
    """

    name: str
    layer: str
    role: str
    frame: int | None
    line: tuple[tuple[float, float], tuple[float, float]]
    width_px: float
    numbers: dict[str, Any] = field(hash=False)
    note: str = ""

    @property
    def unit(self) -> str:
        """Unit of its lengths."""
        return str(self.numbers.get("unit", "px"))


def row_from_json(entry: dict[str, Any]) -> Row:
    """Read a row.

    Raises
    ------
    ValueError
        For anything else.
    """
    try:
        known = {f.name: entry[f.name] for f in fields(Row) if f.name in entry}
        (r0, c0), (r1, c1) = known["line"]
        known["line"] = ((float(r0), float(c0)), (float(r1), float(c1)))
        if not isinstance(known["numbers"], dict):
            raise TypeError
        return Row(**known)
    except (TypeError, KeyError) as error:
        raise ValueError(f"this is no kept measurement: {str(entry)[:80]}") from error


def numbers_of_counts(found: SphereFit) -> dict[str, Any]:
    """Return what a fit to raw counts says, named as in `Measurement.to_json`."""
    u, told = found.unit, found.to_json()
    keys = (f"diameter_{u}", f"diameter_se_{u}", f"diameter_ci95_{u}", f"diameter_bound_{u}", "t_min")
    particle = {key: told[key] for key in keys}
    return {"unit": u, "fit": "counts", "particles": [particle], "refused": None}


def rows_of(layer: Any) -> tuple[Row, ...]:
    """Rows stored in a Shapes layer; what cannot be read is left out."""
    stored = layer.metadata.get(_layers.KEY, {}).get("line_profiles", {}).get("rows", ())
    rows = []
    for entry in stored:
        try:
            rows.append(row_from_json(entry))
        except ValueError:
            continue
    return tuple(rows)


def store_rows(layer: Any, rows: Sequence[Row]) -> None:
    """Store rows in a Shapes layer, where copies and files of it keep them."""
    ours = dict(layer.metadata.get(_layers.KEY, {}))
    ours["line_profiles"] = {**ours.get("line_profiles", {}), "rows": [asdict(row) for row in rows]}
    layer.metadata = {**layer.metadata, _layers.KEY: ours}


def make_table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Header and one line a particle, for spreadsheets.

    Names of lengths end in the unit where all rows have the same.
    """
    units = {row.unit for row in rows}
    unit = units.pop() if len(units) == 1 else ""

    def named(key: str) -> str:
        if not unit or key in _BARE:
            return key
        for end in ("_ci95_low", "_ci95_high", "_se"):
            if key.endswith(end) and key != "t_min_se":
                return f"{key.removesuffix(end)}{end}_{unit}"
        return f"{key}_{unit}"

    header = ["name", "layer", "frame", "fit", "rule", "unit", "particle", *map(named, _PARTICLE + _PAIR)]
    header += [
        "resolved",
        "refused",
        "note",
        "row_0_px",
        "column_0_px",
        "row_1_px",
        "column_1_px",
        "width_px",
    ]
    lines = []
    for row in rows:
        numbers, u = row.numbers, row.unit
        for i, particle in enumerate(numbers.get("particles") or [None]):
            found = {} if particle is None else _flat(particle, u)
            line: list[Any] = [
                row.name,
                row.layer,
                row.frame,
                numbers.get("fit"),
                numbers.get("pseudo_diameter_rule"),
            ]
            line += [u, None if particle is None else i + 1, *(found.get(key) for key in _PARTICLE)]
            line += [numbers.get(_key(key, u)) for key in _PAIR]
            line += [numbers.get("resolved"), numbers.get("refused"), row.note]
            lines.append([*line, *row.line[0], *row.line[1], row.width_px])
    return header, lines


def diameters(row: Row) -> list[tuple[float, float | None]]:
    """Diameters of a row's particles with their standard errors."""
    found = [_flat(particle, row.unit) for particle in row.numbers.get("particles") or []]
    return [(p["diameter"], p.get("diameter_se")) for p in found if p.get("diameter") is not None]


def to_text(rows: Sequence[Row], delimiter: str = "\t") -> str:
    """Table as text."""
    header, lines = make_table(rows)
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if value is None else value for value in line] for line in lines])
    return out.getvalue()


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    """Write the table; the byte-order mark lets spreadsheets read µ and the like."""
    return write_text(path, "\ufeff" + to_text(rows, ","))


# ---- lines with their measurements, as a file


def lines_to_json(data: Sequence[Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """Lines of a Shapes layer and what was measured on them, as JSON values."""
    kinds = attributes.get("shape_type") or ["line"] * len(data)
    kinds = [kinds] * len(data) if isinstance(kinds, str) else kinds
    features = attributes.get("features")
    names = [] if features is None or "name" not in features else list(features["name"])
    lines = []
    for i, (shape, kind) in enumerate(zip(data, kinds, strict=True)):
        if kind == "line":
            start, stop = np.asarray(shape, float)[[0, -1], -2:].tolist()
            name = names[i] if i < len(names) and isinstance(names[i], str) else f"Line {i + 1}"
            lines.append({"name": name, "start": start, "stop": stop})
    scale, translate = (
        list(map(float, attributes.get(key, default)))[-2:] for key, default in _PLACE.items()
    )
    units = [str(unit) for unit in attributes.get("units") or ("pixel", "pixel")][-2:]
    ours = attributes.get("metadata", {}).get(_layers.KEY, {}).get("line_profiles", {})
    place = {"units": units, "scale": scale, "translate": translate}
    return {"kind": _KIND, "version": 1, **place, "lines": lines, "rows": list(ours.get("rows", ()))}


_PLACE = {"scale": (1.0, 1.0), "translate": (0.0, 0.0)}


def write_lines(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a Shapes layer's lines with all that was measured on them."""
    text = json.dumps(lines_to_json(data, attributes), indent=1, allow_nan=False, default=float)
    return [str(write_text(Path(path), text + "\n"))]


def get_lines_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerTuple]] | None:
    """Return a reader for files of `write_lines`, or None for others."""
    paths = [path] if isinstance(path, str | Path) else path
    return read_lines if all(str(p).lower().endswith(ENDING) for p in paths) else None


def read_lines(path: str | Sequence[str]) -> list[LayerTuple]:
    """Read lines with their measurements as Shapes layers.

    Raises
    ------
    ValueError
        For files of another kind.
    """
    paths = [path] if isinstance(path, str | Path) else path
    return [_read(Path(p)) for p in paths]


def _read(path: Path) -> LayerTuple:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.get("kind") != _KIND:
            raise ValueError("it is of another kind")
        data = [np.array([line["start"], line["stop"]], float) for line in stored["lines"]]
        rows = [asdict(row_from_json(row)) for row in stored.get("rows", ())]
        names = [str(line["name"]) for line in stored["lines"]]
        if any(shape.shape != (2, 2) for shape in data):
            raise ValueError("a line needs two ends of two numbers")
        place = {key: tuple(stored[key]) for key in ("units", "scale", "translate")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"{path}: holds no lines with measurements ({text}); open one that was saved here"
        ) from error
    attributes = {
        "name": path.name.removesuffix(ENDING),
        "shape_type": ["line"] * len(data),
        "ndim": 2,
        "features": {"name": np.array(names, object)},
        "edge_color": "#ffb000",
        "face_color": "transparent",
        "metadata": {_layers.KEY: {"line_profiles": {"rows": rows}}},
        **place,
    }
    return data or None, attributes, "shapes"


def _flat(particle: dict[str, Any], unit: str) -> dict[str, Any]:
    found = {key: particle.get(_key(key, unit)) for key in _PARTICLE}
    low_high = particle.get(f"diameter_ci95_{unit}") or (None, None)
    found["diameter_ci95_low"], found["diameter_ci95_high"] = low_high
    return found


def _key(key: str, unit: str) -> str:
    return key if key in _BARE else f"{key}_{unit}"
