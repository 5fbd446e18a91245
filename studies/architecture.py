"""Draw docs/images/architecture.png, the rooms of the program and who imports whom, from the imports.

    python studies/architecture.py [--out FOLDER]

A room is a module or folder of the package. It stands above everything it imports, so that all arrows point
down; arrows that other arrows imply (a room imported by a room that is imported) are left out.
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

import napari_lowdose_tem
from pages import add_out, choose_folders

PACKAGE = "napari_lowdose_tem"
SOURCE = Path(napari_lowdose_tem.__file__).parent
Arrows = dict[str, set[str]]

WIDTH, HEIGHT = 1.5, 0.62  # of a room, in units of the distance of two rooms and two floors
COLOURS = {"widgets": "#cfe3f7", "cli": "#cfe3f7", "network": "#fbe3c4", "engine": "#fbe3c4"}


def find_arrows() -> tuple[Arrows, dict[str, int]]:
    """Return which rooms each room imports, and the lines of code of each."""
    arrows: Arrows = {}
    lines: dict[str, int] = defaultdict(int)
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        text = path.read_text("utf-8")
        lines[room] += text.count("\n")
        targets = arrows.setdefault(room, set())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE}."):
                targets.add((node.module or "").split(".")[1])
        targets.discard(room)
    return arrows, dict(lines)


def place_on_floors(arrows: Arrows) -> dict[str, int]:
    """Return the floor of each room: one above the highest room it imports."""
    floors: dict[str, int] = {}

    def floor_of(room: str) -> int:
        if room not in floors:
            floors[room] = 1 + max((floor_of(other) for other in arrows[room]), default=-1)
        return floors[room]

    for room in arrows:
        floor_of(room)
    return floors


def leave_out_implied(arrows: Arrows) -> Arrows:
    """Return the arrows without those that lead where a chain of others leads."""

    def reach(room: str) -> set[str]:
        return arrows[room].union(*(reach(other) for other in arrows[room]))

    return {
        room: {one for one in others if not any(one in reach(other) for other in others - {one})}
        for room, others in arrows.items()
    }


def draw(path: Path) -> None:
    """Draw the picture."""
    arrows, lines = find_arrows()
    floors = place_on_floors(arrows)
    places = {}
    for floor in range(max(floors.values()) + 1):
        rooms = sorted(room for room in floors if floors[room] == floor)
        for i, room in enumerate(rooms):
            places[room] = ((i - (len(rooms) - 1) / 2) * 2.0, float(floor))
    figure = Figure((8.4, 0.72 * (max(floors.values()) + 1)), layout="constrained")
    axes = figure.add_subplot()
    for room, others in leave_out_implied(arrows).items():
        for other in others:
            (x, y), (to_x, to_y) = places[room], places[other]
            axes.annotate(
                "",
                (to_x, to_y + HEIGHT / 2),
                (x, y - HEIGHT / 2),
                arrowprops={"arrowstyle": "-|>", "color": "0.55", "lw": 0.9, "shrinkA": 0, "shrinkB": 0},
            )
    for room, (x, y) in places.items():
        axes.text(
            x,
            y,
            f"{room}\n{lines[room]:,} lines",
            ha="center",
            va="center",
            fontsize=8.5,
            linespacing=1.3,
            bbox={"boxstyle": "round,pad=0.35", "fc": COLOURS.get(room, "#eef0f2"), "ec": "0.45", "lw": 0.8},
        )
    reach = max(abs(x) for x, _ in places.values()) + WIDTH / 2
    axes.set(xlim=(-reach, reach), ylim=(-0.5, max(floors.values()) + 0.5))
    axes.axis("off")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Draw it where the pages are, or where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_out(parser)
    draw(choose_folders(parser.parse_args().out)[1] / "images" / "architecture.png")


if __name__ == "__main__":
    main()
