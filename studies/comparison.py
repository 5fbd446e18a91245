"""Compare the shipped model with classical denoising on simulated frames of known truth.

Run it in the project's environment with one more package that the project itself does not need:

    pip install bm3d
    python studies/comparison.py [--scenes N] [--model NAME_OR_FILE …] [--out FOLDER]

The classical methods get all that is known of the camera: the generalised Anscombe transform with its
parameters, an exact unbiased inverse that knows of clipping (tabulated from the camera itself), the noise
level, for BM3D the spectrum of the noise, streaks included; and for each material the strength, binning and
variant that is best on scenes set aside for that. Score: PSNR after a least-squares line, peak = the truth's
maximum − minimum. Results per image go to comparison.json; classical rows found there with the same settings
are kept, so that a stopped run goes on and a new model costs only its own row.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track
from scipy import ndimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.judge.metrics import match_affine, psnr
from napari_lowdose_tem.simulate.camera import MEASURED, expose
from napari_lowdose_tem.simulate.specimen import MATERIALS, make_scene
from pages import add_out, choose_folders, tabulate

Array = npt.NDArray[np.float64]

SHAPE = (512, 512)
PIXEL_SIZE_NM = 3.0
DOSE_E_PER_PX = 5.0
SEED = 20_210_601  # training draws from seeds below 1,000
TUNING_SCENES = 4


@dataclass(frozen=True)
class Setting:
    """How a classical method is run: on which data, and how strongly."""

    strength: float
    binning: int
    stabilised: bool = True
    streaks: str = "none"


# strength: σ [binned px] for Gaussian, else in units of the noise's σ
STRENGTHS = {
    "Gaussian": (0.7, 1.0, 1.4, 2.0, 2.8, 4.0),
    "Total variation": (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0),
    "Non-local means": (0.25, 0.35, 0.45, 0.6, 0.8),
    "BM3D": (0.7, 1.0, 1.4),
}


def settings_of(method: str) -> list[Setting]:
    """List what is tried; less of what takes seconds a frame and scored decibels lower in trials."""
    strengths = STRENGTHS[method]
    if method == "BM3D":
        known = itertools.product(strengths, (4, 8), (True, False), ("spectrum",))
        return [*(Setting(*setting) for setting in known), Setting(1.4, 8), Setting(1.4, 8, streaks="rows")]
    fine = (2,) if method == "Non-local means" else (1, 2)
    return [
        *(Setting(*setting) for setting in itertools.product(strengths, fine, (True,), ("rows",))),
        *(Setting(*s) for s in itertools.product(strengths, (4, 8, 16), (True, False), ("none", "rows"))),
    ]


def draw_scene(material: str, index: int, purpose: int) -> tuple[Array, Array]:
    """Draw transmission and a low-dose frame in counts; purpose 0 to score on, 1 to tune on."""
    rng = np.random.default_rng([SEED, purpose, list(MATERIALS).index(material), index])
    while True:
        scene = make_scene(material, SHAPE, PIXEL_SIZE_NM, rng)
        # bare film has no contrast to score against
        if any(0 <= p["row_px"] < SHAPE[0] and 0 <= p["col_px"] < SHAPE[1] for p in scene.truth):
            break
    counts = expose(scene.transmission * np.float32(DOSE_E_PER_PX), MEASURED, rng)
    return scene.transmission.astype(np.float64), counts.astype(np.float64)


def stabilise(counts: Array, stabilised: bool) -> Array:
    """Apply the generalised Anscombe transform for this camera, or only scale to electrons."""
    camera = MEASURED
    tap = np.exp(-0.5 * (np.arange(-2, 3) / camera.psf_px) ** 2)
    shared = (np.square(tap).sum() / tap.sum() ** 2) ** 2  # variance left after the light spreads
    slope = camera.gain * (1 + 1 / camera.gamma_shape) * shared
    floor = camera.gain**2 * (camera.read_e**2 + camera.streak_e**2 + camera.row_e**2)
    if not stabilised:
        return counts / camera.gain
    return 2 / slope * np.sqrt(slope * counts + 0.375 * slope**2 + floor)


@cache
def inverse_table(stabilised: bool) -> tuple[Array, Array]:
    """Tabulate the mean of stabilised data against electrons, clipping included."""
    electrons = np.linspace(0, 1.6 * DOSE_E_PER_PX, 65)
    flat = np.broadcast_to(electrons[:, None, None], (65, 256, 256))
    return stabilise(expose(flat, MEASURED, 1).astype(np.float64), stabilised).mean((1, 2)), electrons


@cache
def noise_spectrum(stabilised: bool, binning: int) -> Array:
    """Mean |FFT|² of stabilised, binned noise at the mean dose."""
    power = np.zeros((SHAPE[0] // binning, SHAPE[1] // binning))
    for seed in range(32):
        flat = expose(np.full(SHAPE, DOSE_E_PER_PX), MEASURED, seed).astype(np.float64)
        noise = bin_blocks(stabilise(flat, stabilised), binning)
        power += np.abs(np.fft.fft2(noise - inverse_mean(stabilised))) ** 2 / 32
    # it hardly varies along a column, while streaks make it steep along a row
    return ndimage.gaussian_filter1d(power, 6, axis=0, mode="wrap")


def inverse_mean(stabilised: bool) -> float:
    """Mean of stabilised data at the mean dose."""
    mean, electrons = inverse_table(stabilised)
    return float(np.interp(DOSE_E_PER_PX, electrons, mean))


def bin_blocks(image: Array, binning: int) -> Array:
    """Average blocks of binning × binning px."""
    rows, cols = image.shape
    return image.reshape(rows // binning, binning, cols // binning, binning).mean((1, 3))


def denoise(method: str, counts: Array, setting: Setting) -> Array:
    """Run a classical method; returns electrons per pixel on the frame's grid."""
    data = bin_blocks(stabilise(counts, setting.stabilised), setting.binning)
    if setting.streaks == "rows":
        smooth = ndimage.gaussian_filter1d(data, 8 / setting.binning, axis=0)
        data = data - (data - smooth).mean(1, keepdims=True)
    spectrum = noise_spectrum(setting.stabilised, setting.binning)
    sigma = float(np.sqrt(spectrum.mean() / spectrum.size))
    level = setting.strength * sigma
    if method == "Gaussian":
        smooth = ndimage.gaussian_filter(data, setting.strength)
    elif method == "Total variation":
        smooth = denoise_tv_chambolle(data, level)
    elif method == "Non-local means":
        smooth = denoise_nl_means(data, 7, 11, h=level, sigma=sigma, fast_mode=True)
    else:
        np.trapz = np.trapezoid  # noqa: NPY201 - bm3d uses the name that NumPy 2 dropped
        from bm3d import bm3d

        smooth = bm3d(data, spectrum * setting.strength**2 if setting.streaks == "spectrum" else level)
    if setting.binning > 1:
        smooth = ndimage.zoom(smooth, setting.binning, order=3, mode="nearest", grid_mode=True)
    return np.interp(smooth, *inverse_table(setting.stabilised))


