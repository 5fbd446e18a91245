"""Kept measurements: the rows, and the Shapes layer whose metadata hold them; no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.widgets.shared.layers import KEY

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_lowdose_tem.measure.sphere_window import SphereFit

PARTICLE_KEYS = (
    "center", "center_se", "diameter", "diameter_se", "diameter_ci95_low", "diameter_ci95_high",
    "pseudo_diameter", "edge_total", "edge_per_side", "edge_sigma", "edge_10_90", "t_min", "t_min_se",
)  # fmt: skip
UNITLESS_KEYS = ("t_min", "t_min_se")


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


def rows_of(layer: Layer) -> tuple[Row, ...]:
    """Rows stored in a Shapes layer; what cannot be read is left out."""
    stored = layer.metadata.get(KEY, {}).get("line_profiles", {}).get("rows", ())
    rows = []
    for entry in stored:
        try:
            rows.append(row_from_json(entry))
        except ValueError:
            continue
    return tuple(rows)


def store_rows(layer: Layer, rows: Sequence[Row]) -> None:
    """Store rows in a Shapes layer, where copies and files of it keep them."""
    ours = dict(layer.metadata.get(KEY, {}))
    ours["line_profiles"] = {**ours.get("line_profiles", {}), "rows": [asdict(row) for row in rows]}
    layer.metadata = {**layer.metadata, KEY: ours}


def diameters(row: Row) -> list[tuple[float, float | None]]:
    """Diameters of a row's particles with their standard errors."""
    found = [flatten_particle(particle, row.unit) for particle in row.numbers.get("particles") or []]
    return [(p["diameter"], p.get("diameter_se")) for p in found if p.get("diameter") is not None]


def flatten_particle(particle: dict[str, Any], unit: str) -> dict[str, Any]:
    """Return what is known of a particle by `PARTICLE_KEYS`, without units."""
    found = {key: particle.get(number_key(key, unit)) for key in PARTICLE_KEYS}
    low_high = particle.get(f"diameter_ci95_{unit}") or (None, None)
    found["diameter_ci95_low"], found["diameter_ci95_high"] = low_high
    return found


def number_key(key: str, unit: str) -> str:
    """Return the name a number has in `Measurement.to_json`."""
    return key if key in UNITLESS_KEYS else f"{key}_{unit}"
