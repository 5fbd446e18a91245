"""Enhance frames as they come: `lowdose-tem watch`."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_lowdose_tem.cli._app import (
    DeviceOption,
    JsonOption,
    ModelOption,
    app,
    clear_errors,
    console,
    noting_signals,
    print_json,
    status,
)

if TYPE_CHECKING:
    from napari_lowdose_tem.live import LiveConfig, LiveStep, Source


@app.command()
@clear_errors
def watch(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Folder of single frames, or a growing .tif, .mrc or .zarr."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="OUT.ome.zarr, or a folder for TIFF files; else nothing is saved."
        ),
    ] = None,
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    save_all: Annotated[
        bool | None,
        typer.Option(
            "--save-all/--latest",
            help="All frames in order, or always the newest; all when there is an output.",
            show_default=False,
        ),
    ] = None,
    average: Annotated[
        float, typer.Option(metavar="S", min=0, help="Average over time; a frame S seconds old counts 1/e.")
    ] = 0.0,
    average_of: Annotated[str, typer.Option(help="Average enhanced or raw frames.")] = "enhanced",
    level: Annotated[str, typer.Option(help="Scale as the first frame, or each frame by itself.")] = "first",
    replay: Annotated[
        Path | None, typer.Option(metavar="STACK", help="Play a file instead, for practice.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Frames per second of the replay.")] = 30.0,
    until_idle: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="End when nothing came for S seconds.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an output that was ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Enhance what a camera program writes, as it comes; Ctrl-C ends it and what is written stays whole."""
    from napari_lowdose_tem.engine.options import EngineOptions
    from napari_lowdose_tem.live import LiveConfig

    frames = _open_source(source, replay, rate, output)
    with noting_signals() as stopped:
        config = LiveConfig(
            frames,
            engine=EngineOptions(model=model, device=device),
            save_all=output is not None if save_all is None else save_all,
            output=output,
            resume=resume,
            average_s=average,
            average_of=average_of,
            level=level,
            until_idle_s=until_idle,
            report_every_s=0.1,
            is_stopped=lambda: bool(stopped),
        )
        last = _run(config)
    if as_json:
        print_json(_as_json(last, config))
        return
    console.print(_summary(last), highlight=False, soft_wrap=True)
    if output is not None and last.saved:
        console.print(f"wrote {output}", highlight=False, soft_wrap=True)


def _open_source(source: Path | None, replay: Path | None, rate: float, output: Path | None) -> Source:
    from napari_lowdose_tem.io import read
    from napari_lowdose_tem.live import ReplaySource, open_source

    if (source is None) == (replay is None):
        raise ValueError("give a folder or growing file to watch, or --replay STACK")
    if replay is not None:
        return ReplaySource(read(replay), rate)
    if source is not None and output is not None and source.resolve() == output.resolve():
        raise ValueError(f"{output}: cannot write to the folder that is watched; choose another name")
    return open_source(source or Path(), ignore=output)


def _run(config: LiveConfig) -> LiveStep:
    """Run with a line that tells how it goes; returns the last report."""
    from napari_lowdose_tem.live import LiveStep, iter_live

    last, named, note = LiveStep(), 0, ""
    with closing(iter_live(config)) as steps, status.status("loading") as line:
        for step in steps:
            last = step
            for item in step.skipped[len(step.skipped) - min(step.n_skipped - named, len(step.skipped)) :]:
                status.print(f"skipped {item.name}: {item.reason}", highlight=False, soft_wrap=True)
            named = step.n_skipped
            if step.note != note and step.device:
                note = step.note
                status.print(note, highlight=False, soft_wrap=True)
            line.update(_line(step, config))
    return last


def _line(step: LiveStep, config: LiveConfig) -> str:
    if not step.device:
        return step.note
    if not step.enhanced:
        return f"waiting for frames from {config.source.path or config.source.name}"
    parts = [
        f"{step.frames_per_s:.1f} frames/s",
        f"latency {_ms(step.latency_ms_p50)} (p99 {_ms(step.latency_ms_p99)})",
        f"{step.enhanced} of {step.arrived} enhanced",
        f"{step.waiting} waiting" if config.save_all else f"{step.dropped} dropped",
    ]
    if step.n_skipped:
        parts.append(f"{step.n_skipped} skipped")
    return f"{' · '.join(parts)} on {step.device}"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.0f} s"


def _summary(step: LiveStep) -> str:
    skipped = f", {step.n_skipped} skipped" if step.n_skipped else ""
    counts = f"{step.arrived} frames came: {step.enhanced} enhanced, {step.dropped} dropped{skipped}"
    if not step.enhanced:
        return counts
    return (
        f"{counts}; latency {_ms(step.latency_ms_p50)}, p99 {_ms(step.latency_ms_p99)}, of the last 1000, "
        f"on {step.device}"
    )


def _as_json(step: LiveStep, config: LiveConfig) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return round(value, 3) if math.isfinite(value) else None

    return {
        "source": config.source.path or config.source.name,
        "output": str(config.output) if config.output else None,
        "arrived": step.arrived,
        "enhanced": step.enhanced,
        "dropped": step.dropped,
        "saved": step.saved,
        "skipped": [{"name": item.name, "reason": item.reason} for item in step.skipped],
        "n_skipped": step.n_skipped,
        "latency_ms_p50": number(step.latency_ms_p50),
        "latency_ms_p99": number(step.latency_ms_p99),
        "elapsed_s": number(step.elapsed_s),
        "device": step.device,
    }
