"""Make the pictures of the docks in docs/images: `xvfb-run -a python studies/screenshots.py [FRAME]`.

Without the path of a low-dose frame the sample data are shown. `--only profile train` makes some of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["NAPARI_CONFIG"] = os.path.join(tempfile.mkdtemp(), "settings.yaml")  # docks at their first place

import napari
import numpy as np
import numpy.typing as npt
import PIL.Image
import tifffile
from napari._app_model import get_app_model
from napari.layers import Layer
from qtpy.QtWidgets import QApplication
from scipy.ndimage import gaussian_filter

from napari_lowdose_tem.demo import iter_demo
from napari_lowdose_tem.enhancement import enhance
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read, write
from napari_lowdose_tem.measure import Line
from napari_lowdose_tem.simulate.camera import MEASURED, expose
from napari_lowdose_tem.simulate.dataset import simulate_dataset
from napari_lowdose_tem.train.config import SIMULATOR, TRAIN_RECIPES
from napari_lowdose_tem.widgets.live.state import REPLAY
from napari_lowdose_tem.widgets.profile.control import ProfileControl
from napari_lowdose_tem.widgets.shared.layers import image_from_layer, layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import add_image
from napari_lowdose_tem.widgets.train.dock import TrainDock
from napari_lowdose_tem.widgets.train.state import NEW_WEIGHTS

PLUGIN, MENU = "napari-lowdose-tem", "Enhance low-dose TEM"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZE_PX = (1360, 860)
EPOCHS = 12
ENGINE: dict[str, Any] = {"device": "cpu", "precision": "float32"}  # the same numbers on every computer
REPLAYED = 120  # frames, before the picture is taken
MOST_BYTES = 400_000


def wait(condition: Callable[[], bool], timeout_s: float = 600) -> None:
    """Let the viewer work until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the viewer did not get there")
        QApplication.processEvents()
        time.sleep(0.01)


def shoot(viewer: napari.Viewer, name: str, look: Callable[[], None] | None = None) -> None:
    """Save the window, all in view or as `look` turns it."""
    viewer.fit_to_view()
    if look:
        look()
    for _ in range(5):  # let it draw
        QApplication.processEvents()
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / f"{name}.png"
    viewer.screenshot(str(path), canvas_only=False, flash=False)
    if path.stat().st_size > MOST_BYTES:
        shrink(path, path)


def main(words: list[str] | None = None) -> None:
    """Make all pictures, or some."""
    sections = {
        "demo": copy_demo, "enhance": shoot_load_and_enhance, "compare": shoot_compare,
        "profile": shoot_profile, "live": shoot_live, "train": shoot_train,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frame", nargs="?", help="a low-dose frame")
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections))
    chosen = parser.parse_args(words)
    for name in chosen.only:
        viewer = napari.Viewer(show=True)  # a new one, as a dock leaves the window in another shape
        viewer.window.resize(*SIZE_PX)
        sections[name](viewer, chosen.frame)
        viewer.close()


def open_dock(viewer: napari.Viewer, name: str) -> Any:
    """Open a dock as the menu does."""
    get_app_model().commands.execute_command(f"{PLUGIN}.{name.lower().replace(' ', '_')}")
    return viewer.window.dock_widgets[f"{name} ({MENU})"]


def copy_demo(viewer: napari.Viewer, frame: str | None) -> None:
    """Keep the figure that the demonstration leaves."""
    with tempfile.TemporaryDirectory(prefix="lowdose-") as folder:
        for _ in iter_demo(Path(folder), n_frames=2):
            pass
        shrink(Path(folder, "overview.png"), IMAGES / "demo.png")


def shrink(picture: Path, path: Path) -> None:
    """Save a picture with fewer colours: noise does not compress."""
    with PIL.Image.open(picture) as whole:
        small = whole.convert("RGB").quantize(256)
    small.save(path, optimize=True)


def shoot_load_and_enhance(viewer: napari.Viewer, frame: str | None) -> None:
    """Make the pictures of the Load and Enhance docks."""
    if frame:
        viewer.open(frame, plugin=PLUGIN)
    else:
        viewer.open_sample(PLUGIN, "pair")
    load = open_dock(viewer, "Load")
    wait(lambda: load.control.state.mean_counts is not None)
    shoot(viewer, "load")
    viewer.window.remove_dock_widget(load)

    enhance = open_dock(viewer, "Enhance")
    state = enhance.control.state
    wait(lambda: state.preview_text.endswith("enhanced.") or state.is_error)
    shoot(viewer, "enhance-frame")
    viewer.canvas.grid.enabled = True
    shoot(viewer, "enhance")
    viewer.canvas.grid.enabled = False
    enhance.preview_button.click()  # off, for the whole stack

    viewer.layers.clear()
    viewer.open_sample(PLUGIN, "movie")
    viewer.dims.set_current_step(0, 0)
    enhance.run_button.click()
    wait(lambda: state.share_done > 0.1 or state.is_error)
    shoot(viewer, "enhance-stack")
    wait(lambda: not state.running)
    viewer.window.remove_dock_widget(enhance)