def score(output: Array, truth: Array) -> float:
    """PSNR [dB] after a least-squares line."""
    return psnr(match_affine(output, truth), truth)


def tune(method: str, material: str) -> Setting:
    """Choose the setting with the best mean score on the scenes set aside."""
    scenes = [draw_scene(material, i, 1) for i in range(TUNING_SCENES)]
    tried = {s: np.mean([score(denoise(method, y, s), t) for t, y in scenes]) for s in settings_of(method)}
    return max(tried, key=lambda s: tried[s])


def score_all(what: str, run: dict[str, Callable[[Array], Array]], n_scenes: int) -> dict[str, list[float]]:
    """Score a method, given per material, on the validation scenes."""
    scores: dict[str, list[float]] = {material: [] for material in MATERIALS}
    for material, i in track(list(itertools.product(MATERIALS, range(n_scenes))), what):
        truth, counts = draw_scene(material, i, 0)
        scores[material].append(round(score(run[material](counts), truth), 4))
    return scores


def score_classical(method: str, n_scenes: int) -> dict[str, Any]:
    """Tune and score a classical method, or the noisy frame itself."""
    if method not in STRENGTHS:
        return {"psnr_db": score_all(method, dict.fromkeys(MATERIALS, np.array), n_scenes)}
    chosen = {m: tune(method, m) for m in track(MATERIALS, f"{method}: tuning")}
    run = {m: partial(denoise, method, setting=setting) for m, setting in chosen.items()}
    return {
        "chosen": {m: asdict(setting) for m, setting in chosen.items()},
        "psnr_db": score_all(method, run, n_scenes),
    }


def write_table(path: Path, result: dict[str, Any], command: str) -> None:
    """Write the Markdown page."""
    rows = {**result["classical"], **result["models"]}
    best, ours = best_classical(result), list(result["models"])[-1]
    pooled = {name: np.concatenate(list(row["psnr_db"].values())) for name, row in rows.items()}
    gain = pooled[ours] - pooled[best]
    scores = {
        name: [f"{np.mean(s):.2f} ± {np.std(s):.2f}" for s in (*row["psnr_db"].values(), pooled[name])]
        for name, row in rows.items()
    }
    chosen = {
        name: [describe(Setting(**c)) for c in result["classical"][name]["chosen"].values()]
        for name in STRENGTHS
    }
    text = f"""# Model and classical methods on frames of known truth

PSNR [dB], mean ± SD over {result["settings"]["scenes"]} simulated scenes per material, seen neither in
training nor in tuning: {SHAPE[0]} × {SHAPE[1]} px, {PIXEL_SIZE_NM} nm/px, {DOSE_E_PER_PX:g} e-/px, the
measured camera, at least one particle. Each output is fitted to the truth by a least-squares line; peak = the
truth's range.

{tabulate([*MATERIALS, "all"], scores)}

{ours} minus {best}: {gain.mean():+.2f} ± {gain.std():.2f} dB, better on {np.mean(gain > 0):.0%} of the
frames, at worst {gain.min():+.2f} dB.

![Truth, low-dose frame, best classical method, model](images/comparison.png)

Of each material the scene with the model's median score; grey levels from the truth.

## Settings of the classical methods

Chosen per material on {TUNING_SCENES} other scenes, given as strength, binning, data, streaks. Strength is
σ in binned pixels for the Gaussian, else in units of the binned noise's σ (non-local means: patch 7, distance
11). Data are raw or stabilised (generalised Anscombe with the camera's gain, excess and read noise), then
area-binned; the output is enlarged by cubic splines and inverted by a table that knows of noise and clipping.
Streaks are ignored, reduced by subtracting the rows' offsets, or (BM3D) given as the spectrum of the noise.
Tried were binnings 1, 2, 4, 8, 16×; non-local means from 2×, BM3D 4× and 8×.

{tabulate(list(MATERIALS), chosen)}

Repeat it with

    {command}
"""
    path.write_text(text, encoding="utf-8")


