"""Keeping measurements in the layer of their lines, and writing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_lowdose_tem.measure.sphere_window import SphereFit
from napari_lowdose_tem.widgets.profile.kept_csv import write_csv
from napari_lowdose_tem.widgets.profile.kept_rows import Row, numbers_of_counts, rows_of, store_rows
from napari_lowdose_tem.widgets.profile.lines import LineLayers
from napari_lowdose_tem.widgets.profile.lines_file import ENDING, write_lines
from napari_lowdose_tem.widgets.profile.state import HOW_TO_DRAW, ProfileState
from napari_lowdose_tem.widgets.shared.worker import error_line


class KeptMeasurements:
    """Keeps, edits and writes measurements; what happened is told in the dock's state.

    Parameters
    ----------
    state
        State of the dock.
    lines
        The lines; their layer holds the rows.
    """

    def __init__(self, state: ProfileState, lines: LineLayers) -> None:
        self._state, self._lines = state, lines

    def show(self) -> None:
        """Show the rows of the layer of lines."""
        self._state.rows = () if self._lines.layer is None else rows_of(self._lines.layer)

    def add(self, name: str, frames: Mapping[str, int | None], counts: SphereFit | None = None) -> None:
        """Add what is measured now, a row for each layer and one for the raw counts.

        `frames` says which frame a role shows.
        """
        rows = []
        for curve in self._state.curves:
            if curve.profile is not None and curve.measurement is not None and curve.is_fresh:
                line = curve.profile.line
                place, numbers = (line.start, line.stop), curve.measurement.to_json()
                frame = frames.get(curve.role)
                row = Row(name, curve.layer, curve.role, frame, place, line.width_px, numbers)
                rows.append(row)
                if curve.role == "LDE" and counts is not None:
                    rows.append(replace(row, numbers=numbers_of_counts(counts)))
        if not rows:
            self._state.report("Nothing measured yet; draw a line first.", True)
            return
        self._store((*self._state.rows, *rows))
        self._state.report(f"{len(rows)} measurement{'s' * (len(rows) > 1)} kept.")

    def edit(self, index: int, *, name: str | None = None, note: str | None = None) -> None:
        """Change the name or the note of a row."""
        rows = list(self._state.rows)
        row = rows[index]
        rows[index] = replace(
            row, name=row.name if name is None else name, note=row.note if note is None else note
        )
        self._store(tuple(rows))

    def delete(self, indices: Sequence[int]) -> None:
        """Delete rows."""
        self._store(tuple(row for i, row in enumerate(self._state.rows) if i not in set(indices)))

    def save_table(self, path: Path) -> None:
        """Write the table as CSV."""
        self._write(path, lambda: write_csv(path, self._state.rows))

    def save_lines(self, path: Path) -> None:
        """Write the lines with all rows as JSON, to be opened again."""
        path = path.with_name(path.name.removesuffix(".json").removesuffix(".lines") + ENDING)
        if self._lines.layer is None:
            self._state.report(HOW_TO_DRAW, True)
            return
        data, attributes, _ = self._lines.layer.as_layer_data_tuple()
        self._write(path, lambda: write_lines(str(path), data, attributes))

    def save_over_time(self, path: Path) -> None:
        """Write the table over time as CSV."""
        if self._state.over_time is not None:
            self._write(path, lambda: self._state.over_time.write_csv(path))

    def save_figure(self, path: Path, pixels: Mapping[str, Any]) -> None:
        """Write the profiles and where they were taken; `pixels` are the frames of the roles."""
        from napari_lowdose_tem.figures import profile as figure

        panels = [
            figure.ProfilePanel(c.layer, pixels[c.role], c.profile, c.measurement if c.is_fresh else None)
            for c in self._state.curves
            if c.profile is not None and c.role in pixels
        ]
        if not panels:
            self._state.report(HOW_TO_DRAW, True)
            return
        scale, layout = self._state.scale, self._state.layout
        self._write(path, lambda: figure.save(figure.draw(panels, scale=scale, layout=layout), path))

    def _store(self, rows: tuple[Row, ...]) -> None:
        if self._lines.layer is not None:
            store_rows(self._lines.layer, rows)
            self.show()

    def _write(self, path: Path, write: Callable[[], Any]) -> None:
        try:
            write()
        except (OSError, ValueError) as error:
            self._state.report(error_line(error), True)
        else:
            self._state.report(f"Saved: {path}")
