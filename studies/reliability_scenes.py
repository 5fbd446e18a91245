"""Films and spheres of known truth, recorded by the measured camera: for reliability.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_lowdose_tem.image import AnyFloat
from napari_lowdose_tem.simulate.camera import MEASURED, expose
from napari_lowdose_tem.simulate.specimen import MATERIALS, Particles, Scene, Specimen, draw_specimen, render

SHAPE = (512, 512)
DOSE_E_PER_PX = 5.0
SEED = 30_210_601  # training draws from seeds below 1,000
CAMERA = replace(MEASURED, outlier_rate=1e-5)  # two or three hot pixels a frame
DQE = 0.35  # of the measured camera at this dose
LARGEST_RAMP = 0.1  # of the film's transmission, from its middle to its edge
EMPTY_PIXEL_NM = 3.0
RECALL_PIXEL_NM = 4.8
DIAMETERS_NM = (20, 30, 40, 55, 75, 100, 140, 190)
# smallest diameter seen at 5 σ, of ideal counting, 4.7 e-/px and 4.8 nm/px [nm]
LIMITS_NM = {0.41: 26.0, 0.59: 40.0, 0.80: 86.0, 0.90: 174.0}
SIZE_PIXELS_NM = (4.8, 3.0)
SIZE_T_MIN, SIZE_NM = 0.6, (60.0, 150.0)
PER_SIDE = 4  # spheres along a side of a frame


def draw_empty(index: int, with_hole: bool = False) -> Scene:
    """Draw a bare film with grain, uneven thickness, a ramp and falloff, or that with the rim of a hole."""
    rng = np.random.default_rng([SEED, 0, index])
    field_nm = (SHAPE[0] * EMPTY_PIXEL_NM, SHAPE[1] * EMPTY_PIXEL_NM)
    specimen = draw_specimen(
        list(MATERIALS)[index % 5], field_nm, rng, n_particles=0, pixel_size_nm=EMPTY_PIXEL_NM
    )
    grid = specimen.support.thickness
    row, col = (np.linspace(-1, 1, n) for n in grid.shape)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = rng.uniform(0, LARGEST_RAMP) * (np.sin(angle) * row[:, None] + np.cos(angle) * col)
    radius = rng.uniform(0.2, 0.8) * field_nm[0]
    hole = (field_nm[0] * (rng.random() < 0.5), rng.uniform(0, field_nm[1]), radius)
    support = replace(specimen.support, thickness=grid + ramp, holes=(hole,) if with_hole else ())
    return render(replace(specimen, support=support), SHAPE)


def draw_spheres(diameter_nm: AnyFloat, t_min: AnyFloat, pixel_nm: float, rng: np.random.Generator) -> Scene:
    """Draw isolated spheres, as many as places, each somewhere within its place, on a film without holes."""
    film = draw_film(pixel_nm, rng)
    place = (
        np.indices((PER_SIDE, PER_SIDE)).reshape(2, -1).T + 0.5 + rng.uniform(-0.15, 0.15, (PER_SIDE**2, 2))
    )
    return place_spheres(film, place * SHAPE[0] * pixel_nm / PER_SIDE, diameter_nm, t_min, pixel_nm)


def draw_film(pixel_nm: float, rng: np.random.Generator) -> Specimen:
    """Draw a film without holes or particles."""
    field_nm = (SHAPE[0] * pixel_nm, SHAPE[1] * pixel_nm)
    return draw_specimen("silicate", field_nm, rng, n_particles=0, pixel_size_nm=pixel_nm)


def place_spheres(
    film: Specimen, centers_nm: AnyFloat, diameter_nm: AnyFloat, t_min: AnyFloat, pixel_nm: float
) -> Scene:
    """Render spheres at (n, 2) places on a film."""
    n = len(centers_nm)
    spheres = Particles(
        centers_nm, diameter_nm, -diameter_nm / np.log(t_min), np.full(n, np.inf), np.zeros(n), (None,) * n
    )
    support = replace(film.support, holes=(), fringe=0.0, veil=0.0, blur_nm=1.0 * pixel_nm)
    return render(replace(film, particles=spheres, support=support), SHAPE)


def record(scene: Scene, rng: np.random.Generator | int) -> AnyFloat:
    """Take a low-dose frame [counts]."""
    return expose(scene.transmission * np.float32(DOSE_E_PER_PX), CAMERA, rng)
