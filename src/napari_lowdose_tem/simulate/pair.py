"""One field of view at high and at low dose."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import F32, Image
from napari_lowdose_tem.simulate.camera import MEASURED, Camera, expose
from napari_lowdose_tem.simulate.specimen import Scene, draw_specimen, locate, render

_HDE_E_PER_LDE_PX = 64_000.0  # 1,000 e- on each of 8 × 8 unbinned pixels
FINER = 2
"""Points a pixel side that a pair is rendered with: thickness fringes are narrower than a low-dose pixel."""


def simulate_pair(
    material: str = "silicate",
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 3.0,
    dose_e_per_px: float = 5.0,
    camera: Camera = MEASURED,
    rng: np.random.Generator | int | None = 0,
    **options: Any,
) -> tuple[Image, Image, Scene]:
    """Simulate a high- and a low-dose exposure of the same field, without drift between them.

    Parameters
    ----------
    material
        One of `MATERIALS`.
    shape, pixel_size_nm
        Grid of both images (rows, columns) [px] and its sampling [nm/px].
    dose_e_per_px
        Low dose on a bare pixel [e-/px].
    camera
        Detector of the low-dose exposure.
    rng
        Generator or seed.
    **options
        As `draw_specimen`.

    Returns
    -------
    hde, lde
        Both float32 [counts]: the reference, area-averaged from 64,000 e-/px and brought to the mean level of
        the low dose, and the low-dose frame.
    scene
        Transmission and the particles' truth.
    """
    check_dose(dose_e_per_px)
    draw, noise = np.random.default_rng(rng).spawn(2)
    field_nm = (shape[0] * pixel_size_nm, shape[1] * pixel_size_nm)
    specimen = draw_specimen(material, field_nm, draw, pixel_size_nm=pixel_size_nm, **options)
    fine = render(specimen, (shape[0] * FINER, shape[1] * FINER)).transmission
    scene = Scene(area_mean(fine, FINER), pixel_size_nm, specimen, truth=locate(specimen, pixel_size_nm))
    lde = expose(scene.transmission * np.float32(dose_e_per_px), camera, noise)

    fine_dose = _HDE_E_PER_LDE_PX / FINER**2
    adc = replace(camera, clip=False, dark_counts=0.0, outlier_rate=0.0)
    hde = area_mean(expose(fine * np.float32(fine_dose), adc, noise), FINER)
    level = measure_counts_at_t1(scene, lde, camera)
    hde = hde * np.float32(level / (camera.gain * fine_dose)) + np.float32(camera.dark_counts)
    described = describe(material, dose_e_per_px, camera)
    return (
        simulated_image(
            hde, f"{material} high dose", pixel_size_nm, camera, {**described, "counts_at_t1": level}
        ),
        simulated_image(lde, f"{material} low dose", pixel_size_nm, camera, described),
        scene,
    )


def check_dose(dose_e_per_px: float) -> None:
    """Raise ValueError unless the dose is positive [e-/px]."""
    if not dose_e_per_px > 0:
        raise ValueError(f"dose {dose_e_per_px} e-/px is not positive; low-dose frames have 1 to 50 e-/px")


def measure_counts_at_t1(scene: Scene, counts: F32, camera: Camera) -> float:
    """Measure the counts that stand for a transmission of 1 [counts].

    A few per cent above gain · dose where a camera clips negative noise to 0.
    """
    return (float(counts.mean()) - camera.dark_counts) / float(scene.transmission.mean())


def area_mean(image: F32, factor: int) -> F32:
    """Average over factor × factor pixels."""
    rows, cols = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32))


def describe(material: str, dose_e_per_px: float, camera: Camera, **entries: Any) -> dict[str, Any]:
    """Describe in JSON values what was simulated; a gamma shape of null is infinity, no excess noise."""
    detector = {key: None if value == np.inf else value for key, value in asdict(camera).items()}
    return {"material": material, "dose_e_per_px": float(dose_e_per_px), "camera": detector, **entries}


def simulated_image(
    data: npt.NDArray[Any], name: str, pixel_size_nm: float, camera: Camera, described: dict[str, Any]
) -> Image:
    """Put calibration and provenance around simulated counts."""
    return Image(
        data,
        pixel_size_nm=(pixel_size_nm, pixel_size_nm),
        counts_per_electron=camera.gain,
        name=name,
        provenance={"source": "simulation", "simulation": described},
    )
