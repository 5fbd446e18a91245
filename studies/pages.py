"""Where a study leaves its numbers and its page, and how it lays out a table."""

from __future__ import annotations

import argparse
from pathlib import Path

NUMBERS = Path(__file__).parent
PAGES = NUMBERS.parent / "docs"


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add `--out FOLDER` to a study's options."""
    parser.add_argument(
        "--out", type=Path, help="folder for numbers, page and pictures; without it studies/ and docs/"
    )


def choose_folders(out: Path | None) -> tuple[Path, Path]:
    """Return the folder for numbers and the folder for the page with its images/, both there."""
    numbers, pages = (NUMBERS, PAGES) if out is None else (out, out)
    numbers.mkdir(parents=True, exist_ok=True)
    (pages / "images").mkdir(parents=True, exist_ok=True)
    return numbers, pages


def tabulate(head: list[str], rows: dict[str, list[str]]) -> str:
    """Lay out a Markdown table."""
    lines = [["", *head], ["---"] * (len(head) + 1), *([name, *cells] for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
