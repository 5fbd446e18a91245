"""Make the pictures of the docks in docs/images: `xvfb-run -a python docs/screenshots.py [FRAME]`.

Without the path of a low-dose frame the sample data are shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

PLUGIN = "napari-lowdose-tem"
IMAGES = Path(__file__).parent / "images"
SIZE_PX = (1360, 860)


def wait(condition: Callable[[], bool], timeout_s: float = 600) -> None:
    """Let the viewer work until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the viewer did not get there")
        QApplication.processEvents()
        time.sleep(0.01)


def shoot(viewer: napari.Viewer, name: str) -> None:
    """Save the window."""
    viewer.fit_to_view()
    for _ in range(5):  # let it draw
        QApplication.processEvents()
    IMAGES.mkdir(exist_ok=True)
    viewer.screenshot(str(IMAGES / f"{name}.png"), canvas_only=False, flash=False)


def main(frame: str | None) -> None:
    """Make all pictures."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE_PX)
    if frame:
        viewer.open(frame, plugin=PLUGIN)
    else:
        viewer.open_sample(PLUGIN, "pair")
    _, load = viewer.window.add_plugin_dock_widget(PLUGIN, "Load")
    wait(lambda: load.control.state.mean_counts is not None)
    shoot(viewer, "load")
    viewer.window.remove_dock_widget(load)

    _, enhance = viewer.window.add_plugin_dock_widget(PLUGIN, "Enhance")
    state = enhance.control.state
    wait(lambda: state.live_text.endswith("enhanced.") or state.is_error)
    shoot(viewer, "enhance-frame")
    viewer.canvas.grid.enabled = True
    shoot(viewer, "enhance")
    viewer.canvas.grid.enabled = False
    enhance.live_button.click()  # off, for the whole stack

    viewer.layers.clear()
    viewer.open_sample(PLUGIN, "movie")
    viewer.dims.set_current_step(0, 0)
    enhance.run_button.click()
    wait(lambda: state.share_done > 0.1 or state.is_error)
    shoot(viewer, "enhance-stack")
    wait(lambda: not state.running)
    shoot(viewer, "enhance-done")
    viewer.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
