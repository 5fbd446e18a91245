"""Data sets in the layout of Katsuno et al.: a high-dose frame, two low-dose frames of its field, the next.

::

    folder/
      silicate/silicate_0001.tif   high dose, 4096²
               silicate_0002.tif   low dose, 512², same field
               silicate_0003.tif   low dose again
               silicate_0004.tif   high dose of the next field …
               truth.json
      silicate_movie.ome.tif       low-dose movie
      silicate_movie_reference.ome.tif  the same without noise
      silicate_movie_truth.json
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import open_writer, write
from napari_lowdose_tem.io.output import write_text
from napari_lowdose_tem.simulate.camera import MEASURED, Camera, expose
from napari_lowdose_tem.simulate.pair import (
    FINER,
    area_mean,
    check_dose,
    describe,
    measure_counts_at_t1,
    simulated_image,
)
from napari_lowdose_tem.simulate.sequence import Motion, iter_frames
from napari_lowdose_tem.simulate.specimen import MATERIALS, Specimen, draw_specimen, locate, render

_MOVIE = "_movie.ome.tif"
_HEADROOM = 3.0  # fringes, noise and hot pixels of a high-dose frame reach this many background levels
# drift as in the authors' pairs, in low-dose pixels
_DRIFT_BLUR_PX = 0.5
_LARGEST_SHIFT_PX = 3.0
_REPEAT_SHIFT_PX = 0.1
_NOTE = "row_px, col_px: grid of lde, position in hde; in an lde file they are shifted by its shift_px"


@dataclass(frozen=True)
class DatasetStep:
    """Progress: `done` of `total` fields and movie frames, and the file written last."""

    done: int
    total: int
    path: Path


def simulate_dataset(
    folder: str | Path,
    materials: Sequence[str] = tuple(MATERIALS),
    pairs: int = 10,
    frames: int = 0,
    **options: Any,
) -> Path:
    """Write a data set; parameters as `iter_dataset`."""
    for _ in iter_dataset(folder, materials, pairs, frames, **options):
        pass
    return Path(folder)


def iter_dataset(
    folder: str | Path,
    materials: Sequence[str] = tuple(MATERIALS),
    pairs: int = 10,
    frames: int = 0,
    *,
    dose_e_per_px: float | tuple[float, float] = 5.0,
    seed: int = 0,
    lde_px: int = 512,
    hde_px: int = 4096,
    pixel_size_nm: float = 3.0,
    hde_dose_e_per_px: float = 1000.0,
    camera: Camera = MEASURED,
    motion: Motion | None = None,
    resume: bool = False,
) -> Iterator[DatasetStep]:
    """Write high/low-dose pairs and movies of simulated specimens with their truth.

    Parameters
    ----------
    folder
        Where to write; created if need be.
    materials
        Names out of `MATERIALS`, a folder each.
    pairs
        Fields of view per material, each one high- and two low-dose TIFF files (uint16 counts).
    frames
        Length of a movie per material; 0 for none.
    dose_e_per_px
        Low dose on a bare pixel [e-/px]; of two, each field draws its own between them, log-uniformly.
    seed
        Field k of a material only depends on this and k.
    lde_px, hde_px
        Sides of the low- and high-dose frames [px].
    pixel_size_nm
        Sampling of the low-dose frames [nm/px].
    hde_dose_e_per_px
        High dose on a bare pixel of its own grid [e-/px].
    camera
        Detector of the low-dose frames.
    motion
        Of the movie, as in `iter_frames`.
    resume
        Go on with pairs that were stopped; steps count from the start.

    Raises
    ------
    ValueError
        For unknown materials, sizes that do not divide, nothing to do, or output that exists already.
    """
    folder, motion = Path(folder), motion or Motion()
    lowest, highest = dose_e_per_px if isinstance(dose_e_per_px, tuple) else (dose_e_per_px, dose_e_per_px)
    if lowest > highest or (frames and lowest != highest):
        raise ValueError(f"dose {lowest} to {highest} e-/px; give the lower one first, and one for movies")
    _check(folder, materials, pairs, frames, lde_px, hde_px, resume)
    hde_camera = _high_dose_camera(camera, hde_dose_e_per_px)
    lde = _Exposure(lde_px, pixel_size_nm, lowest, camera, finer=FINER, highest_dose_e_per_px=highest)
    hde = _Exposure(hde_px, pixel_size_nm * lde_px / hde_px, hde_dose_e_per_px, hde_camera)

    def iter_paths() -> Generator[Path, None, None]:
        for material in materials:
            # the place in the table: a material comes out the same whatever it is listed with
            seeds = [seed, list(MATERIALS).index(material)]
            if pairs:
                yield from _iter_pairs(folder / material, material, pairs, lde, hde, seeds, resume)
            if frames:
                yield from _iter_movie(folder, material, frames, lde, motion, seeds)

    folder.mkdir(parents=True, exist_ok=True)
    # closed with this generator: a stopped job leaves the truth of what is complete and no partial movie
    with closing(iter_paths()) as paths:
        for done, path in enumerate(paths, 1):
            yield DatasetStep(done, len(materials) * (pairs + frames), path)


@dataclass(frozen=True)
class _Exposure:
    """How a field is recorded."""

    side_px: int
    pixel_size_nm: float
    dose_e_per_px: float
    camera: Camera
    finer: int = 1  # points a pixel side
    highest_dose_e_per_px: float | None = None  # where each field draws its own

    def __post_init__(self) -> None:
        check_dose(self.dose_e_per_px)

    def dose_range(self) -> dict[str, Any]:
        low, high = self.dose_e_per_px, self.highest_dose_e_per_px
        return {} if high is None or low == high else {"dose_e_per_px": [low, high]}

    def describe(self, material: str) -> dict[str, Any]:
        described = describe(material, self.dose_e_per_px, self.camera)
        return {"side_px": self.side_px, "pixel_size_nm": self.pixel_size_nm} | described

    def draw(self, rng: np.random.Generator) -> _Exposure:
        """Draw the dose of a field."""
        low, high = self.dose_e_per_px, self.highest_dose_e_per_px
        if high is None or low == high:
            return self
        dose = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        return replace(self, dose_e_per_px=dose, highest_dose_e_per_px=None)

    def take(self, specimen: Specimen, rng: np.random.Generator, shift_nm: tuple[float, float]) -> Image:
        """Record one frame, uint16 counts."""
        fine = render(specimen, (self.side_px * self.finer, self.side_px * self.finer), shift_nm)
        electrons = area_mean(fine.transmission, self.finer) * np.float32(self.dose_e_per_px)
        counts = expose(electrons, self.camera, rng)
        return self.image(counts.clip(0, 65535).astype(np.uint16), specimen.material)

    def image(self, counts: npt.NDArray[Any], material: str) -> Image:
        return simulated_image(counts, material, self.pixel_size_nm, self.camera, self.describe(material))


def _check(
    folder: Path, materials: Sequence[str], pairs: int, frames: int, lde_px: int, hde_px: int, resume: bool
) -> None:
    if not materials or min(pairs, frames) < 0 or pairs + frames == 0:
        raise ValueError(
            f"{pairs} pairs and {frames} frames of {len(materials)} materials: nothing to simulate"
        )
    if lde_px < 16 or hde_px % lde_px:
        raise ValueError(
            f"high-dose side {hde_px} px must be a multiple of the low-dose side {lde_px} px, 16 at least"
        )
    for material in materials:
        if material not in MATERIALS:
            raise ValueError(f"unknown material {material!r}; choose from {', '.join(MATERIALS)}")
        for path in (folder / material, folder / f"{material}{_MOVIE}"):
            if resume and path.is_dir():
                continue
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise ValueError(f"{path}: exists already; choose another folder")


def _iter_pairs(
    folder: Path, material: str, pairs: int, lde: _Exposure, hde: _Exposure, seeds: list[int], resume: bool
) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    head = {
        "material": material,
        "seed": seeds[0],
        "lde": lde.describe(material) | lde.dose_range(),
        "hde": hde.describe(material),
        "note": _NOTE,
    }
    fields = _stored_fields(folder / "truth.json", head)[:pairs] if resume else []
    for index in range(pairs):
        names = [f"{material}_{3 * index + i:04d}.tif" for i in (1, 2, 3)]
        if index >= len(fields):
            rng = np.random.default_rng([*seeds, index])
            fields.append(_write_field(folder, names, material, lde, hde, rng))
            # at once: a field counts as complete once its truth is there
            _write_json({**head, "fields": fields}, folder / "truth.json")
        yield folder / names[-1]


def _stored_fields(path: Path, head: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the fields written before the same data set was stopped."""
    if not path.exists():
        return []
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    fields: list[dict[str, Any]] = stored.pop("fields")
    if stored != json.loads(json.dumps(round_numbers(head))):
        raise ValueError(f"{path}: of a data set with other settings; give the same ones or another folder")
    return fields


