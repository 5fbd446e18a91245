"""Specimens: particles made by gas evaporation on a support film, in nm, rendered on any pixel grid.

Contrast follows T = exp(-t/λ) with the projected thickness t; crystals add two-beam diffraction.
Sizes and contrasts follow the five materials of Katsuno et al. 2021 (30–200 nm; FeNi below half of the
background, SiC and alumina near 90 % of it, silicate near 60 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_lowdose_tem.image import AnyFloat

_LOWEST_TRANSMISSION = 0.02  # inelastic and multiple scattering leave some light behind the thickest pile


@dataclass(frozen=True)
class Material:
    """What the particles of one material look like; lengths in nm, drawn log-uniformly between the bounds."""

    attenuation_nm: tuple[float, float]
    extinction_nm: tuple[float, float] | None = None
    faceted: bool = False
    crystalline_share: float = 0.0


MATERIALS: dict[str, Material] = {
    "Ni": Material((60, 200), (30, 36), faceted=True, crystalline_share=1.0),
    "FeNi": Material((60, 200), (30, 36), crystalline_share=0.3),
    "SiC": Material((400, 1500), (60, 75), faceted=True, crystalline_share=0.7),
    "silicate": Material((150, 1200)),
    "alumina": Material((400, 1500), (60, 75), crystalline_share=0.15),
}


@dataclass(frozen=True)
class Particles:
    """Arrays over N particles; lengths in nm, centres (row, col) from the field's corner.

    `extinction_nm` is inf where there is no diffraction; `deviation` is s·ξ; `facets` holds per particle the
    plane normals and distances (K, 4) of a convex crystal, or None for a sphere.
    """

    center_nm: AnyFloat
    diameter_nm: AnyFloat
    attenuation_nm: AnyFloat
    extinction_nm: AnyFloat
    deviation: AnyFloat
    facets: tuple[AnyFloat | None, ...]

    def __len__(self) -> int:
        """Return the number of particles."""
        return len(self.diameter_nm)

    def transmission(self, index: int, thickness_nm: AnyFloat) -> AnyFloat:
        """Transmission through `thickness_nm` of particle `index`, absorption and two-beam diffraction."""
        transmitted = np.exp(-thickness_nm / self.attenuation_nm[index])
        extinction = self.extinction_nm[index]
        if np.isfinite(extinction):
            effective = np.hypot(self.deviation[index], 1) / extinction
            transmitted *= 1 - np.sin(np.pi * thickness_nm * effective) ** 2 / (effective * extinction) ** 2
        return np.asarray(transmitted)


@dataclass(frozen=True)
class Support:
    """The film, the beam and the optics; grids are coarse fields spanning the whole view."""

    thickness: AnyFloat  # relative transmission of the film, coarse grid
    grain: float = 0.004  # r.m.s. of the amorphous structure
    grain_seed: int = 0
    falloff: float = 0.03  # illumination lost from its centre to the far corner
    beam_center: tuple[float, float] = (0.5, 0.5)
    # (row, col, radius) [nm] of holes in the film and its transmission beside them
    holes: tuple[tuple[float, float, float], ...] = ()
    film_transmission: float = 0.93
    blur_nm: float = 3.0  # Gaussian σ of the optics
    fringe: float = 0.0  # strength of the Fresnel fringe
    fringe_nm: float = 3.0  # its spacing √(λ·Δf)
    veil: float = 0.0  # share of the light scattered into a smooth background (liquid cell)


@dataclass(frozen=True)
class Specimen:
    """Particles on a support in a field of view of `field_nm` (rows, columns)."""

    material: str
    field_nm: tuple[float, float]
    particles: Particles
    support: Support


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered specimen: transmission (rows, columns) with illumination and optics, and its truth."""

    transmission: npt.NDArray[np.float32]
    pixel_size_nm: float
    specimen: Specimen
    shift_nm: tuple[float, float] = (0.0, 0.0)
    truth: list[dict[str, float]] = field(default_factory=list)


def make_scene(
    material: str,
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 3.0,
    rng: np.random.Generator | int | None = None,
    **options: Any,
) -> Scene:
    """Draw a specimen that fills `shape` [px] and render it; `options` as `draw_specimen`."""
    rng = np.random.default_rng(rng)
    field_nm = (shape[0] * pixel_size_nm, shape[1] * pixel_size_nm)
    return render(draw_specimen(material, field_nm, rng, pixel_size_nm=pixel_size_nm, **options), shape)


