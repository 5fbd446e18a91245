"""Train models: `lowdose-tem train`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_lowdose_tem.cli._app import (
    EXIT_INTERRUPTED,
    DeviceOption,
    app,
    clear_errors,
    console,
    noting_signals,
    progress_bar,
    status,
)

if TYPE_CHECKING:
    from napari_lowdose_tem.train.config import TrainConfig


@app.command()
@clear_errors
def train(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder of HDE/LDE pairs or of HDE frames, a CSV or list of pairs, or the word simulator."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="MODEL.safetensors; state and losses are saved beside it.")
    ],
    recipe: Annotated[
        str, typer.Option(help="paper: as Katsuno et al. 2021; default, fast: as the models of that name.")
    ] = "paper",
    validation: Annotated[
        str | None, typer.Option(metavar="DATA", help="Data to validate on; a tenth of DATA otherwise.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Model to go on from, by name or file.")
    ] = None,
    encoder_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="ImageNet weights of ResNet-18, if none are cached."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes; the recipe's otherwise.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time to train for, instead of --epochs.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Frames a step; the recipe's otherwise.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size; the recipe's otherwise.")] = None,
    hde_factor: Annotated[
        int | None,
        typer.Option(min=1, help="HDE pixels along an LDE pixel, to train on HDE frames alone; 8 for 4096²."),
    ] = None,
    particles: Annotated[
        str, typer.Option(help="What simulated specimens show: any, amorphous or crystalline particles.")
    ] = "any",
    seed: Annotated[int, typer.Option(help="Another seed, another order, other noise.")] = 1,
    device: DeviceOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped training.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier training.")] = False,
) -> None:
    """Train on pairs of high- and low-dose frames; Ctrl-C stops it so that --resume goes on exactly."""
    from napari_lowdose_tem.train.config import TRAIN_RECIPES, TrainConfig

    if recipe not in TRAIN_RECIPES:
        raise ValueError(f"unknown recipe {recipe!r}; choose {' or '.join(TRAIN_RECIPES)}")
    if minutes is not None and (epochs is not None or minutes <= 0):
        raise ValueError("give either --epochs, or a positive number of --minutes")
    chosen = TRAIN_RECIPES[recipe]
    chosen = replace(
        chosen,
        epochs=epochs or chosen.epochs,
        batch=batch or chosen.batch,
        learning_rate=learning_rate or chosen.learning_rate,
        particles=particles,
    )
    config = TrainConfig(
        data, output, chosen, validation=validation, start=start, encoder_weights=encoder_weights,
        minutes=minutes, hde_factor=hde_factor, workers=None, seed=seed, device=device, resume=resume,
        overwrite=overwrite,
    )  # fmt: skip
    finished = _run(config)
    from napari_lowdose_tem.train.prepare import is_first_process
    from napari_lowdose_tem.train.record import Files

    if not is_first_process():
        return
    files = Files(output)
    for path in (files.best, files.last, files.table, files.figure):
        if path.exists():
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    if not finished:
        further = f"the same command with --resume goes on from {files.state}"
        status.print(
            f"stopped; {further if files.state.exists() else 'nothing was learnt yet'}", soft_wrap=True
        )
        raise typer.Exit(EXIT_INTERRUPTED)
    console.print(f"use it: lowdose-tem enhance IN -o OUT --model {output}", highlight=False, soft_wrap=True)


def _run(config: TrainConfig) -> bool:
    """Train with a progress bar; False when it was stopped, between two steps and saved."""
    from napari_lowdose_tem.train.loop import iter_train
    from napari_lowdose_tem.train.prepare import is_first_process

    said, talks = 0, is_first_process()
    with closing(iter_train(config)) as steps, noting_signals() as stopped, progress_bar("steps") as bar:
        task = bar.add_task("reading data", total=None, rate="", visible=talks)
        for step in steps:
            text, rate = "reading data", ""
            if step.stage == "training":
                text = f"epoch {step.epoch}/{step.epochs}"
                if step.history:
                    last = step.history[-1]
                    rate = f"training {last.training:.4f}, validation {last.validation:.4f} on {step.device}"
            if talks:
                bar.update(task, description=text, completed=step.step, total=step.steps, rate=rate)
                for note in step.notes[said:]:
                    status.print(note, highlight=False, soft_wrap=True)
                said = max(said, len(step.notes))
            if stopped:
                return step.stage == "training" and step.step == step.steps
    return True