def _write_field(
    folder: Path, names: list[str], material: str, lde: _Exposure, hde: _Exposure, rng: np.random.Generator
) -> dict[str, Any]:
    lde = lde.draw(rng)
    field_nm = lde.side_px * lde.pixel_size_nm
    specimen = draw_specimen(material, (field_nm, field_nm), rng, pixel_size_nm=lde.pixel_size_nm)
    blur_nm = rng.uniform(0, _DRIFT_BLUR_PX) * lde.pixel_size_nm
    support = specimen.support
    moved = replace(support, blur_nm=float(np.hypot(support.blur_nm, blur_nm)))
    # files of a field that was being written when the job was stopped are written anew
    write(hde.take(replace(specimen, support=moved), rng, (0.0, 0.0)), folder / names[0], overwrite=True)

    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0, _LARGEST_SHIFT_PX)
    repeats = []
    for name in names[1:]:
        shift_px = distance * np.array([np.sin(angle), np.cos(angle)]) + rng.normal(0, _REPEAT_SHIFT_PX, 2)
        row_nm, col_nm = (shift_px * lde.pixel_size_nm).tolist()
        write(lde.take(specimen, rng, (row_nm, col_nm)), folder / name, overwrite=True)
        repeats.append({"file": name, "shift_px": shift_px.tolist()})
    particles = locate(specimen, lde.pixel_size_nm)
    return {
        "hde": {"file": names[0], "drift_blur_nm": blur_nm},
        "dose_e_per_px": lde.dose_e_per_px,
        "lde": repeats,
        "particles": [{"id": i, **entry} for i, entry in enumerate(particles)],
    }


