"""The reference of the command line, told by the program itself while the site is built."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.models import ArgumentInfo, CommandInfo, OptionInfo

from napari_lowdose_tem.cli import app

PAGE = "reference/commands"
MARK = "<!-- commands -->"
_KINDS = {int: "N", float: "X", Path: "PATH", bool: ""}


def describe() -> str:
    """Return all commands with their arguments and options, as Markdown."""
    return "\n".join(line for command in app.registered_commands for line in _iter_lines(command))


def _iter_lines(command: CommandInfo) -> Iterator[str]:
    function: Any = command.callback
    name = command.name or function.__name__.replace("_", "-")
    hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    usage, rows = ["lowdose-tem", name], []
    for key, parameter in inspect.signature(function).parameters.items():
        kind, info = typing.get_args(hints[key])
        needed = parameter.default is parameter.empty
        if isinstance(info, ArgumentInfo):
            shown = info.metavar or key.upper()
            usage.append(shown)
            rows.append(f"| `{shown}` | {_escape(info.help)} | |")
        elif isinstance(info, OptionInfo) and not info.hidden:
            names = _name_option(info) or [f"--{key.replace('_', '-')}"]
            value = _escape(info.metavar) or _name_kind(kind)
            if needed:
                usage.append(f"{names[0]} {value}")
            has_default = not needed and parameter.default not in (None, "") and kind is not bool
            default = f"`{parameter.default}`" if has_default else ""
            shown = ", ".join(f"`{one}`" for one in names) + (f" `{value}`" if value else "")
            rows.append(f"| {shown} | {_escape(info.help)} | {'to be given' if needed else default} |")
    yield from (f"## {name}", "", "```text", " ".join([*usage, "[OPTIONS]"]), "```", "")
    yield from (inspect.cleandoc(function.__doc__ or ""), "", "| | | default |", "|---|---|---|", *rows, "")


def _name_option(info: OptionInfo) -> list[str]:
    """Return the names it was given; within `Annotated` the first stands in the place of the default."""
    return [name for name in (info.default, *(info.param_decls or ())) if isinstance(name, str)]


def _name_kind(kind: Any) -> str:
    """Return a word for the values of a type, of `list[int]` and `int | None` that of `int`."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union, list):
        return _name_kind(next(one for one in typing.get_args(kind) if one is not type(None)))
    return _KINDS.get(kind, "TEXT")


def _escape(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _fill(_site: Any, page: str, source: list[str]) -> None:
    if page == PAGE:
        source[0] = source[0].replace(MARK, describe())


def setup(site: Any) -> dict[str, bool]:
    """Fill the page when Sphinx reads it."""
    site.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