def draw_specimen(
    material: str,
    field_nm: tuple[float, float],
    rng: np.random.Generator | int | None = None,
    *,
    pixel_size_nm: float = 3.0,
    median_diameter_nm: float | None = None,
    n_particles: int | None = None,
    liquid_cell: bool = False,
) -> Specimen:
    """Draw particles and support for a field of view.

    Parameters
    ----------
    material
        One of `MATERIALS`.
    field_nm
        Field of view (rows, columns) [nm].
    pixel_size_nm
        Sampling the optical blur is matched to [nm/px].
    median_diameter_nm, n_particles
        Fixed, or drawn when None: 30–150 nm log-uniformly; from none to more than a hundred.
    liquid_cell
        Add a scattering background, more blur and stronger illumination falloff.
    """
    if material not in MATERIALS:
        raise ValueError(f"unknown material {material!r}; choose one of {', '.join(MATERIALS)}")
    rng = np.random.default_rng(rng)
    # keep particles between 4 px and a third of the view whatever the magnification
    low, high = max(30.0, 4 * pixel_size_nm), min(150.0, min(field_nm) / 3)
    median_nm = median_diameter_nm or float(np.exp(rng.uniform(np.log(low), np.log(max(low, high)))))
    if n_particles is None:
        n_particles = 0 if rng.random() < 0.05 else int(np.exp(rng.uniform(np.log(2), np.log(130))))
    particles = draw_particles(MATERIALS[material], n_particles, median_nm, field_nm, rng)
    return Specimen(material, field_nm, particles, _draw_support(field_nm, pixel_size_nm, liquid_cell, rng))


def draw_particles(
    material: Material, count: int, median_nm: float, field_nm: tuple[float, float], rng: np.random.Generator
) -> Particles:
    """Draw `count` particles in chains and clusters, of log-normal diameters around `median_nm` [nm]."""
    diameter = median_nm * np.exp(rng.uniform(0.1, 0.5) * rng.standard_normal(count))
    diameter = diameter.clip(0.4 * median_nm, min(3 * median_nm, 220.0))
    center = _aggregate(diameter / 2, field_nm, rng)
    log_low, log_high = np.log(material.attenuation_nm)
    attenuation = np.exp(rng.uniform(log_low, log_high) + 0.1 * rng.standard_normal(count))
    extinction = np.full(count, np.inf)
    if material.extinction_nm is not None:
        crystalline = rng.random(count) < material.crystalline_share
        extinction[crystalline] = rng.uniform(*material.extinction_nm, crystalline.sum())
    # grains share a slow bend of the film, so that neighbours tend to light up together
    bend = rng.normal(0, 2, 2) @ (center / np.asarray(field_nm) - 0.5).T if count else np.zeros(0)
    deviation = np.abs(bend + rng.exponential(1.5, count) * rng.choice([-1, 1], count))
    facets = tuple(_draw_crystal(d, rng) if material.faceted else None for d in diameter)
    return Particles(center, diameter, attenuation, extinction, deviation, facets)


def _aggregate(radius: AnyFloat, field_nm: tuple[float, float], rng: np.random.Generator) -> AnyFloat:
    """Place spheres in chains and clusters that touch in 3-D, so that they overlap in projection."""
    count, size = len(radius), np.asarray(field_nm)
    center = np.empty((count, 2))
    n_clusters = max(1, int(count / np.exp(rng.uniform(0, np.log(40)))))
    starts = set(rng.choice(count, min(n_clusters, count), replace=False)) | {0} if count else set()
    chain = rng.uniform(0, 1)  # 0: compact clusters, 1: chains growing at their tips
    first = 0
    for i in range(count):
        if i in starts:
            first = i
            center[i] = rng.uniform(-0.05, 1.05, 2) * size
            continue
        for _ in range(8):  # take the first place that does not bury a neighbour
            tip = i - 1 if rng.random() < chain else int(rng.integers(first, i))
            angle = rng.uniform(0, 2 * np.pi)
            distance = (radius[tip] + radius[i]) * np.sqrt(1 - rng.uniform(0, 0.85) ** 2)
            center[i] = center[tip] + distance * np.array([np.sin(angle), np.cos(angle)])
            gap = np.linalg.norm(center[first:i] - center[i], axis=1) / (radius[first:i] + radius[i])
            if gap.min() > 0.45:
                break
    return center