def _iter_movie(
    folder: Path, material: str, n_frames: int, lde: _Exposure, motion: Motion, seeds: list[int]
) -> Iterator[Path]:
    path = folder / f"{material}{_MOVIE}"
    reference_path = folder / f"{material}_movie_reference.ome.tif"
    shape = (lde.side_px, lde.side_px)
    like = lde.image(np.zeros(shape, np.float32), material)
    rng = np.random.default_rng([*seeds, 2**31])
    truth = []
    with (
        open_writer(path, like, n_frames, job={}) as movie,
        open_writer(reference_path, like, n_frames, job={}) as reference,
    ):
        try:
            for frame in iter_frames(
                material, n_frames, shape, lde.pixel_size_nm, lde.dose_e_per_px, lde.camera, rng, motion
            ):
                movie.write(frame.index, frame.counts[None])
                if frame.index == 0:
                    level = measure_counts_at_t1(frame.scene, frame.counts, lde.camera)
                noise_free = frame.scene.transmission[None] * level + lde.camera.dark_counts
                reference.write(frame.index, noise_free)
                shift_px = [shift / lde.pixel_size_nm for shift in frame.scene.shift_nm]
                truth.append({"shift_px": shift_px, "particles": frame.scene.truth})
                yield path
            reference.finish()
            head = {
                "material": material,
                "seed": seeds[0],
                "lde": lde.describe(material),
                "motion": asdict(motion),
                "reference_counts_at_t1": level,
            }
            _write_json({**head, "file": path.name, "frames": truth}, folder / f"{material}_movie_truth.json")
            movie.finish()
        except BaseException:
            movie.discard()
            reference.discard()
            raise


def _high_dose_camera(camera: Camera, dose_e_per_px: float) -> Camera:
    """Give the camera unbinned: light spread over more pixels, and a gain that does not saturate uint16."""
    gain = min(camera.gain, 65535 / (_HEADROOM * dose_e_per_px))
    return replace(camera, gain=gain, psf_px=1.0, clip=True)


def _write_json(content: dict[str, Any], path: Path) -> None:
    write_text(path, json.dumps(round_numbers(content), allow_nan=False, separators=(",", ":")))


def round_numbers(value: Any, digits: int = 7) -> Any:
    """Round all floats in JSON values; seven digits are more than any measurement resolves."""
    if isinstance(value, dict):
        return {key: round_numbers(entry, digits) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [round_numbers(entry, digits) for entry in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
