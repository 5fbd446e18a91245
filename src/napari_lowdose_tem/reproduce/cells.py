"""Paragraphs, tables and cells of a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"


def write_paragraph(text: str) -> str:
    """Put a paragraph on one line."""
    return " ".join(text.split())


def write_command(n: Mapping[str, Any]) -> str:
    """Write the command that makes the report."""
    words = ["lowdose-tem reproduce --out FOLDER"]
    if n["quick"]:
        words.append("--quick")
    if n["data"] is not None:
        words.append(f"--data {n['data']}")
    if n["model"]["name"] != "default":
        words.append(f"--model {n['model']['name']}")
    if n["seed"]:
        words.append(f"--seed {n['seed']}")
    return " ".join(words)


def show_image(n: Mapping[str, Any], name: str, caption: str) -> str:
    """Show a figure of the report."""
    return f"![{caption}]({n['images']}/reproduction-{name}.png)"


def write_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def unite(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Return the keys of both, those of `b` first."""
    return list(dict.fromkeys([*b, *a]))


def write_count(value: int | None) -> str:
    """Write a number of things."""
    return NONE if value is None else f"{value:,}"


def write_number(value: float | None, digits: int) -> str:
    """Write a number, or that there is none."""
    return NONE if value is None else f"{value:.{digits}f}"


def write_pair(values: Sequence[float | None] | None, digits: int) -> str:
    """Write a value and its error, where there is one."""
    if values is None or values[0] is None:
        return NONE
    error = "" if values[1] is None else f" ± {values[1]:.{digits}f}"
    return f"{values[0]:.{digits}f}{error}"


def write_range(values: Sequence[float]) -> str:
    """Write the two ends of a range."""
    return f"{values[0]:.2f} to {values[1]:.2f}"


def write_peaks(peaks: Sequence[Sequence[float]]) -> str:
    """Write positions of peaks, the background's first."""
    positions = [f"{peak[0]:.2f}" for peak in peaks]
    return "one, at " + positions[0] if len(positions) == 1 else " and ".join(positions)
