"""Time models on the processors there are: `lowdose-tem bench`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from napari_lowdose_tem.cli._app import (
    JsonOption,
    app,
    clear_errors,
    console,
    print_json,
    progress_bar,
)


@app.command()
@clear_errors
def bench(
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="auto, cuda, cuda:1, mps, xpu, openvino or cpu; may be repeated. All that work by default."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Model by name, or a .safetensors file; may be repeated. All three by default.",
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="auto, float32, bfloat16, float16 or int8; may be repeated. auto by default, with "
            "OpenVINO float32 and int8."
        ),
    ] = None,
    frames: Annotated[int, typer.Option(help="How many frames are timed.")] = 100,
    shape: Annotated[str, typer.Option(metavar="ROWSxCOLS", help="Size of the frames [px].")] = "512x512",
    no_stack: Annotated[
        bool, typer.Option("--no-stack", help="Leave out the stack from disk to disk.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Of the CPU; as many as torch takes by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write the table as a page, too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Time the models on every processor, as Table 3 of Katsuno et al., and a stack from disk to disk."""
    from napari_lowdose_tem.bench import BenchJob, iter_bench, write_report
    from napari_lowdose_tem.bench.job import MODELS
    from napari_lowdose_tem.bench.report import HEAD, explain, list_rows, tell

    if out is not None and out.suffix != ".md":
        raise ValueError(f"--out {out}: the page is Markdown; name it {out.with_suffix('.md').name}")
    job = BenchJob(
        devices=tuple(device or ()),
        models=tuple(model or MODELS),
        precisions=tuple(precision or ()),
        shape=_parse_shape(shape),
        frames=frames,
        stack=not no_stack,
        threads=threads,
    )
    result = None
    with progress_bar("frames") as bar:
        tasks = {}
        for step in iter_bench(job):
            result = step.result
            if result is not None:
                break
            if step.index not in tasks:
                tasks[step.index] = bar.add_task(step.name, rate="")
            if step.row is None:
                bar.update(tasks[step.index], completed=round(step.done), total=step.total)
    if result is None:
        raise ValueError("the timing ended without a result")
    numbers = result.to_json()
    if out is not None:
        from napari_lowdose_tem.io.output import write_text

        write_text(out, write_report(numbers))
    if as_json:
        print_json(numbers)
        return
    table = Table(*HEAD)
    for row in list_rows(numbers):
        table.add_row(*row)
    console.print(table)
    for line in (explain(numbers), *tell(numbers)):
        console.print(line, highlight=False)


def _parse_shape(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower().replace("×", "x"))
    if found is None:
        raise ValueError(f"--shape {text} is not a size like 512x512, rows first [px]")
    return int(found[1]), int(found[2])
