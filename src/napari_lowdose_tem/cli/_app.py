"""What all commands share: the program, its options, progress bars and errors in one line."""

from __future__ import annotations

import functools
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ParamSpec

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

from napari_lowdose_tem import __version__

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
DeviceOption = Annotated[str, typer.Option(help="auto, cuda, cuda:1, mps, xpu, openvino or cpu.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def clear_errors(command: Callable[P, None]) -> Callable[P, None]:
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
def progress_bar(unit: str) -> Iterator[Progress]:
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


@contextmanager
def noting_signals() -> Iterator[list[int]]:
    """Note the first Ctrl-C or request to end, to stop between two steps; a second one means at once."""
    received: list[int] = []

    def note(number: int, _: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def print_json(report: Any) -> None:
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
