"""Make the paper's figures and tables anew: `lowdose-tem reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_lowdose_tem.cli._app import (
    DeviceOption,
    JsonOption,
    ModelOption,
    app,
    clear_errors,
    console,
    print_json,
    progress_bar,
)

_DOING = {
    "losses": "Fig. 2",
    "sets": "Tables 1 and 2, Fig. 3",
    "example": "Figs. 4 to 7",
    "repeats": "Figs. 6 and 7, repeated",
    "timing": "Table 3",
    "report": "report",
}


@app.command()
@clear_errors
def reproduce(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report and its figures.")],
    quick: Annotated[bool, typer.Option("--quick", help="A few small fields: within a minute.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The authors' data set, or your own in its layout, not simulated."
        ),
    ] = None,
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    work: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="For simulated frames, 2.6 GB, and finished parts; OUT/work otherwise."
        ),
    ] = None,
    training_log: Annotated[
        Path | None, typer.Option(metavar="CSV", help="MODEL.losses.csv of a training of yours, for Fig. 2.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other specimens and noise.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Make finished parts again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make Figs. 2 to 7 and Tables 1 to 3 of Katsuno et al. anew, beside the paper's numbers, as one report.

    On simulated sets in the paper's numbers it takes about a quarter of an hour on one core; stopped, the
    same command goes on.
    """
    from napari_lowdose_tem.reproduce import ReproduceJob, iter_reproduce

    job = ReproduceJob(out, quick, data, model, device, work, training_log, seed, again)
    result = None
    with progress_bar("") as bar:
        tasks = {}
        for step in iter_reproduce(job):
            if step.part not in tasks:
                tasks[step.part] = bar.add_task(_DOING[step.part], rate="")
            bar.update(tasks[step.part], completed=round(step.done), total=round(step.total))
            result = step.result
    if as_json:
        print_json(result)
        return
    for name in ("reproduction.md", "reproduction.json", "images"):
        console.print(f"wrote {out / name}", highlight=False, soft_wrap=True)