def describe(setting: Setting) -> str:
    """Put a setting in few words."""
    data = "stabilised" if setting.stabilised else "raw"
    streaks = "" if setting.streaks == "none" else f", {setting.streaks}"
    return f"{setting.strength:g}, {setting.binning}×, {data}{streaks}"


def best_classical(result: dict[str, Any]) -> str:
    """Name the classical method with the best mean over all scenes."""
    rows = result["classical"]
    return max(STRENGTHS, key=lambda m: float(np.mean(list(rows[m]["psnr_db"].values()))))


def draw_sheet(path: Path, result: dict[str, Any], engine: Engine) -> None:
    """Draw truth, low-dose frame, best classical method and model, a row a material."""
    from matplotlib.figure import Figure

    best, ours = best_classical(result), list(result["models"])[-1]
    figure = Figure((8, 10), layout="constrained")
    axes = figure.subplots(len(MATERIALS), 4)
    for row, material in zip(axes, MATERIALS, strict=True):
        scores = result["models"][ours]["psnr_db"][material]
        truth, counts = draw_scene(material, int(np.argsort(scores)[len(scores) // 2]), 0)
        setting = Setting(**result["classical"][best]["chosen"][material])
        low, high = np.percentile(truth, [0.1, 99.9])
        shown = {
            "Truth": truth,
            "Low dose": counts,
            best: match_affine(denoise(best, counts, setting), truth),
            ours: match_affine(engine.enhance(counts), truth),
        }
        for axis, (title, image) in zip(row, shown.items(), strict=True):
            if image is counts:  # its noise is far wider than the truth's range
                axis.imshow(image, "gray", vmin=0, vmax=np.percentile(image, 99))
            else:
                axis.imshow(image, "gray", vmin=low, vmax=high)
            marked = f"{title}, {psnr(image, truth):.1f} dB" if title in (best, ours) else title
            axis.set_title(marked, fontsize=8)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(material)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def save(path: Path, result: dict[str, Any]) -> None:
    """Write the results so far."""
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=25, help="validation scenes per material")
    parser.add_argument("--model", nargs="+", default=["default"], help="names or files; the last is drawn")
    add_out(parser)
    args = parser.parse_args()
    numbers, pages = choose_folders(args.out)

    # any change of simulator or camera makes classical rows stale
    fingerprint = hashlib.sha256(np.concatenate([draw_scene(m, 0, 0) for m in MATERIALS]).tobytes())
    settings = {
        "scenes": args.scenes,
        "tuning_scenes": TUNING_SCENES,
        "dose_e_per_px": DOSE_E_PER_PX,
        "pixel_size_nm": PIXEL_SIZE_NM,
        "camera": asdict(MEASURED),
        "tried": {method: [describe(s) for s in settings_of(method)] for method in STRENGTHS},
        "first_scenes_sha256": fingerprint.hexdigest(),
    }
    stored = numbers / "comparison.json"
    result: dict[str, Any] = json.loads(stored.read_text("utf-8")) if stored.exists() else {}
    if result.get("settings") != settings:
        result = {"settings": settings, "classical": {}}
    for method in ("Low-dose frame", *STRENGTHS):
        if method not in result["classical"]:
            result["classical"][method] = score_classical(method, args.scenes)
            save(stored, result)
    result["models"] = {}
    for model in args.model:
        with Engine(model) as engine:
            label = f"Model {engine.model.file.label}"
            scores = score_all(label, dict.fromkeys(MATERIALS, engine.enhance), args.scenes)
            result["models"][label] = {"sha256": engine.model.file.sha256, "psnr_db": scores}
            save(stored, result)
            if model == args.model[-1]:
                draw_sheet(pages / "images" / "comparison.png", result, engine)
    options = "" if args.scenes == 25 else f" --scenes {args.scenes}"
    write_table(pages / "comparison.md", result, f"python studies/comparison.py{options}")
    Console().print((pages / "comparison.md").read_text("utf-8"), markup=False)


if __name__ == "__main__":
    main()