def shoot_compare(viewer: napari.Viewer, frame: str | None) -> None:
    """Make the pictures of the Compare dock: the sample pair side by side, then two in one view."""
    viewer.open_sample(PLUGIN, "pair")
    low = image_from_layer(viewer.layers["LDE sample"])
    add_image(viewer, layer_tuple(enhance(low, **ENGINE), "LDE sample enhanced"))
    dock = open_dock(viewer, "Compare")
    control, state = dock.control, dock.control.state
    wait(lambda: state.is_fresh and state.results is not None)
    control.point_at((120.0, 600.0))
    settle()
    shoot(viewer, "compare")
    control.set_mode("swipe")
    dock.tabs.setCurrentIndex(2)
    settle()
    shoot(viewer, "compare-swipe")
    viewer.window.remove_dock_widget(dock)


def shoot_profile(viewer: napari.Viewer, frame: str | None) -> None:
    """Make the pictures of the Line profile dock: a frame enhanced, a triplet in grid mode, a kymograph."""
    dock = open_dock(viewer, "Line profile")
    control, state = dock.control, dock.control.state
    if frame:
        source = read(frame)
        line = Line((314, 457), (392, 457))  # across a particle of the authors' first example frame
    else:
        _, source, line = make_triplet()
    show(viewer, source, enhance(source, **ENGINE))
    measure(control, line)
    shoot(viewer, "profile", lambda: look_at(viewer, line, source.pixel_size_nm[0]))

    viewer.layers.clear()
    wait(lambda: not state.curves)
    hde, lde, line = make_triplet()
    show(viewer, hde, lde, enhance(lde, **ENGINE))
    control.choose_particles(2)
    measure(control, line)
    control.keep()
    control.kept.edit(0, note="touch each other?")
    viewer.canvas.grid.enabled = True
    wait(lambda: len(viewer.layers) == 6)
    viewer.layers.selection.active = control.lines.layer
    settle()
    shoot(viewer, "profile-grid")
    viewer.canvas.grid.enabled = False

    viewer.layers.clear()
    wait(lambda: not state.curves)
    movie, line = make_growth()
    show(viewer, movie, enhance(movie, **ENGINE))
    control.choose_particles(1)
    measure(control, line)
    dock.time_button.click()
    wait(lambda: not state.time_running)
    settle()
    dock.scroll_to(dock.kymograph_button)
    shoot(viewer, "kymograph")
    viewer.window.remove_dock_widget(dock)


def make_triplet() -> tuple[Image, Image, Line]:
    """Simulate spheres at high and at low dose, the former eight times finer, and a line across two."""
    spheres = ((240, 240, 96, 0.45), (420, 390, 73, 0.5), (420, 490, 92, 0.45), (600, 250, 120, 0.4))
    rng = np.random.default_rng(5)
    fine = np.exp(-sum(chord(one, (2048, 1600), 0.4125, 0.5) for one in spheres))
    fine = gaussian_filter(fine, 8)
    coarse = fine.reshape(256, 8, 200, 8).mean((1, 3))
    hde = Image(rng.poisson(fine * 1000).astype(np.float32), (0.4125, 0.4125), 1.0, name="HDE")
    lde = Image(expose(coarse * 5.0, rng=rng), (3.3, 3.3), MEASURED.gain, name="LDE")
    return hde, lde, Line((420 / 3.3, 310 / 3.3), (420 / 3.3, 575 / 3.3), 4)


def make_growth() -> tuple[Image, Line]:
    """Simulate a low-dose movie of a particle that grows, and a line across it."""
    rng = np.random.default_rng(2)
    frames = []
    for diameter in 2 * np.sqrt(np.linspace(24**2, 60**2, 60)):
        one = np.exp(-chord((240, 300, diameter, 0.45), (160, 200), 3.0, 0.0))
        frames.append(expose(gaussian_filter(one, 1.2) * 5.0, rng=rng))
    movie = Image(np.stack(frames), (3.0, 3.0), MEASURED.gain, 0.5, name="LDE movie")
    return movie, Line((80, 55), (80, 145), 3)