def _draw_crystal(diameter_nm: float, rng: np.random.Generator) -> AnyFloat:
    """Planes (K, 4) of a truncated octahedron, cube or plate: normal · r <= distance [nm]."""
    octahedron = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / np.sqrt(3)
    cube = np.vstack([np.eye(3), -np.eye(3)])
    truncation = rng.uniform(0.8, 1.5)
    distance = np.r_[np.full(8, 1.0), np.full(6, truncation)] * rng.uniform(0.85, 1.15, 14)
    unequal_growth = np.exp(0.25 * rng.standard_normal(3))  # plates, rods
    normal = np.vstack([octahedron, cube]) / unequal_growth
    distance /= np.linalg.norm(normal, axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    normal = Rotation.from_quat(rng.standard_normal(4)).apply(normal)
    # scale so that the projected area is that of a circle of the given diameter
    axis = np.linspace(-2.5, 2.5, 48)
    covered = _crystal_thickness(np.c_[normal, distance], axis[:, None], axis[None, :]) > 0
    area = covered.sum() * (axis[1] - axis[0]) ** 2
    scale = diameter_nm / np.sqrt(4 * area / np.pi)
    return np.column_stack([normal, distance * scale])


def _crystal_thickness(planes: AnyFloat, row_nm: AnyFloat, col_nm: AnyFloat) -> AnyFloat:
    """Chord along the beam through a convex body at offsets (row, col) from its centre [nm]."""
    top, bottom = np.float64(np.inf), np.float64(-np.inf)
    for n_row, n_col, n_z, distance in planes:
        n_z = n_z if abs(n_z) > 1e-3 else 1e-3
        height = (distance - n_row * row_nm - n_col * col_nm) / n_z
        if n_z > 0:
            top = np.minimum(top, height)
        else:
            bottom = np.maximum(bottom, height)
    return np.asarray(np.maximum(top - bottom, 0))


def _draw_support(
    field_nm: tuple[float, float], pixel_size_nm: float, liquid_cell: bool, rng: np.random.Generator
) -> Support:
    knots = rng.integers(3, 7)
    holes: tuple[tuple[float, float, float], ...] = ()
    if rng.random() < 0.15:
        radius = max(field_nm) * np.exp(rng.uniform(np.log(0.15), np.log(3)))
        towards = rng.uniform(0, 2 * np.pi)
        reach = radius + rng.uniform(0.0, 0.45) * max(field_nm)
        holes = (
            (
                field_nm[0] / 2 + reach * np.sin(towards),
                field_nm[1] / 2 + reach * np.cos(towards),
                float(radius),
            ),
        )
    blur_px = rng.uniform(1.0, 2.5) if liquid_cell else rng.uniform(0.5, 1.5)
    strong_falloff = liquid_cell or rng.random() < 0.1
    return Support(
        thickness=1 + rng.uniform(0.002, 0.02) * rng.standard_normal((knots, knots)),
        grain=float(rng.uniform(0.001, 0.008)),
        grain_seed=int(rng.integers(2**31)),
        falloff=float(rng.uniform(0.05, 0.3) if strong_falloff else rng.uniform(0, 0.06)),
        beam_center=(float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.2, 0.8))),
        holes=holes,
        film_transmission=float(rng.uniform(0.75, 0.97)),
        blur_nm=float(blur_px * pixel_size_nm),
        fringe=float(rng.uniform(0, 1.2)) if rng.random() < 0.5 else 0.0,
        fringe_nm=float(np.exp(rng.uniform(np.log(1.6), np.log(5)))),
        veil=float(rng.uniform(0.1, 0.5)) if liquid_cell else 0.0,
    )


def render(
    specimen: Specimen,
    shape: tuple[int, int],
    shift_nm: tuple[float, float] = (0.0, 0.0),
    optics: bool = True,
    film: AnyFloat | None = None,
) -> Scene:
    """Render a specimen on a grid of `shape` pixels spanning its field of view.

    `shift_nm` moves the particles and film (not the illumination), as drift does. Without `optics`
    there is no blur, fringe or veil: the bare projected transmission. `film`, from `render_film`, saves
    drawing the same film for every frame of a sequence.
    """
    pixel_nm = specimen.field_nm[0] / shape[0]
    if abs(specimen.field_nm[1] / shape[1] / pixel_nm - 1) > 0.01:
        raise ValueError(f"shape {shape} px and field {specimen.field_nm} nm give pixels that are not square")
    particles, support = specimen.particles, specimen.support
    film = render_film(specimen, shape) if film is None else film
    log_t = _render_support(support, film, pixel_nm, shift_nm)
    truth = locate(specimen, pixel_nm, shift_nm)
    for i, entry in enumerate(truth):
        _add_particle(log_t, particles, i, entry["row_px"], entry["col_px"], pixel_nm)
    image = np.exp(np.maximum(log_t, np.log(_LOWEST_TRANSMISSION)))
    if optics:
        image = _apply_optics(image, support, pixel_nm)
    image *= _illumination(support, shape)
    return Scene(image.astype(np.float32), pixel_nm, specimen, shift_nm, truth)


