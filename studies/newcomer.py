"""Walk a newcomer's path with real mouse events and film it: open, enhance, compare, measure, save.

    xvfb-run -a -s "-screen 0 1600x1000x24" python studies/newcomer.py FOLDER

Moves the pointer of the display with xdotool, so that menus and docks get what a hand would give them, counts
the clicks, and saves a picture after each step into FOLDER, with a table of the steps.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["NAPARI_CONFIG"] = os.path.join(tempfile.mkdtemp(), "settings.yaml")  # a newcomer has none

import napari
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtWidgets import QApplication, QComboBox, QLineEdit, QMenu, QWidget

from napari_lowdose_tem.io import read

SIZE_PX = (1580, 960)
SUBMENU = "Enhance low-dose TEM"
KIND, WITHIN = "TEM image with calibration", Qt.MatchFlag.MatchContains


class Hand:
    """Moves the pointer, clicks and types; counts clicks and films."""

    def __init__(self, viewer: napari.Viewer, folder: Path) -> None:
        self.viewer, self.folder = viewer, folder
        self.window = viewer.window._qt_window
        self.clicks = 0
        self.steps: list[tuple[str, int]] = []

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 120) -> None:
        """Let the viewer work until a condition holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                self.film(f"stuck: {what}")
                raise TimeoutError(what)
            self.rest(0.02)

    def rest(self, seconds: float = 0.3) -> None:
        """Let the viewer work for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.005)

    def move(self, at: QPoint) -> None:
        """Move the pointer, in two steps as menus want to see it come."""
        for dx in (-2, 0):
            _do("mousemove", at.x() + dx, at.y())
            self.rest(0.1)

    def click(self, at: QPoint) -> None:
        """Press and release the left button."""
        self.move(at)
        _do("click", 1)
        self.clicks += 1
        self.rest()

    def drag(self, start: QPoint, stop: QPoint) -> None:
        """Move the pointer with the button held."""
        self.move(start)
        _do("mousedown", 1)
        self.rest(0.2)
        for i in range(1, 13):
            between = start + (stop - start) * (i / 12)
            _do("mousemove", between.x(), between.y())
            self.rest(0.05)
        _do("mouseup", 1)
        self.clicks += 1
        self.rest()

    def press(self, widget: QWidget) -> None:
        """Click a widget in its middle."""
        self.wait(lambda: widget.isVisible() and widget.isEnabled(), f"{widget} to be there")
        self.click(widget.mapToGlobal(widget.rect().center()))

    def choose(self, menu: str, *entries: str) -> None:
        """Open a menu of the menu bar, go through submenus with the pointer, click the last entry."""
        bar = self.window.menuBar()
        action = next(a for a in bar.actions() if a.text().replace("&", "") == menu)
        self.click(bar.mapToGlobal(bar.actionGeometry(action).center()))
        shown: QMenu = action.menu()
        for entry in entries:
            self.wait(shown.isVisible, f"menu {menu} to open")
            found = next(a for a in shown.actions() if a.text().replace("&", "").startswith(entry))
            at = shown.mapToGlobal(shown.actionGeometry(found).center())
            if entry == entries[-1]:
                self.click(at)
            else:
                self.move(at)
                shown = found.menu()
                self.wait(shown.isVisible, f"submenu {entry} to open")

    def locate(self, row: float, col: float) -> QPoint:
        """Find the place on the screen of a place in the world [nm]."""
        canvas = self.viewer.window._qt_viewer.canvas.native
        camera = self.viewer.scene.camera
        off = [(at - middle) * camera.zoom for at, middle in zip((row, col), camera.center[-2:], strict=True)]
        return canvas.mapToGlobal(canvas.rect().center()) + QPoint(round(off[1]), round(off[0]))

    def film(self, step: str) -> None:
        """Save what the screen shows."""
        self.rest(0.5)
        self.steps.append((step, self.clicks))
        name = f"{len(self.steps):02d} {step}.png".replace(" ", "-").replace(":", "")
        QApplication.primaryScreen().grabWindow(0).save(str(self.folder / name))

    def dock(self, title: str) -> QWidget:
        """Find the widget of a dock."""
        docks = self.viewer.window.dock_widgets
        return next(widget for name, widget in docks.items() if name.startswith(title))


def _do(*words: object) -> None:
    subprocess.run(["xdotool", *map(str, words)], check=True)


def walk(hand: Hand) -> None:
    """Walk the path."""
    viewer = hand.viewer
    hand.film("start")
    hand.choose("File", "Open Sample", SUBMENU, "Low-dose movie")
    hand.wait(lambda: len(viewer.layers) > 0, "the sample to open")
    hand.film("sample")
    hand.choose("Plugins", SUBMENU, "Enhance")
    hand.wait(lambda: any("enhanced" in layer.name for layer in viewer.layers), "the first enhanced frame")
    hand.rest(3)
    hand.film("first enhanced frame")
    hand.choose("Plugins", SUBMENU, "Compare")
    hand.rest(5)
    hand.film("compare")
    hand.choose("Plugins", SUBMENU, "Line profile")
    hand.rest(2)
    dock = hand.dock("Line profile")
    hand.press(dock.draw_button)
    row, col, diameter = find_lonely(viewer)
    # 20 % in, where a beginner's hand would put the ends
    hand.drag(hand.locate(row, col - 0.95 * diameter), hand.locate(row, col + 0.95 * diameter))
    curves = dock.control.state
    hand.wait(lambda: bool(curves.curves) and all(c.is_fresh for c in curves.curves), "the fit")
    hand.rest(2)
    hand.film("line")
    hand.press(dock.keep_button)
    hand.film("kept")
    viewer.layers.selection = {next(layer for layer in viewer.layers if "enhanced" in layer.name)}
    target = hand.folder.resolve() / "enhanced.tif"
    target.unlink(missing_ok=True)
    # the dialog waits for its answer, so that the hand's next moves must be on their way before
    QTimer.singleShot(4000, lambda: answer(hand, target))
    hand.choose("File", "Save Selected Layers")
    hand.film("save")
    hand.wait(target.exists, "the file to be saved")
    found = read(target)
    if found.pixel_size_nm != (3.0, 3.0) or "enhanced" not in found.provenance:
        raise RuntimeError(f"the saved file lost its calibration: {found.pixel_size_nm}")


def answer(hand: Hand, target: Path) -> None:
    """Choose the kind of file that keeps the calibration, type a name and confirm."""
    dialog = QApplication.activeModalWidget()
    kinds = next(box for box in dialog.findChildren(QComboBox) if box.findText(KIND, WITHIN) >= 0)
    hand.press(kinds)
    shown = kinds.view()
    entry = shown.visualRect(kinds.model().index(kinds.findText(KIND, WITHIN), 0))
    hand.click(shown.viewport().mapToGlobal(entry.center()))
    name = next(field for field in dialog.findChildren(QLineEdit) if field.objectName() == "fileNameEdit")
    hand.press(name)
    _do("key", "ctrl+a")
    _do("type", "--delay", 20, target)
    hand.film("file dialog")
    hand.rest(1)
    _do("key", "Return")


def find_lonely(viewer: napari.Viewer) -> tuple[float, float, float]:
    """Row, column and diameter [nm] of the particle in view that lies farthest from all others."""
    particles = viewer.layers["LDE movie"].metadata["truth"][viewer.dims.current_step[0]]
    middle, zoom = viewer.scene.camera.center[-2:], viewer.scene.camera.zoom
    half = [size / 2 / zoom for size in viewer.canvas.size]
    low = [max(m - h, 0) for m, h in zip(middle, half, strict=True)]
    ends = viewer.layers["LDE movie"].extent.world[1, -2:]
    high = [min(m + h, e) for m, h, e in zip(middle, half, ends, strict=True)]

    def room(p: dict[str, float]) -> float:
        apart = [
            math.dist((p["row_nm"], p["col_nm"]), (q["row_nm"], q["col_nm"]))
            - (p["diameter_nm"] + q["diameter_nm"]) / 2
            for q in particles
            if q is not p
        ]
        rim = min(p["row_nm"] - low[0], p["col_nm"] - low[1], high[0] - p["row_nm"], high[1] - p["col_nm"])
        return min(*apart, rim - p["diameter_nm"] / 2) if p["diameter_nm"] > 60 else -math.inf

    chosen = max(particles, key=room)
    return chosen["row_nm"], chosen["col_nm"], chosen["diameter_nm"]


def main() -> None:
    """Start napari and walk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer(show=True)
    window = viewer.window._qt_window
    window.move(0, 0)
    window.resize(*SIZE_PX)
    hand = Hand(viewer, folder)
    hand.rest(3)
    try:
        walk(hand)
    finally:
        for step, clicks in hand.steps:
            print(f"{clicks:3d} clicks  {step}")
        viewer.close()


if __name__ == "__main__":
    main()
