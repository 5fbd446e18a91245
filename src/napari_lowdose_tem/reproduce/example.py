"""The example of Figs. 4 to 7: one field at high dose, at low dose and enhanced, with its lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_lowdose_tem.image import AnyFloat, Image
from napari_lowdose_tem.io import read
from napari_lowdose_tem.measure import Line, measure_raw_noise
from napari_lowdose_tem.pairs import find_fields, load_field
from napari_lowdose_tem.particles.find import Detection, find_particles
from napari_lowdose_tem.reproduce.data import find_parts, name_set
from napari_lowdose_tem.simulate.camera import MEASURED, expose
from napari_lowdose_tem.simulate.pair import FINER, area_mean
from napari_lowdose_tem.simulate.specimen import Particles, Scene, draw_specimen, locate, render

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine

Box = tuple[int, int, int, int]

SIDE_PX, PIXEL_NM = 512, 4.0
DOSE_E_PER_PX = 4.7
HDE_E_PER_PX = 64_000.0  # 1,000 e- on each of 8 × 8 pixels of the 4096² grid
T_MIN = 0.59
# (row, column, diameter) [nm]
REGION_I = (
    (1390, 420, 104), (1440, 500, 96), (1500, 430, 110), (1420, 590, 92), (1500, 560, 100), (1575, 500, 98),
    (1350, 510, 88), (1590, 600, 106), (1650, 555, 95),
)  # fmt: skip
REGION_II = ((1730, 1560, 102), (1770, 1640, 94), (1830, 1570, 108))
ISOLATED = (560, 640, 95.2)
PAIR_D_NM, PAIR_APART_NM, PAIR_AT = (58.3, 73.0), 78.4, (640, 1650)
BOXES_NM = {"I": (1290, 340, 420, 330), "II": (1640, 1460, 260, 260)}  # row, column, rows, columns
TRUTH = {"d": 95.2, "d1": 58.3, "d2": 73.0, "l": 78.4, "m": 12.75}

_REACH_NM, _REACH_PX = 65.0, 16.0  # of a line beyond the particles' edges


@dataclass(frozen=True, eq=False)
class Example:
    """A field at high dose, at low dose and enhanced.

    `hde`, `lde` and `output` are (rows, columns) on the low-dose grid [counts], NaN where the high dose does
    not cover it; `raw_hde` and `raw_lde` are frames as recorded [e-/px, or counts where the gain is unknown].
    Boxes are (row, column, rows, columns) [px]; `truth` is empty for recorded data.
    """

    name: str
    raw_hde: AnyFloat
    raw_lde: AnyFloat
    hde: AnyFloat
    lde: AnyFloat
    output: AnyFloat
    raw_noise: float
    size_nm: tuple[float, float] | None
    gain: float | None
    lines: dict[str, Line]
    boxes: dict[str, Box]
    truth: dict[str, float]

    def __getitem__(self, name: str) -> AnyFloat:
        """Return an image by its name in `lines.IMAGES`."""
        return {"HDE": self.hde, "LDE": self.lde, "output": self.output}[name]


def make_scene(fine: int = 1) -> Scene:
    """Render the specimen after Fig. 4, on a grid finer by a factor."""
    field_nm = (SIDE_PX * PIXEL_NM, SIDE_PX * PIXEL_NM)
    apart = PAIR_APART_NM / 2 * np.array([math.sin(0.5), math.cos(0.5)])
    pair = [(*(np.array(PAIR_AT) + sign * apart), d) for sign, d in zip((-1, 1), PAIR_D_NM, strict=True)]
    spheres = np.array([*REGION_I, *REGION_II, ISOLATED, *pair], float)
    n, diameter = len(spheres), spheres[:, 2]
    # one material where the particles are alike; the pair of the paper is as dark as the larger ones
    attenuation = np.full(n, -100.0 / math.log(T_MIN))
    attenuation[-3:] = -diameter[-3:] / math.log(T_MIN)
    particles = Particles(spheres[:, :2], diameter, attenuation, np.full(n, np.inf), np.zeros(n), (None,) * n)
    bare = draw_specimen("silicate", field_nm, 6, n_particles=0, pixel_size_nm=PIXEL_NM)
    support = replace(bare.support, holes=(), fringe=0.0, veil=0.0, blur_nm=4.0, falloff=0.02)
    specimen = replace(bare, particles=particles, support=support)
    scene = render(specimen, (SIDE_PX * fine, SIDE_PX * fine))
    return replace(scene, truth=locate(specimen, PIXEL_NM))


def draw_low_dose(transmission: AnyFloat, seed: int, draw: int) -> AnyFloat:
    """Expose the specimen at low dose [counts]; `draw` numbers the exposures."""
    return expose(transmission * np.float32(DOSE_E_PER_PX), MEASURED, np.random.default_rng([seed, 1, draw]))


def make_example(engine: Engine, seed: int, draw: int, fine: int) -> Example:
    """Expose the specimen at high and at low dose, and enhance the low dose.

    Parameters
    ----------
    engine
        Model and processor.
    seed, draw
        As in `draw_low_dose`.
    fine
        Pixels of the high-dose frame along one of the low-dose frame, 8 in the paper.
    """
    scene = make_scene(fine)
    camera = replace(MEASURED, clip=False, psf_px=fine / 8)
    electrons = scene.transmission * np.float32(HDE_E_PER_PX / fine**2)
    raw_hde = expose(electrons, camera, np.random.default_rng([seed, 0]))
    lde = draw_low_dose(area_mean(make_scene(FINER).transmission, FINER), seed, draw)
    boxes = {name: tuple(round(v / PIXEL_NM) for v in box) for name, box in BOXES_NM.items()}
    return Example(
        name="simulated silicate",
        raw_hde=raw_hde / np.float32(camera.gain),
        raw_lde=lde / np.float32(MEASURED.gain),
        hde=area_mean(raw_hde, fine),
        lde=lde,
        output=engine.enhance(lde),
        raw_noise=measure_raw_noise(lde),
        size_nm=(PIXEL_NM, PIXEL_NM),
        gain=MEASURED.gain,
        lines=place_lines(scene),
        boxes=boxes,  # type: ignore[arg-type]
        truth=dict(TRUTH),
    )


def place_lines(scene: Scene) -> dict[str, Line]:
    """A–B across the isolated particle, C–D along the pair."""
    *_, alone, first, second = (np.array([s["row_px"], s["col_px"]]) for s in scene.truth)
    slant = np.array([math.sin(-0.4), math.cos(-0.4)])
    radii = [d / 2 / PIXEL_NM for d in (ISOLATED[2], *PAIR_D_NM)]
    reach = _REACH_NM / PIXEL_NM
    return {
        "A–B": _draw_line(alone, alone, slant, radii[0] + reach, radii[0] + reach),
        "C–D": _draw_line(first, second, second - first, radii[1] + reach, radii[2] + reach),
    }


def _draw_line(start: AnyFloat, stop: AnyFloat, along: AnyFloat, before_px: float, behind_px: float) -> Line:
    unit = along / np.linalg.norm(along)
    (row_0, col_0), (row_1, col_1) = (start - before_px * unit).tolist(), (stop + behind_px * unit).tolist()
    return Line((row_0, col_0), (row_1, col_1))


# ---- recorded data


def read_example(engine: Engine, data: Path) -> Example:
    """Take the first field of the silicate set, the paper's set of Fig. 4, or of the first set there is.

    Nobody says where the lines of the paper are: A–B crosses the particle that lies most apart, C–D the
    closest two that do not touch.
    """
    fields = find_fields(find_parts(data)[1])
    field = next((field for field in fields if name_set(field.set_name) == "silicate"), fields[0])
    loaded = load_field(field)
    pair = loaded.pairs[0]
    gain, size_nm = loaded.counts_per_electron, loaded.pixel_size_nm
    hde_image = read(field.hde)
    lde = np.asarray(pair.counts, np.float32)
    output = engine.enhance(lde, engine.measure(Image(lde, counts_per_electron=gain, name=pair.path.stem)))
    lines = find_lines(pair.reference, size_nm)
    hde_gain = hde_image.counts_per_electron
    both = bool(gain and hde_gain)
    return Example(
        name=f"{field.set_name}, {pair.path.name}",
        raw_hde=hde_image.frames(0, 1)[0] / np.float32(hde_gain if both and hde_gain else 1),
        raw_lde=lde / np.float32(gain if both and gain else 1),
        hde=pair.reference,
        lde=lde,
        output=output,
        raw_noise=measure_raw_noise(lde),
        size_nm=size_nm,
        gain=gain,
        lines=lines,
        boxes={
            name: _box_around(line, (lde.shape[0], lde.shape[1]))
            for name, line in zip(("I", "II"), lines.values(), strict=False)
        },
        truth={},
    )


def find_lines(reference: AnyFloat, size_nm: tuple[float, float] | None) -> dict[str, Line]:
    """Find a line across the particle that lies most apart, and one along the closest two that do not touch.

    Parameters
    ----------
    reference
        High-dose frame (rows, columns) [counts].
    size_nm
        Its sampling (row, column) [nm/px], or None.

    Returns
    -------
    "A–B" and "C–D", each only where there are such particles.
    """
    pixel_nm = math.sqrt(math.prod(size_nm)) if size_nm else None
    reach = _REACH_NM / pixel_nm if pixel_nm else _REACH_PX
    found = find_particles(reference, pixel_nm)
    shape = (reference.shape[0], reference.shape[1])
    at = np.array([[p.row_px, p.col_px] for p in found]).reshape(-1, 2)
    radius = np.array([p.diameter_px / 2 for p in found])
    gaps = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1)) - radius[:, None] - radius[None]
    np.fill_diagonal(gaps, np.inf)
    lines = {}
    for i in sorted(range(len(found)), key=lambda i: -min(_clearance(found[i], shape), gaps[i].min())):
        if _clearance(found[i], shape) > reach and gaps[i].min() > reach:
            near = at[gaps[i].argmin()] - at[i] if np.isfinite(gaps[i].min()) else np.array([1.0, 0.0])
            across = np.array([-near[1], near[0]])
            lines["A–B"] = _draw_line(at[i], at[i], across, radius[i] + reach, radius[i] + reach)
            break
    for flat in np.argsort(gaps, axis=None):
        i, j = (int(k) for k in np.unravel_index(flat, gaps.shape))
        if 0 < gaps[i, j] < reach and _is_free(i, j, found, gaps, shape, reach):
            lines["C–D"] = _draw_line(at[i], at[j], at[j] - at[i], radius[i] + reach, radius[j] + reach)
            break
    return lines


def _is_free(
    i: int, j: int, found: Sequence[Detection], gaps: AnyFloat, shape: tuple[int, int], reach: float
) -> bool:
    """Whether nothing else comes near two particles."""
    others = np.delete(gaps[[i, j]], [i, j], axis=1)
    alone = others.size == 0 or float(others.min()) > reach
    return alone and min(_clearance(found[k], shape) for k in (i, j)) > reach


def _clearance(particle: Detection, shape: tuple[int, int]) -> float:
    """Distance from a particle to the rim of the frame [px]."""
    to_rim = min(
        particle.row_px, particle.col_px, shape[0] - 1 - particle.row_px, shape[1] - 1 - particle.col_px
    )
    return to_rim - particle.diameter_px / 2


def _box_around(line: Line, shape: tuple[int, int]) -> Box:
    half = round(line.length_px / 2)
    middle = [(a + b) / 2 for a, b in zip(line.start, line.stop, strict=True)]
    row, col = (max(0, min(round(m) - half, n - 2 * half)) for m, n in zip(middle, shape, strict=True))
    return row, col, min(2 * half, shape[0]), min(2 * half, shape[1])
