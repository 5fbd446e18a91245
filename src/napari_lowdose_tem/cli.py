"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from napari_lowdose_tem import __version__

if TYPE_CHECKING:
    from napari_lowdose_tem.image import Image

P = ParamSpec("P")
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="lowdose-tem",
    help="Enhance low-dose TEM frames and movies to high-dose clarity.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# no markup: file names and advice may hold brackets
console = Console(markup=False)
# progress and errors go to stderr, so that stdout can be piped and --json prints one object alone
status = Console(stderr=True, markup=False)

ModelOption = Annotated[str, typer.Option("--model", "-m", help="Model by name, or a .safetensors file.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cuda, cuda:1, mps, xpu or cpu.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def main() -> None:
    """Run the program."""
    app()


def _clear_errors(command: Callable[P, None]) -> Callable[P, None]:
    """End a command on bad input with one line and status 2, never a traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            kept = "; finished frames are kept, the same command with --resume continues"
            status.print("interrupted" + (kept if "resume" in kwargs else ""))
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except (ValueError, OSError, MemoryError, ImportError) as err:
            status.print(f"error: {_one_line(err)}", style="red", highlight=False, soft_wrap=True)
            raise typer.Exit(EXIT_BAD_INPUT) from None

    return wrapped


def _one_line(err: Exception) -> str:
    text = str(err)
    if isinstance(err, OSError) and err.strerror:  # without "[Errno 28]"
        text = err.strerror
        if err.filename and str(err.filename) not in text:
            text = f"{err.filename}: {text}"
    return " ".join(text.split()) or type(err).__name__


@contextmanager
def _progress_bar(unit: str) -> Iterator[Progress]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}  {{task.fields[rate]}}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=status, transient=not status.is_terminal) as bar:
        yield bar


def _print_json(report: Any) -> None:
    sys.stdout.write(json.dumps(report, indent=2, allow_nan=False) + "\n")


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"lowdose-tem {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
@_clear_errors
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
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    frames: Annotated[str, typer.Option(metavar="A:B", help="Only frames A to B-1, counted from 0.")] = ":",
    dark: Annotated[Path | None, typer.Option(help="Dark reference to subtract.")] = None,
    pixel_size: Annotated[
        float | None, typer.Option(metavar="NM", help="Pixel size where the file has none.")
    ] = None,
    tile: Annotated[int | None, typer.Option(metavar="PX", help="Longest side processed at once.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted output.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
) -> None:
    """Enhance frames or stacks; calibration and provenance are kept."""
    from napari_lowdose_tem.enhance import EnhanceJob

    targets = _match_outputs(inputs, output)
    note = ""  # why there is no faster device: said once
    for path, target in zip(inputs, targets, strict=True):
        if resume and not overwrite and _is_complete(target, path, model):
            console.print(f"{target} is complete already", highlight=False, soft_wrap=True)
            continue
        image = _read_input(path, dark, pixel_size)
        first, last = _parse_frames(frames, image.n_frames)
        job = EnhanceJob(
            image, model, device, precision, target, first, last, tile, resume=resume, overwrite=overwrite
        )
        note = _run_enhance(job, note)
        console.print(f"wrote {target}", highlight=False, soft_wrap=True)


def _read_input(path: Path, dark: Path | None, pixel_size_nm: float | None) -> Image:
    from dataclasses import replace

    from napari_lowdose_tem.io import read

    image = read(path)
    if dark is not None:
        from napari_lowdose_tem.preprocess import subtract_dark

        image = subtract_dark(image, read(dark))
    return image if pixel_size_nm is None else replace(image, pixel_size_nm=(pixel_size_nm, pixel_size_nm))


def _match_outputs(inputs: list[Path], output: Path) -> list[Path]:
    from napari_lowdose_tem.io import WRITABLE_SUFFIXES

    names_file = output.name.lower().endswith(WRITABLE_SUFFIXES)
    if len(inputs) == 1 and names_file:
        return [output]
    if names_file or output.is_file():
        raise ValueError(f"{len(inputs)} inputs need a folder as output, not {output}")
    if len(inputs) == 1 and output.suffix:
        raise ValueError(f"cannot write {output}: use one of {' '.join(WRITABLE_SUFFIXES)}, or name a folder")
    targets = [output / f"{_stem(path)}_enhanced.tif" for path in inputs]
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
    from napari_lowdose_tem.model import find_model

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
    from napari_lowdose_tem.enhance import iter_enhance

    with _progress_bar("frames") as bar:
        task = bar.add_task(job.image.name, total=None, rate="")
        for step in iter_enhance(job):
            rate = f"{step.frames_per_s:.1f}/s on {step.device}"
            bar.update(task, total=step.total, completed=round(step.done, 2), rate=rate)
            if step.note != note:
                status.print(f"on {step.device} ({step.note})", highlight=False, soft_wrap=True)
                note = step.note
    return note


@app.command()
@_clear_errors
def simulate(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; a folder per material is made in it.")
    ],
    material: Annotated[
        list[str] | None,
        typer.Option(help="Ni, FeNi, SiC, silicate or alumina; may be repeated. All by default."),
    ] = None,
    pairs: Annotated[
        int, typer.Option(help="Fields of view per material: one HDE and two LDE files each.")
    ] = 10,
    frames: Annotated[int, typer.Option(help="Length of a movie per material.")] = 0,
    dose: Annotated[float, typer.Option(help="Electrons per LDE pixel.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Another seed, other specimens and noise.")] = 0,
    pixel_size: Annotated[float, typer.Option(metavar="NM", help="LDE pixel size.")] = 3.0,
    lde_size: Annotated[int, typer.Option(metavar="PX", help="Side of the LDE frames.")] = 512,
    hde_size: Annotated[int, typer.Option(metavar="PX", help="Side of the HDE frames.")] = 4096,
) -> None:
    """Simulate HDE/LDE pairs and movies with known truth, in the layout of Katsuno et al."""
    from napari_lowdose_tem.simulate import MATERIALS, iter_dataset

    steps = iter_dataset(
        output, material or tuple(MATERIALS), pairs, frames,
        dose_e_per_px=dose, seed=seed, lde_px=lde_size, hde_px=hde_size, pixel_size_nm=pixel_size,
    )  # fmt: skip
    with _progress_bar("fields and frames") as bar:
        task = bar.add_task("simulating", total=None, rate="")
        for step in steps:
            bar.update(task, description=step.path.parent.name, completed=step.done, total=step.total)
    console.print(f"wrote {output}", highlight=False, soft_wrap=True)


@app.command()
@_clear_errors
def evaluate(
    data: Annotated[
        Path, typer.Argument(help="A folder per material of HDE and LDE files, or one such folder.")
    ],
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Score a model on pairs as in Table 2 of Katsuno et al.: MAE and PSNR, raw and affine-fitted, SSIM."""
    from napari_lowdose_tem.evaluate import iter_evaluate

    result = None
    with _progress_bar("frames") as bar:
        task = bar.add_task("evaluating", total=None, rate="")
        for step in iter_evaluate(data, model, device):
            bar.update(task, completed=step.done, total=step.total)
            result = step.result
    if result is None:
        raise ValueError(f"{data}: the evaluation ended without a result")
    if as_json:
        _print_json(result.to_json())
        return
    table = Table("set", "n", "MAE", "PSNR (dB)", "MAE, fitted", "PSNR, fitted (dB)", "SSIM")
    for name, row in (*result.sets.items(), ("all", result.overall)):
        table.add_row(
            name,
            str(row.n),
            _mean_sd(row.mae_mean, row.mae_sd, 3),
            _mean_sd(row.psnr_mean, row.psnr_sd, 2),
            _mean_sd(row.affine_mae_mean, None, 3),
            _mean_sd(row.affine_psnr_mean, None, 2),
            _mean_sd(row.ssim_mean, None, 3),
        )
    console.print(table)


def _mean_sd(mean: float | None, sd: float | None, digits: int) -> str:
    if mean is None:
        return "-"
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd is not None else "")


@app.command()
@_clear_errors
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

    with _progress_bar("steps") as bar:
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


@app.command()
@_clear_errors
def doctor(as_json: JsonOption = False) -> None:
    """Check versions, processors and models, and say what to do about what is missing."""
    from napari_lowdose_tem.doctor import examine

    report = examine()
    if as_json:
        _print_json(report)
        return
    console.print(
        f"napari-lowdose-tem {report['napari-lowdose-tem']}, Python {report['python']}, {report['system']}"
    )
    packages = Table("package", "version")
    for name, found in report["packages"].items():
        packages.add_row(name, found or "not installed")
    devices = Table("device", "works", "name", "precision", "remark")
    for entry in report["devices"]:
        works = "yes" if entry["works"] else "no"
        devices.add_row(entry["kind"], works, entry["name"] or "", entry["precision"] or "", entry["reason"])
    models = Table("model", "network", "file")
    for entry in report["models"]:
        models.add_row(entry["name"], entry["architecture"], entry["path"])
    for table in (packages, devices, models):
        console.print(table)
    console.print(f"frames are enhanced on: {report['chosen']}", highlight=False)
    for line in report["advice"]:
        console.print(f"- {line}", highlight=False)
