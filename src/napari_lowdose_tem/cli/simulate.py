"""Simulate data and run the whole path on it: `lowdose-tem simulate` and `lowdose-tem demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from napari_lowdose_tem.cli._app import DeviceOption, ModelOption, app, clear_errors, console, progress_bar


@app.command()
@clear_errors
def simulate(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; a folder per material is made in it.")
    ],
    material: Annotated[
        list[str] | None,
        typer.Option(help="Ni, FeNi, SiC, silicate or alumina; may be repeated. All by default."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="paper: the numbers of images of the paper's Table 1, at 5 to 10 e-/px; 20 GB."),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Share of the preset's fields, 1 at least each.")] = 1.0,
    part: Annotated[str | None, typer.Option(help="Of the preset: training or validation only.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Complete what was stopped.")] = False,
    pairs: Annotated[
        int, typer.Option(help="Fields of view per material: one HDE and two LDE files each.")
    ] = 10,
    frames: Annotated[int, typer.Option(help="Length of a movie per material.")] = 0,
    dose: Annotated[
        float | None, typer.Option(help="Electrons per LDE pixel; 5 by default, 5 to 10 in the preset.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other specimens and noise.")] = 0,
    pixel_size: Annotated[float, typer.Option(metavar="NM", help="LDE pixel size.")] = 3.0,
    lde_size: Annotated[int, typer.Option(metavar="PX", help="Side of the LDE frames.")] = 512,
    hde_size: Annotated[int, typer.Option(metavar="PX", help="Side of the HDE frames.")] = 4096,
) -> None:
    """Simulate HDE/LDE pairs and movies with known truth, in the layout of Katsuno et al."""
    from napari_lowdose_tem.simulate import MATERIALS, iter_dataset, iter_paper_dataset

    options: dict[str, Any] = {
        "seed": seed, "lde_px": lde_size, "hde_px": hde_size, "pixel_size_nm": pixel_size, "resume": resume,
    }  # fmt: skip
    if dose is not None:
        options["dose_e_per_px"] = dose
    if preset not in (None, "paper"):
        raise ValueError(f"unknown preset {preset!r}; there is paper")
    if preset is None:
        if part is not None or fraction != 1:
            raise ValueError("--part and --fraction are of a preset; add --preset paper")
        steps = iter_dataset(output, material or tuple(MATERIALS), pairs, frames, **options)
    else:
        if material or frames:
            raise ValueError(
                "the preset fixes materials and has no movies; leave out --material and --frames"
            )
        parts = ("training", "validation") if part is None else (part,)
        steps = iter_paper_dataset(output, fraction, parts, **options)
    with progress_bar("fields and frames") as bar:
        task = bar.add_task("simulating", total=None, rate="")
        for step in steps:
            bar.update(task, description=step.path.parent.name, completed=step.done, total=step.total)
    console.print(f"wrote {output}", highlight=False, soft_wrap=True)


@app.command()
@clear_errors
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the movies, figures and the table.")] = Path(
        "lowdose-demo"
    ),
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    frames: Annotated[int, typer.Option(min=2, help="Length of the movie.")] = 24,
) -> None:
    """Make a movie with known truth, enhance it and show how well that went; needs no data or network."""
    from napari_lowdose_tem.demo import iter_demo

    with progress_bar("steps") as bar:
        task = bar.add_task("starting", total=None, rate="")
        for step in iter_demo(out, model, device, frames):
            bar.update(task, description=step.stage, completed=round(step.done, 2), total=step.total)
    result = step.result
    if result is None:
        raise ValueError("the demo ended without a result")
    table = Table(f"{frames} frames, 5 e-/px, against the truth", "LDE", "enhanced")
    for row in result.rows():
        table.add_row(*row)
    console.print(table)
    console.print(f"{frames} frames at {result.frames_per_s:.1f}/s on {result.device}", highlight=False)
    for path in result.files:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
