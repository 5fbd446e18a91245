"""The table of kept measurements as CSV, and as text for a spreadsheet; no Qt."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_lowdose_tem.io.output import write_text
from napari_lowdose_tem.widgets.profile.kept_rows import (
    PARTICLE_KEYS,
    UNITLESS_KEYS,
    Row,
    flatten_particle,
    number_key,
)

_PAIR_KEYS = ("separation", "separation_se", "margin", "margin_se")


def make_table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Header and one line a particle, for spreadsheets.

    Names of lengths end in the unit where all rows have the same.
    """
    units = {row.unit for row in rows}
    unit = units.pop() if len(units) == 1 else ""

    def named(key: str) -> str:
        if not unit or key in UNITLESS_KEYS:
            return key
        for end in ("_ci95_low", "_ci95_high", "_se"):
            if key.endswith(end) and key != "t_min_se":
                return f"{key.removesuffix(end)}{end}_{unit}"
        return f"{key}_{unit}"

    header = [
        "name",
        "layer",
        "frame",
        "fit",
        "rule",
        "unit",
        "particle",
        *map(named, PARTICLE_KEYS + _PAIR_KEYS),
    ]
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
            found = {} if particle is None else flatten_particle(particle, u)
            line = [row.name, row.layer, row.frame, numbers.get("fit"), numbers.get("pseudo_diameter_rule")]
            line += [u, None if particle is None else i + 1, *(found.get(key) for key in PARTICLE_KEYS)]
            line += [numbers.get(number_key(key, u)) for key in _PAIR_KEYS]
            line += [numbers.get("resolved"), numbers.get("refused"), row.note]
            lines.append([*line, *row.line[0], *row.line[1], row.width_px])
    return header, lines


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
