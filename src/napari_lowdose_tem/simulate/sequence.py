"""Specimens over time: drift, Brownian motion, growth, nucleation, coalescence; the truth of every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.simulate.camera import MEASURED, Camera, expose
from napari_lowdose_tem.simulate.pair import check_dose, describe, measure_counts_at_t1, simulated_image
from napari_lowdose_tem.simulate.specimen import (
    MATERIALS,
    Particles,
    Scene,
    Specimen,
    draw_particles,
    draw_specimen,
    render,
    render_film,
)

Truth = list[dict[str, Any]]

_LARGEST_NM = 220.0
_DRAINED = 0.15  # share of the smaller particle's volume that goes over to the larger in a frame
_SWALLOWED = 0.02  # volume, relative to the larger, below which the smaller is gone


@dataclass(frozen=True)
class Motion:
    """What changes from frame to frame; lengths in nm, 0 switches a process off.

    Parameters
    ----------
    drift_nm
        R.m.s. step per axis of the stage's random walk [nm/frame].
    brownian_nm
        R.m.s. step per axis of a free 100 nm particle [nm/frame]; goes with the inverse root of the diameter
        (Stokes-Einstein). Particles that touch at the start move as one.
    growth_nm
        Diameter every particle gains [nm/frame], up to 220 nm.
    nucleation
        Expected number of new particles [1/frame].
    nucleus_nm
        Median diameter of a new particle [nm].
    coalesce
        Particles that come into touch fuse into one of the same volume; otherwise they pass over each other.
    """

    drift_nm: float = 0.6
    brownian_nm: float = 1.0
    growth_nm: float = 0.0
    nucleation: float = 0.0
    nucleus_nm: float = 15.0
    coalesce: bool = True

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if min(self.drift_nm, self.brownian_nm, self.growth_nm, self.nucleation) < 0 or self.nucleus_nm <= 0:
            raise ValueError(f"steps and rates must not be negative and nuclei need a diameter, got {self}")


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a sequence: counts [counts], float32, and the noise-free scene with its truth.

    Each entry of `scene.truth` has an `id` that stays with its particle; a coalesced pair keeps the larger's.
    """

    index: int
    counts: npt.NDArray[np.float32]
    scene: Scene


def iter_frames(
    specimen: str | Specimen,
    n_frames: int,
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 3.0,
    dose_e_per_px: float = 5.0,
    camera: Camera = MEASURED,
    rng: np.random.Generator | int | None = 0,
    motion: Motion | None = None,
    **options: Any,
) -> Iterator[Frame]:
    """Yield camera frames of a moving specimen, one at a time.

    Parameters
    ----------
    specimen
        A material's name, or a specimen to start from (`pixel_size_nm` then follows from its field).
    n_frames, shape
        Length [frames] and frame shape (rows, columns) [px].
    pixel_size_nm, dose_e_per_px
        Sampling [nm/px] and electrons on a bare pixel in a frame [e-/px].
    camera
        Detector.
    rng
        Generator or seed; noise and motion are drawn apart, so another camera sees the same motion.
    motion
        What moves; drift, slow Brownian motion and coalescence by default.
    **options
        As `draw_specimen`.
    """
    check_dose(dose_e_per_px)
    if n_frames < 1:
        raise ValueError(f"{n_frames} frames asked for; a sequence has at least one")
    draw, walk, noise = np.random.default_rng(rng).spawn(3)
    if isinstance(specimen, str):
        field_nm = (shape[0] * pixel_size_nm, shape[1] * pixel_size_nm)
        specimen = draw_specimen(specimen, field_nm, draw, pixel_size_nm=pixel_size_nm, **options)
    motion = motion or Motion()
    film = render_film(specimen, shape)
    crowd = _gather(specimen.particles)
    shift_nm = np.zeros(2)
    for index in range(n_frames):
        if index:
            shift_nm = shift_nm + motion.drift_nm * walk.standard_normal(2)
            crowd = _advance(crowd, specimen, motion, walk)
        specimen = replace(specimen, particles=crowd.particles)
        scene = render(specimen, shape, (float(shift_nm[0]), float(shift_nm[1])), film=film)
        truth: Truth = [{"id": int(i), **entry} for i, entry in zip(crowd.ids, scene.truth, strict=True)]
        counts = expose(scene.transmission * np.float32(dose_e_per_px), camera, noise)
        yield Frame(index, counts, replace(scene, truth=truth))


