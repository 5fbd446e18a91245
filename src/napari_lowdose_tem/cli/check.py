"""Look at a data set before training on it: `lowdose-tem check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from napari_lowdose_tem.cli._app import (
    EXIT_BAD_INPUT,
    JsonOption,
    app,
    clear_errors,
    console,
    print_json,
    progress_bar,
    status,
)


@app.command()
@clear_errors
def check(
    data: Annotated[
        Path, typer.Argument(help="Folder of HDE and LDE frames, a CSV of pairs, or a list of crops.")
    ],
    validation: Annotated[
        Path | None, typer.Option(help="Data to validate on; no file may be in both.")
    ] = None,
    hde_factor: Annotated[
        int | None,
        typer.Option(min=1, help="HDE pixels along an LDE pixel, for HDE frames alone; 8 for 4096²."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what is wrong with a data set before hours are spent on it. Status 2 if something is."""
    from napari_lowdose_tem.pairs import iter_check

    last = None
    with progress_bar("fields") as bar:
        task = bar.add_task("checking", total=None, rate="")
        for last in iter_check(data, validation, hde_factor):
            bar.update(task, completed=last.done, total=last.total)
    if last is None or last.summary is None:
        raise ValueError(f"{data}: the check ended without a result")
    if as_json:
        print_json(last.to_json())
    else:
        if last.findings:
            table = Table("", "file", "what", "what to do")
            for finding in last.findings:
                table.add_row(finding.severity, _relative(finding.path, data), finding.what, finding.remedy)
            console.print(table)
        summary = last.summary
        shift = f"{_number(summary.median_shift_px, 'px')} ({_number(summary.median_shift_nm, 'nm')})"
        console.print(
            f"{summary.fields} fields, {summary.usable} pairs usable, {summary.refused} refused; "
            f"median shift {shift}, median dose {_number(summary.median_dose_e_per_px, 'e-/px')}",
            highlight=False,
            soft_wrap=True,
        )
    if not last.summary.ok:
        errors = [finding for finding in last.findings if finding.severity == "error"]
        first = f"{errors[0].path}: {errors[0].what}; {errors[0].remedy}"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        status.print(f"error: {first}{more}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_BAD_INPUT)


def _relative(path: Path, data: Path) -> str:
    place = data.resolve()
    return str(path.relative_to(place)) if path.is_relative_to(place) and path != place else str(path)


def _number(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.3g} {unit}"
