"""Simulated specimens to crop from; other processes may draw them ahead, and need no torch for it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor

import numpy as np

from napari_lowdose_tem.image import F32
from napari_lowdose_tem.simulate.specimen import MATERIALS, make_scene

Seeds = Sequence[int]

PIXEL_SIZE_NM = (1.2, 6.0)
DOSE_E_PER_PX = (1.0, 50.0)
_USUAL_DOSE_E_PER_PX = (3.0, 12.0)
_LIQUID_CELLS = 0.12  # share of the specimens
_TEXTURED = 0.5  # share with an uneven film
_TEXTURE_RMS = (0.001, 0.015)
_POOL = 300  # scenes cropped from at a time
_RENEWAL = 0.1  # new scenes a crop


class ScenePool:
    """Simulated scenes to crop from, a few replaced at every draw, so that none is seen for long.

    Parameters
    ----------
    side_px
        Side of a scene.
    seeds
        Scene k depends on these and k alone.
    size
        Scenes at a time.
    workers
        Processes drawing scenes ahead; 0 draws them here when they are needed.
    """

    def __init__(self, side_px: int, seeds: Seeds, size: int = _POOL, workers: int = 0) -> None:
        self._side_px, self._seeds, self._size = side_px, tuple(seeds), size
        self._scenes: dict[int, F32 | Future[F32]] = {}
        spawned = multiprocessing.get_context("spawn")  # a forked process may not use a GPU's runtime
        self._executor = ProcessPoolExecutor(workers, mp_context=spawned) if workers else None

    def choose(self, drawn: int, rng: np.random.Generator) -> F32:
        """Choose a scene for the draw after `drawn` draws; transmission (side, side)."""
        first = int(drawn * _RENEWAL)
        for number in [n for n in self._scenes if n < first]:
            del self._scenes[number]
        if self._executor:
            for number in range(first, first + 2 * self._size):
                if number not in self._scenes:
                    task = self._executor.submit(draw_scene, self._side_px, (*self._seeds, number))
                    self._scenes[number] = task
        number = first + int(rng.integers(self._size))
        scene = self._scenes.get(number)
        if scene is None:
            scene = self._scenes[number] = draw_scene(self._side_px, (*self._seeds, number))
        elif isinstance(scene, Future):
            scene = self._scenes[number] = scene.result()
        return scene

    def close(self) -> None:
        """Stop the processes."""
        if self._executor:
            self._executor.shutdown(cancel_futures=True)


def draw_scene(side_px: int, seeds: Seeds) -> F32:
    """Draw a specimen of any material and magnification; transmission (side, side)."""
    rng = np.random.default_rng(seeds)
    pixel_size_nm = float(np.exp(rng.uniform(*np.log(PIXEL_SIZE_NM))))
    material = str(rng.choice(list(MATERIALS)))
    liquid_cell = bool(rng.random() < _LIQUID_CELLS)
    scene = make_scene(material, (side_px, side_px), pixel_size_nm, rng, liquid_cell=liquid_cell).transmission
    return scene * _draw_film_texture(side_px, rng) if rng.random() < _TEXTURED else scene


def _draw_film_texture(side_px: int, rng: np.random.Generator) -> F32:
    """Draw relative transmission of an uneven film: noise whose amplitude falls with frequency to a power."""
    rows, cols = np.fft.fftfreq(side_px)[:, None], np.fft.rfftfreq(side_px)[None]
    amplitude = np.maximum(np.hypot(rows, cols), 1 / 64) ** -rng.uniform(0.5, 1.5)
    amplitude[0, 0] = 0
    texture = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((side_px, side_px))) * amplitude, (side_px,) * 2)
    low, high = np.log(_TEXTURE_RMS)
    return np.asarray(1 + texture * (np.exp(rng.uniform(low, high)) / texture.std()), np.float32)


def draw_dose(rng: np.random.Generator) -> float:
    """Dose [e-/px]: mostly 3–12, the rest 1–50, log-uniformly."""
    low, high = _USUAL_DOSE_E_PER_PX if rng.random() < 0.7 else DOSE_E_PER_PX
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