def chord(
    sphere: tuple[float, ...], shape: tuple[int, int], pixel_nm: float, shift_px: float
) -> npt.NDArray[np.float64]:
    """Return what a sphere (row, column, diameter [nm], T at its centre) takes away, as -log T."""
    row, col, diameter, t_min = sphere
    rows, cols = (np.mgrid[: shape[0], : shape[1]] + shift_px) * pixel_nm
    share = 1 - ((rows - row) ** 2 + (cols - col) ** 2) / (diameter / 2) ** 2
    return np.asarray(np.sqrt(np.maximum(share, 0)) * -np.log(t_min))


def show(viewer: napari.Viewer, *images: Image) -> None:
    """Add images as layers; the last is enhanced."""
    for image in images:
        name = f"{images[-2].name} enhanced" if image is images[-1] else image.name
        add_image(viewer, layer_tuple(image, name))
    viewer.canvas.overlays.scale_bar.visible = True


def measure(control: ProfileControl, line: Line) -> None:
    """Draw a line given in pixels of the last image but one, and wait until all is measured."""
    layers = list(viewer_layers(control))
    control.set_width(line.width_px * float(layers[-2].scale[-1]) if line.width_px > 1 else 0)
    control.lines.add(layers[-2], (line.start, line.stop))
    state = control.state
    wait(lambda: len(state.curves) == len(layers) and all(curve.is_fresh for curve in state.curves))
    wait(lambda: bool(state.counts_text))
    settle()


def settle(time_s: float = 0.6) -> None:
    """Let all come to rest."""
    deadline = time.monotonic() + time_s
    wait(lambda: time.monotonic() > deadline)


def viewer_layers(control: ProfileControl) -> Iterator[Layer]:
    """Iterate over the images."""
    return (layer for layer in control.viewer.layers if layer.name in control.state.layers)


def look_at(viewer: napari.Viewer, line: Line, pixel_nm: float) -> None:
    """Zoom to the surroundings of a line."""
    middle = [(a + b) / 2 * pixel_nm for a, b in zip(line.start, line.stop, strict=True)]
    viewer.scene.camera.center = (0.0, *middle)
    viewer.scene.camera.zoom *= 2.2


def shoot_live(viewer: napari.Viewer, frame: str | None) -> None:
    """Make the picture of the Live dock: it replays the sample movie, as if a camera wrote it."""
    (movie,) = viewer.open_sample(PLUGIN, "movie")
    with tempfile.TemporaryDirectory(prefix="lowdose-") as folder, contextlib.chdir(folder):
        write(image_from_layer(movie), Path("movie.tif"))
        viewer.layers.clear()
        dock = open_dock(viewer, "Live")
        state = dock.control.state
        dock.control.choose_kind(REPLAY)
        dock.control.choose_path("movie.tif")
        dock.control.set_rate(8.0)
        dock.run_button.click()
        wait(lambda: bool(came := re.match(r"\d+", state.count_text)) and int(came[0]) > REPLAYED)
        viewer.canvas.overlays.scale_bar.visible = True
        shoot(viewer, "live")
        dock.run_button.click()
        wait(lambda: not state.running)
        viewer.window.remove_dock_widget(dock)


def shoot_train(viewer: napari.Viewer, frame: str | None) -> None:
    """Make the pictures of the Train dock: a small network learns for some minutes, from new weights."""
    small = replace(TRAIN_RECIPES["default"], crop_px=128, steps_per_epoch=12, warm_up_steps=5)
    TRAIN_RECIPES["default"] = small
    with tempfile.TemporaryDirectory(prefix="lowdose-") as folder:
        os.environ["LOWDOSE_TEM_MODELS"] = str(Path(folder, "models"))
        dock = open_dock(viewer, "Train")
        control, state = dock.control, dock.control.state
        wait(dock.isVisible)
        shoot(viewer, "train-dock")
        shoot_check(viewer, dock, Path(folder, "smoke"))
        control.choose_data(SIMULATOR)
        control.choose_start(NEW_WEIGHTS)
        control.set_epochs(EPOCHS)
        dock.settings.train_button.click()
        wait(lambda: state.validation is not None or state.is_error, 1200)
        dock.progress.layers_button.click()
        viewer.canvas.grid.enabled = True
        wait(lambda: len(state.curves.epochs) >= EPOCHS // 2 or state.is_error, 1200)
        shoot(viewer, "train-dock-learning")
        dock.progress.stop_button.click()
        wait(lambda: not state.running)
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
    dock.data.check_button.click()
    wait(lambda: not dock.control.state.checking)
    shoot(viewer, "train-dock-check")


if __name__ == "__main__":
    main()