def make_sequence(
    material: str | Specimen = "silicate",
    n_frames: int = 50,
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 3.0,
    dose_e_per_px: float = 5.0,
    camera: Camera = MEASURED,
    rng: np.random.Generator | int | None = 0,
    motion: Motion | None = None,
    **options: Any,
) -> tuple[Image, Image, list[Truth]]:
    """Make a movie in memory; parameters as `iter_frames`.

    Returns
    -------
    reference, movie
        Noise-free and low-dose stacks (frames, rows, columns) [counts], float32, of the same mean level.
    truth
        Per frame the particles' `id`, centre (`row_px`, `col_px`, and from the view's corner in nm), diameter
        and lowest transmission.
    """
    counts, transmission, truth = [], [], []
    for frame in iter_frames(
        material, n_frames, shape, pixel_size_nm, dose_e_per_px, camera, rng, motion, **options
    ):
        if frame.index == 0:
            level = measure_counts_at_t1(frame.scene, frame.counts, camera)
        counts.append(frame.counts)
        transmission.append(frame.scene.transmission)
        truth.append(frame.scene.truth)
        pixel_size_nm = frame.scene.pixel_size_nm
    name = material if isinstance(material, str) else material.material
    described = describe(name, dose_e_per_px, camera, motion=asdict(motion or Motion()))
    reference = np.stack(transmission) * np.float32(level) + np.float32(camera.dark_counts)
    hde = simulated_image(
        reference, f"{name} reference movie", pixel_size_nm, camera, {**described, "counts_at_t1": level}
    )
    return hde, simulated_image(np.stack(counts), f"{name} movie", pixel_size_nm, camera, described), truth


@dataclass(frozen=True, eq=False)
class _Crowd:
    """Particles that know who they are, whom they are stuck to, and which pairs are fusing."""

    particles: Particles
    ids: npt.NDArray[np.intp]
    aggregate: npt.NDArray[np.intp]
    fusing: tuple[tuple[int, int], ...] = ()  # ids of (larger, the one it takes up)
    next_id: int = 0

    def take(self, keep: npt.NDArray[np.intp]) -> _Crowd:
        p = self.particles
        particles = Particles(
            p.center_nm[keep],
            p.diameter_nm[keep],
            p.attenuation_nm[keep],
            p.extinction_nm[keep],
            p.deviation[keep],
            tuple(p.facets[i] for i in keep),
        )
        return replace(self, particles=particles, ids=self.ids[keep], aggregate=self.aggregate[keep])


def _gather(particles: Particles) -> _Crowd:
    count = len(particles)
    _, aggregate = connected_components(_touching(particles), directed=False) if count else (0, np.arange(0))
    return _Crowd(particles, np.arange(count), np.asarray(aggregate, np.intp), next_id=count)


def _advance(crowd: _Crowd, specimen: Specimen, motion: Motion, rng: np.random.Generator) -> _Crowd:
    particles = crowd.particles
    if len(particles):
        steps = rng.standard_normal((crowd.next_id, 2))
        volume = np.bincount(crowd.aggregate, particles.diameter_nm**3)[crowd.aggregate]
        mobility = np.sqrt(100.0 / np.cbrt(volume))[:, None]
        center = particles.center_nm + motion.brownian_nm * mobility * steps[crowd.aggregate]
        room = np.maximum(_LARGEST_NM - particles.diameter_nm, 0)
        grown = particles.diameter_nm + np.minimum(motion.growth_nm, room)
        crowd = replace(crowd, particles=_resize(replace(particles, center_nm=center), grown))
    for _ in range(rng.poisson(motion.nucleation)):
        crowd = _nucleate(crowd, specimen, motion.nucleus_nm, rng)
    return _fuse(crowd) if motion.coalesce else crowd


