"""Simulated specimens to crop from; other processes may draw them ahead, and need no torch for it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from napari_lowdose_tem.image import F32
from napari_lowdose_tem.simulate.smoke import draw_smoke
from napari_lowdose_tem.simulate.specimen import MATERIALS, Particles, Specimen, draw_specimen, render

Seeds = Sequence[int]

PIXEL_SIZE_NM = (1.2, 6.0)
DOSE_E_PER_PX = (1.0, 50.0)
_USUAL_DOSE_E_PER_PX = (3.0, 12.0)
PARTICLES = {
    "any": tuple(MATERIALS),
    "amorphous": ("FeNi", "silicate", "alumina"),
    "crystalline": ("Ni", "FeNi", "SiC", "alumina"),
}
"""Materials a network is told to expect; amorphous ones are drawn without diffraction."""
_LIQUID_CELLS = 0.12  # share of the specimens
_TEXTURED = 0.5  # share with an uneven film
_TEXTURE_RMS = (0.001, 0.015)
_POOL = 300  # scenes cropped from at a time
_RENEWAL = 0.07  # new scenes a crop
# films with nothing on them, a few particles, smoke, up to which share; the rest is as `draw_specimen` draws
_FILMS = ((0.15, "empty"), (0.22, "sparse"), (0.6, "smoke"))
_LARGEST_RAMP = 0.1  # of a bare film's transmission, from its middle to its edge
_SMALLEST_PX = 6.0  # median diameter: smaller particles can only be guessed at low dose
_SPHERES = (20, 300)  # of a film with smoke
_LARGEST_SPHERE_NM = 100.0  # median
_CRYSTALS_IN_SMOKE = (0.05, 0.6)
_AMORPHOUS_SMOKE = 0.75  # share without any crystal


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
    particles
        Key of `PARTICLES`.
    """

    def __init__(
        self, side_px: int, seeds: Seeds, size: int = _POOL, workers: int = 0, particles: str = "any"
    ) -> None:
        self._side_px, self._seeds, self._size, self._particles = side_px, tuple(seeds), size, particles
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
                    self._scenes[number] = self._executor.submit(draw_scene, *self._arguments(number))
        number = first + int(rng.integers(self._size))
        scene = self._scenes.get(number)
        if scene is None:
            scene = self._scenes[number] = draw_scene(*self._arguments(number))
        elif isinstance(scene, Future):
            scene = self._scenes[number] = scene.result()
        return scene

    def _arguments(self, number: int) -> tuple[int, Seeds, str]:
        return self._side_px, (*self._seeds, number), self._particles

    def close(self) -> None:
        """Stop the processes."""
        if self._executor:
            self._executor.shutdown(cancel_futures=True)


def draw_scene(side_px: int, seeds: Seeds, particles: str = "any") -> F32:
    """Draw a specimen of any magnification, one of `PARTICLES[particles]`; transmission (side, side)."""
    rng = np.random.default_rng(seeds)
    pixel_size_nm = float(np.exp(rng.uniform(*np.log(PIXEL_SIZE_NM))))
    scene = render(_draw_specimen(side_px, pixel_size_nm, particles, rng), (side_px, side_px)).transmission
    return scene * _draw_film_texture(side_px, rng) if rng.random() < _TEXTURED else scene


def _draw_specimen(side_px: int, pixel_nm: float, particles: str, rng: np.random.Generator) -> Specimen:
    """Draw a film with nothing, a few particles, smoke, or particles of one material on it."""
    material, field_nm = str(rng.choice(PARTICLES[particles])), (side_px * pixel_nm,) * 2
    low, high = max(30.0, _SMALLEST_PX * pixel_nm), min(150.0, side_px * pixel_nm / 3)
    median_nm = float(np.exp(rng.uniform(np.log(min(low, high)), np.log(max(low, high)))))
    chosen, liquid_cell = rng.random(), bool(rng.random() < _LIQUID_CELLS)
    kind = next((name for share, name in _FILMS if chosen < share), "usual")
    n_particles = {"empty": 0, "sparse": int(rng.integers(1, 6)), "smoke": 0}.get(kind)
    specimen = draw_specimen(
        material, field_nm, rng, pixel_size_nm=pixel_nm, median_diameter_nm=median_nm,
        n_particles=n_particles, liquid_cell=liquid_cell,
    )  # fmt: skip
    if kind == "empty":
        return _tilt(specimen, rng)
    if kind == "smoke":
        specimen = replace(specimen, particles=_draw_smoke(median_nm, field_nm, particles, rng))
    if particles == "amorphous":
        without = np.full(len(specimen.particles), np.inf)
        specimen = replace(specimen, particles=replace(specimen.particles, extinction_nm=without))
    return specimen


def _draw_smoke(
    median_nm: float, field_nm: tuple[float, float], particles: str, rng: np.random.Generator
) -> Particles:
    count = int(np.exp(rng.uniform(*np.log(_SPHERES))))
    amorphous = particles != "crystalline" and rng.random() < _AMORPHOUS_SMOKE
    share = 0.0 if amorphous else float(rng.uniform(*_CRYSTALS_IN_SMOKE))
    clusters = int(rng.integers(1, 3 + count // 40))
    median_nm = min(median_nm, _LARGEST_SPHERE_NM)
    return draw_smoke(count, median_nm, field_nm, rng, clusters=clusters, crystalline_share=share)


def _tilt(specimen: Specimen, rng: np.random.Generator) -> Specimen:
    """Let the film of a specimen grow thicker towards one side."""
    grid, angle = specimen.support.thickness, rng.uniform(0, 2 * np.pi)
    row, col = (np.linspace(-1, 1, n) for n in grid.shape)
    ramp = rng.uniform(0, _LARGEST_RAMP) * (np.sin(angle) * row[:, None] + np.cos(angle) * col)
    return replace(specimen, support=replace(specimen.support, thickness=grid + ramp))


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
