"""Enhance files: `lowdose-tem enhance`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_lowdose_tem.cli._app import (
    DeviceOption,
    ModelOption,
    app,
    clear_errors,
    console,
    progress_bar,
    status,
)

if TYPE_CHECKING:
    from napari_lowdose_tem.image import Image


@app.command()
@clear_errors
def enhance(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN…", help="Files, or folders of numbered frames.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="OUT.tif, OUT.ome.tif or OUT.ome.zarr; a folder for several inputs."
        ),
    ],
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16 or int8.")] = "auto",
    frames: Annotated[str, typer.Option(metavar="A:B", help="Only frames A to B-1, counted from 0.")] = ":",
    dark: Annotated[Path | None, typer.Option(help="Dark reference to subtract.")] = None,
    pixel_size: Annotated[
        float | None, typer.Option(metavar="NM", help="Pixel size where the file has none.")
    ] = None,
    tile: Annotated[int | None, typer.Option(metavar="PX", help="Longest side processed at once.")] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Compute on this dask cluster, into an OME-Zarr that all workers see.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted output.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Enhance frames or stacks; calibration and provenance are kept."""
    from napari_lowdose_tem.engine.options import EngineOptions
    from napari_lowdose_tem.enhancement import EnhanceJob

    targets = _match_outputs(inputs, output, ".tif" if scheduler is None else ".ome.zarr")
    note = ""  # why there is no faster device: said once
    for path, target in zip(inputs, targets, strict=True):
        if resume and not overwrite and _is_complete(target, path, model):
            console.print(f"{target} is complete already", highlight=False, soft_wrap=True)
            continue
        image = _read_input(path, dark, pixel_size)
        first, last = _parse_frames(frames, image.n_frames)
        job = EnhanceJob(
            image,
            engine=EngineOptions(model=model, device=device, precision=precision, tile_px=tile),
            output=target,
            first=first,
            last=last,
            resume=resume,
            overwrite=overwrite,
            scheduler=scheduler,
        )
        note = _run_enhance(job, note)
        console.print(f"wrote {target}", highlight=False, soft_wrap=True)


def _read_input(path: Path, dark: Path | None, pixel_size_nm: float | None) -> Image:
    from dataclasses import replace

    from napari_lowdose_tem.io import read

    image = read(path)
    if dark is not None:
        from napari_lowdose_tem.camera.dark import subtract_dark

        image = subtract_dark(image, read(dark))
    return image if pixel_size_nm is None else replace(image, pixel_size_nm=(pixel_size_nm, pixel_size_nm))


def _match_outputs(inputs: list[Path], output: Path, suffix: str) -> list[Path]:
    from napari_lowdose_tem.io import WRITABLE_SUFFIXES

    names_file = output.name.lower().endswith(WRITABLE_SUFFIXES)
    if len(inputs) == 1 and names_file:
        return [output]
    if names_file or output.is_file():
        raise ValueError(f"{len(inputs)} inputs need a folder as output, not {output}")
    if len(inputs) == 1 and output.suffix:
        raise ValueError(f"cannot write {output}: use one of {' '.join(WRITABLE_SUFFIXES)}, or name a folder")
    targets = [output / f"{_stem(path)}_enhanced{suffix}" for path in inputs]
    if len(set(targets)) < len(targets):
        raise ValueError(
            "some inputs share a name, so their outputs would overwrite each other; run them apart"
        )
    output.mkdir(parents=True, exist_ok=True)
    return targets


def _stem(path: Path) -> str:
    from napari_lowdose_tem.io import READABLE_SUFFIXES

    name = path.resolve().name
    if name.lower().endswith(READABLE_SUFFIXES):
        name = name[: name.rindex(".")]
    return name[:-4] if name.lower().endswith(".ome") else name


def _is_complete(target: Path, source: Path, model: str) -> bool:
    """Tell whether an output exists already, and refuse one made from something else."""
    if not target.exists():
        return False
    from napari_lowdose_tem.io import read
    from napari_lowdose_tem.network.model_file import find_model

    made = read(target).provenance.get("enhanced", {})
    wanted = {"source": read(source).provenance.get("source"), "model_sha256": find_model(model).sha256}
    if any(made.get(key) != value for key, value in wanted.items()):
        origin = made.get("source", "something else")
        raise ValueError(f"{target} exists already, made from {origin}; choose another output")
    return True


def _parse_frames(text: str, n_frames: int) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return int(first or 0), int(last or n_frames)
    except ValueError:
        raise ValueError(f"--frames {text} is not a range like 0:100") from None


def _run_enhance(job: Any, note: str) -> str:
    """Run with a progress bar; returns the remark on the device, printed unless it is `note`."""
    from napari_lowdose_tem.enhancement import iter_enhance

    with progress_bar("frames") as bar:
        task = bar.add_task(job.image.name, total=None, rate="")
        for step in iter_enhance(job):
            rate = f"{step.frames_per_s:.1f}/s on {step.device}"
            bar.update(task, total=step.total, completed=round(step.done, 2), rate=rate)
            if step.note != note:
                status.print(f"on {step.device} ({step.note})", highlight=False, soft_wrap=True)
                note = step.note
    return note