def _nucleate(crowd: _Crowd, specimen: Specimen, nucleus_nm: float, rng: np.random.Generator) -> _Crowd:
    old = crowd.particles
    new = draw_particles(MATERIALS[specimen.material], 1, nucleus_nm, specimen.field_nm, rng)
    particles = Particles(
        np.concatenate([old.center_nm, new.center_nm]),
        np.append(old.diameter_nm, new.diameter_nm),
        np.append(old.attenuation_nm, new.attenuation_nm),
        np.append(old.extinction_nm, new.extinction_nm),
        np.append(old.deviation, new.deviation),
        old.facets + new.facets,
    )
    me = crowd.next_id
    ids, aggregate = np.append(crowd.ids, me), np.append(crowd.aggregate, me)
    return replace(crowd, particles=particles, ids=ids, aggregate=aggregate, next_id=me + 1)


def _fuse(crowd: _Crowd) -> _Crowd:
    """Let pairs that met drain into one: the volume is kept, the smaller vanishes within some 20 frames."""
    particles, ids, aggregate = crowd.particles, crowd.ids, crowd.aggregate.copy()
    fusing = list(crowd.fusing)
    taken = {small for _, small in fusing}
    strangers = _touching(particles) & (aggregate[:, None] != aggregate[None, :])
    for i, j in np.argwhere(np.triu(strangers)):
        large, small = (i, j) if particles.diameter_nm[i] >= particles.diameter_nm[j] else (j, i)
        if aggregate[i] != aggregate[j] and int(ids[small]) not in taken:
            fusing.append((int(ids[large]), int(ids[small])))
            taken.add(int(ids[small]))
            aggregate[aggregate == aggregate[small]] = aggregate[large]
    if not fusing:
        return crowd
    place = {int(name): at for at, name in enumerate(ids)}
    center, volume = particles.center_nm.copy(), particles.diameter_nm**3
    gone: dict[int, int] = {}
    for large_id, small_id in fusing:
        while large_id in gone:  # what it stuck to was itself taken up
            large_id = gone[large_id]
        large, small = place[large_id], place[small_id]
        drained = max(_DRAINED * volume[small], _SWALLOWED * volume[large])
        if volume[small] - drained < _SWALLOWED * volume[large]:
            drained, gone[small_id] = volume[small], large_id
        center[large] += drained / (volume[large] + drained) * (center[small] - center[large])
        volume[large] += drained
        volume[small] -= drained
        # the shrinking one stays in touch
        apart = center[small] - center[large]
        reach = np.cbrt(volume[large]) / 2 + np.cbrt(volume[small]) / 4
        center[small] = center[large] + apart * min(1.0, reach / max(float(np.linalg.norm(apart)), 1e-9))
    keep = np.array([i for i, name in enumerate(ids) if int(name) not in gone], np.intp)
    left = tuple((a, b) for a, b in _follow(fusing, gone) if b not in gone)
    moved = _resize(replace(particles, center_nm=center), np.cbrt(volume))
    return replace(crowd, particles=moved, aggregate=aggregate, fusing=left).take(keep)


def _follow(fusing: list[tuple[int, int]], gone: dict[int, int]) -> Iterator[tuple[int, int]]:
    for large, small in fusing:
        while large in gone:
            large = gone[large]
        yield large, small


def _resize(particles: Particles, diameter_nm: npt.NDArray[Any]) -> Particles:
    ratio = diameter_nm / particles.diameter_nm
    facets = tuple(
        f if f is None or r == 1 else f * [1, 1, 1, r] for f, r in zip(particles.facets, ratio, strict=True)
    )
    return replace(particles, diameter_nm=diameter_nm, facets=facets)


def _touching(particles: Particles) -> npt.NDArray[np.bool_]:
    """Whether the discs of each two particles meet in projection, (N, N)."""
    apart = np.linalg.norm(particles.center_nm[:, None] - particles.center_nm[None, :], axis=-1)
    radius = particles.diameter_nm / 2
    return np.asarray((apart < radius[:, None] + radius[None, :]) & ~np.eye(len(radius), dtype=bool))