def _add_particle(
    log_t: AnyFloat, particles: Particles, i: int, row_px: float, col_px: float, pixel_nm: float
) -> None:
    facets, radius_nm = particles.facets[i], particles.diameter_nm[i] / 2
    reach = int(np.ceil((radius_nm if facets is None else 2.5 * radius_nm) / pixel_nm)) + 1
    r0, r1 = max(int(row_px) - reach, 0), min(int(row_px) + reach + 2, log_t.shape[0])
    c0, c1 = max(int(col_px) - reach, 0), min(int(col_px) + reach + 2, log_t.shape[1])
    if r0 >= r1 or c0 >= c1:
        return
    row_nm = (np.arange(r0, r1)[:, None] - row_px) * pixel_nm
    col_nm = (np.arange(c0, c1)[None, :] - col_px) * pixel_nm
    if facets is None:
        # mean over 2 × 2 points a pixel: the chord's edge is steeper than the grid
        quarter = pixel_nm / 4
        thickness = sum(
            np.sqrt(np.maximum(radius_nm**2 - (row_nm + a) ** 2 - (col_nm + b) ** 2, 0))
            for a in (-quarter, quarter)
            for b in (-quarter, quarter)
        )
        thickness = thickness / 2
    else:
        thickness = _crystal_thickness(facets, row_nm, col_nm)
    log_t[r0:r1, c0:c1] += np.log(np.maximum(particles.transmission(i, np.asarray(thickness)), 1e-6))


def locate(
    specimen: Specimen, pixel_size_nm: float, shift_nm: tuple[float, float] = (0.0, 0.0)
) -> list[dict[str, float]]:
    """List where the particles are on a grid, how large, and their lowest transmission beside the film's.

    Pixel centres are whole numbers; nm count from the corner of the view.
    """
    particles, zero = specimen.particles, np.zeros((1, 1))
    found = []
    for i, facets in enumerate(particles.facets):
        row_nm, col_nm = particles.center_nm[i] + shift_nm
        diameter = particles.diameter_nm[i]
        chord = np.array([diameter]) if facets is None else _crystal_thickness(facets, zero, zero)[0]
        found.append(
            {
                "row_px": float(row_nm / pixel_size_nm - 0.5),
                "col_px": float(col_nm / pixel_size_nm - 0.5),
                "row_nm": float(row_nm),
                "col_nm": float(col_nm),
                "diameter_nm": float(diameter),
                "t_center": float(particles.transmission(i, chord)[0]),
            }
        )
    return found


def render_film(specimen: Specimen, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Render the transmission of the film alone, without holes, at rest."""
    support = specimen.support
    film = _stretch(support.thickness, shape)
    # one grain every 4 nm or every pixel, whichever is coarser, so that all grids see the same film
    grains = [max(2, int(min(f / 4.0, s))) for f, s in zip(specimen.field_nm, shape, strict=True)]
    grain = np.random.default_rng(support.grain_seed).standard_normal(grains)
    film += support.grain * (_stretch(grain, shape, order=1) if grains != list(shape) else grain)
    return film * support.film_transmission


def _render_support(
    support: Support, film: AnyFloat, pixel_nm: float, shift_nm: Sequence[float]
) -> npt.NDArray[np.float64]:
    if any(shift_nm):
        film = ndimage.shift(film, np.asarray(shift_nm) / pixel_nm, order=1, mode="mirror")
    shape = film.shape
    rows = (np.arange(shape[0])[:, None] + 0.5) * pixel_nm - shift_nm[0]
    cols = (np.arange(shape[1])[None, :] + 0.5) * pixel_nm - shift_nm[1]
    for row, col, radius in support.holes:
        inside = 1 / (1 + np.exp((np.hypot(rows - row, cols - col) - radius) / max(4.0, pixel_nm)))
        film = film * (1 - inside) + inside
    return np.log(np.maximum(film, 0.05))


def _stretch(grid: AnyFloat, shape: tuple[int, int], order: int = 3) -> npt.NDArray[np.float64]:
    zoom = [s / g for s, g in zip(shape, grid.shape, strict=True)]
    return np.asarray(ndimage.zoom(grid, zoom, order=order, mode="nearest", grid_mode=True), np.float64)


def _apply_optics(image: AnyFloat, support: Support, pixel_nm: float) -> AnyFloat:
    blurred = ndimage.gaussian_filter(image, support.blur_nm / pixel_nm, mode="nearest")
    if support.fringe > 0:
        ring_px = np.hypot(support.blur_nm, support.fringe_nm) / pixel_nm
        ring = ndimage.gaussian_filter(blurred, ring_px, mode="nearest")
        blurred = blurred + support.fringe * (blurred - ring)
    if support.veil > 0:
        blurred = (1 - support.veil) * blurred + support.veil * blurred.mean()
    return np.asarray(np.maximum(blurred, _LOWEST_TRANSMISSION / 2))


def _illumination(support: Support, shape: tuple[int, int]) -> AnyFloat:
    row = np.linspace(0, 1, shape[0])[:, None] - support.beam_center[0]
    col = np.linspace(0, 1, shape[1])[None, :] - support.beam_center[1]
    distance2 = row**2 + col**2
    return np.asarray(1 - support.falloff * distance2 / max(float(distance2.max()), 1e-9))
