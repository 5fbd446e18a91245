"""Make the pictures of the docks in docs/images: `xvfb-run -a python docs/screenshots.py [FRAME]`.

Without the path of a low-dose frame the sample data are shown.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import napari
import numpy as np
import tifffile
from qtpy.QtWidgets import QApplication

from napari_lowdose_tem.simulate.dataset import simulate_dataset
from napari_lowdose_tem.train.config import SIMULATOR, TRAIN_RECIPES
from napari_lowdose_tem.widgets.train_dock import TrainDock
from napari_lowdose_tem.widgets.train_state import NEW_WEIGHTS

PLUGIN = "napari-lowdose-tem"
IMAGES = Path(__file__).parent / "images"
SIZE_PX = (1360, 860)
EPOCHS = 12


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
    shoot_load_and_enhance(viewer, frame)
    viewer.layers.clear()
    shoot_train(viewer)
    viewer.close()


def shoot_load_and_enhance(viewer: napari.Viewer, frame: str | None) -> None:
    """Make the pictures of the Load and Enhance docks."""
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
    viewer.window.remove_dock_widget(enhance)


def shoot_train(viewer: napari.Viewer) -> None:
    """Make the pictures of the Train dock: a small network learns for some minutes, from new weights."""
    small = replace(TRAIN_RECIPES["default"], crop_px=128, steps_per_epoch=12, warm_up_steps=5)
    TRAIN_RECIPES["default"] = small
    with tempfile.TemporaryDirectory(prefix="lowdose-") as folder:
        os.environ["LOWDOSE_TEM_MODELS"] = str(Path(folder, "models"))
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Train")
        control, state = dock.control, dock.control.state
        wait(dock.isVisible)
        shoot(viewer, "train-dock")
        shoot_check(viewer, dock, Path(folder, "smoke"))
        control.choose_data(SIMULATOR)
        control.choose_start(NEW_WEIGHTS)
        control.choose(epochs=EPOCHS)
        dock.train_button.click()
        wait(lambda: state.triplet is not None or state.is_error, 1200)
        dock.triplet_button.click()
        viewer.canvas.grid.enabled = True
        wait(lambda: len(state.curves.epochs) >= EPOCHS // 2 or state.is_error, 1200)
        shoot(viewer, "train-dock-learning")
        dock.stop_button.click()
        wait(lambda: not state.running)
        shoot(viewer, "train-dock-stopped")
        viewer.theme = "light"
        shoot(viewer, "train-dock-light")
        viewer.theme = "dark"
        viewer.canvas.grid.enabled = False
        viewer.window.remove_dock_widget(dock)


def shoot_check(viewer: napari.Viewer, dock: TrainDock, folder: Path) -> None:
    """Make the picture of a check that finds something."""
    simulate_dataset(folder, ("silicate",), pairs=10, lde_px=256, hde_px=1024, seed=1)
    frames = sorted((folder / "silicate").glob("*.tif"))
    for number, harm in ((4, lambda counts: np.roll(counts, 60, 1)), (7, lambda counts: counts.clip(0, 250))):
        with tifffile.TiffFile(frames[number]) as file:
            counts = file.asarray()
        tifffile.imwrite(frames[number], harm(counts))
    dock.control.choose_data(str(folder))
    dock.check_button.click()
    wait(lambda: not dock.control.state.checking)
    shoot(viewer, "train-dock-check")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
