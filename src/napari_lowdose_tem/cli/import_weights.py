"""Take over published weights: `lowdose-tem import-weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_lowdose_tem.cli._app import app, clear_errors, console


@app.command("import-weights")
@clear_errors
def import_weights(
    source: Annotated[
        Path, typer.Argument(metavar="PARAMS.pth", help="Weights as the authors published them.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file, NAME.safetensors.")],
    recipe: Annotated[
        str, typer.Option(help="Preprocessing they were trained with: paper (2021) or followup (2023).")
    ] = "paper",
    name: Annotated[str, typer.Option(help="Name in the file's header; that of the file by default.")] = "",
    licence: Annotated[
        str, typer.Option(help="Licence of the weights; that of the authors' repository.")
    ] = "MIT",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Make a model file of published PyTorch weights; no code in them is run."""
    from napari_lowdose_tem.network.import_weights import import_weights as convert

    path = convert(source, output, recipe, overwrite, name, licence)
    console.print(f"wrote {path}; use it with --model {path}", highlight=False, soft_wrap=True)
