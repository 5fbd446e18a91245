"""The demonstration: a movie whose truth is known, enhanced, compared and drawn."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.enhancement import EnhanceJob, iter_enhance
from napari_lowdose_tem.figures.scale_bar import Extent, draw_scale_bar
from napari_lowdose_tem.image import AnyFloat, Image
from napari_lowdose_tem.io import write
from napari_lowdose_tem.judge.metrics import mae, match_affine, psnr, ssim
from napari_lowdose_tem.measure import (
    FitOptions,
    Line,
    Measurement,
    fit_profile,
    measure_raw_noise,
    sample_line,
)
from napari_lowdose_tem.simulate import make_sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_SHAPE, _DOSE_E_PER_PX = (512, 512), 5.0
_SPECIMEN: dict[str, Any] = {"material": "silicate", "rng": 10, "median_diameter_nm": 80.0, "n_particles": 40}
_PATCH_PX = 48


@dataclass(frozen=True)
class MovieQuality:
    """Agreement of a movie with its truth, a value per frame, after the best affine fit of each frame.

    PSNR [dB] and MAE [share of the truth's range]; `flicker` is the SD over frames of the mean of an empty
    patch, as a share of the background.
    """

    psnr_db: tuple[float, ...]
    mae: tuple[float, ...]
    ssim: tuple[float, ...]
    flicker: float


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demonstration found and the files it left."""

    lde: MovieQuality
    enhanced: MovieQuality
    diameters: tuple[str, str, str]  # of one particle: truth, on the LDE, on the enhanced frame
    frames_per_s: float
    device: str
    files: tuple[Path, ...]

    def rows(self) -> list[tuple[str, str, str]]:
        """Return table rows: quantity, LDE, enhanced."""
        truth, *measured = self.diameters
        both = (self.lde, self.enhanced)
        rows = [
            ("PSNR (dB)", *(f"{np.mean(q.psnr_db):.1f}" for q in both)),
            ("MAE (share of the range)", *(f"{np.mean(q.mae):.3f}" for q in both)),
            ("SSIM", *(f"{np.mean(q.ssim):.2f}" for q in both)),
            ("background flicker", *(f"{100 * q.flicker:.2f} %" for q in both)),
            (f"diameter of one particle, truth {truth}", *measured),
        ]
        return [(a, b, c) for a, b, c in rows]


@dataclass(frozen=True)
class DemoStep:
    """Progress: the stage's name, frames done in it, and the result with the last step."""

    stage: str
    done: float
    total: int
    result: DemoResult | None = None


def iter_demo(
    folder: Path, model: str | Path = "default", device: str = "auto", n_frames: int = 24
) -> Iterator[DemoStep]:
    """Simulate, enhance, compare, draw; files of an earlier demonstration in `folder` are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    yield DemoStep("simulating", 0, n_frames)
    reference, lde, truth = make_sequence(
        n_frames=n_frames, shape=_SHAPE, dose_e_per_px=_DOSE_E_PER_PX, **_SPECIMEN
    )
    lde = lde.with_data(lde.frames(0, n_frames).astype(np.uint16))  # as a camera stores them
    files = [folder / name for name in ("reference.ome.tif", "lde.ome.tif", "enhanced.ome.tif", "truth.json")]
    write(reference, files[0], overwrite=True)
    write(lde, files[1], overwrite=True)
    files[3].write_text(json.dumps(truth))
    enhanced, frames_per_s, used = lde, 0.0, ""
    engine = EngineOptions(model=model, device=device)
    for progress in iter_enhance(EnhanceJob(lde, engine=engine, output=files[2], overwrite=True)):
        yield DemoStep("enhancing", progress.done, progress.total)
        enhanced, used = progress.result or enhanced, progress.device
        frames_per_s = progress.frames_per_s
    yield DemoStep("comparing", 0, n_frames)
    movies = [image.frames(0, n_frames) for image in (reference, lde, enhanced)]
    quality = [_judge(movie, movies[0]) for movie in movies[1:]]
    files.append(_write_table(folder / "quality.csv", *quality))
    yield DemoStep("drawing", n_frames, n_frames)
    particle = max(
        _inside(truth[0]), key=lambda entry: (1 - entry["t_center"]) * entry["diameter_nm"], default=None
    )
    files.append(_draw_overview(folder / "overview.png", [movie[0] for movie in movies], lde, particle))
    files.append(_draw_quality(folder / "quality.png", *quality))
    diameters = _measure_diameters([movie[0] for movie in movies], lde, particle)
    result = DemoResult(
        lde=quality[0],
        enhanced=quality[1],
        diameters=diameters,
        frames_per_s=frames_per_s,
        device=used,
        files=tuple(files),
    )
    yield DemoStep("done", n_frames, n_frames, result)


def _judge(movie: AnyFloat, reference: AnyFloat) -> MovieQuality:
    fitted = [match_affine(frame, truth) for frame, truth in zip(movie, reference, strict=True)]
    pairs = list(zip(fitted, reference, strict=True))
    patch = _emptiest_patch(reference)
    means = movie[(slice(None), *patch)].mean(axis=(1, 2))
    return MovieQuality(
        psnr_db=tuple(psnr(a, b) for a, b in pairs),
        mae=tuple(mae(a, b) / float(np.ptp(b)) for a, b in pairs),
        ssim=tuple(ssim(a, b) for a, b in pairs),
        flicker=float(means.std() / means.mean()),
    )


def _emptiest_patch(reference: AnyFloat) -> tuple[slice, slice]:
    """Return the square whose darkest pixel over all frames is brightest: nothing ever enters it."""
    darkest = reference.min(axis=0)
    rows, cols = (range(0, n - _PATCH_PX + 1, _PATCH_PX // 2) for n in darkest.shape)
    row, col = max(
        ((r, c) for r in rows for c in cols),
        key=lambda at: darkest[at[0] :, at[1] :][:_PATCH_PX, :_PATCH_PX].min(),
    )
    return slice(row, row + _PATCH_PX), slice(col, col + _PATCH_PX)


def _inside(truth: list[dict[str, Any]]) -> list[dict[str, Any]]:
    margin = 60
    return [
        entry
        for entry in truth
        if margin < entry["row_px"] < _SHAPE[0] - margin and margin < entry["col_px"] < _SHAPE[1] - margin
    ]


def _measure_diameters(
    frames: list[AnyFloat], lde: Image, particle: dict[str, Any] | None
) -> tuple[str, str, str]:
    if particle is None:
        return "-", "-", "-"
    pixel_nm = (lde.pixel_size_nm or (1.0, 1.0))[0]
    row, col, reach = particle["row_px"], particle["col_px"], 0.5 * particle["diameter_nm"] / pixel_nm + 12
    line = Line((row, col - reach), (row, col + reach))
    noise = measure_raw_noise(frames[1])
    found = [
        fit_profile(
            sample_line(frame, line, lde.pixel_size_nm), FitOptions("full", 1, is_enhanced=made), noise
        )
        for frame, made in ((frames[1], False), (frames[2], True))
    ]
    return f"{particle['diameter_nm']:.0f} nm", _write_diameter(found[0]), _write_diameter(found[1])


def _write_diameter(found: Measurement) -> str:
    if found.refused:
        return "refused: noise"
    particle = found.particles[0]
    return f"{particle.diameter:.0f} ± {particle.diameter_se:.0f} nm"


def _write_table(path: Path, lde: MovieQuality, enhanced: MovieQuality) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        names = [f"{kind}_{which}" for which in ("lde", "enhanced") for kind in ("psnr_db", "mae", "ssim")]
        table.writerow(["frame", *names])
        columns = [q for m in (lde, enhanced) for q in (m.psnr_db, m.mae, m.ssim)]
        for index, values in enumerate(zip(*columns, strict=True)):
            table.writerow([index, *(f"{value:.5g}" for value in values)])
    return path


def _draw_overview(path: Path, frames: list[AnyFloat], lde: Image, particle: dict[str, Any] | None) -> Path:
    from matplotlib.figure import Figure

    pixel_nm = (lde.pixel_size_nm or (1.0, 1.0))[0]
    figure = Figure(figsize=(13, 7.2 if particle else 4.8), layout="constrained")
    grid = figure.add_gridspec(2 if particle else 1, 3, height_ratios=[2.6, 1] if particle else [1])
    titles = ("truth (noise-free)", f"LDE, {_DOSE_E_PER_PX:g} e\u207b/px", "enhanced")
    low, high = np.percentile(np.stack([frames[0], frames[2]]), [0.05, 99.95])
    axes = [figure.add_subplot(grid[0, i]) for i in range(3)]
    for axis, frame, title in zip(axes, frames, titles, strict=True):
        # the noise of single counts spans many times the contrast, so the LDE gets its own limits
        limits = np.percentile(frame, [1, 99]) if title.startswith("LDE") else (low, high)
        axis.imshow(frame, cmap="gray", vmin=limits[0], vmax=limits[1])
        axis.set_title(title)
        axis.set_axis_off()
        rows, cols = frame.shape
        draw_scale_bar(axis, Extent(-0.5, cols - 0.5, rows - 0.5, -0.5), "nm", pixel_nm, share=0.2, points=10)
    if particle:
        _draw_profile(figure.add_subplot(grid[1, :]), axes, frames, pixel_nm, particle)
    figure.savefig(path, dpi=110)
    return path


def _draw_profile(
    axis: Axes, images: list[Axes], frames: list[AnyFloat], pixel_nm: float, particle: dict[str, Any]
) -> None:
    row, reach = round(particle["row_px"]), round(1.5 * particle["diameter_nm"] / pixel_nm)
    first = max(0, round(particle["col_px"]) - reach)
    last = min(frames[0].shape[1], round(particle["col_px"]) + reach)
    for image in images:
        image.plot([first, last - 1], [row, row], color="tab:orange", lw=1.2)
    position = (np.arange(first, last) - first) * pixel_nm
    styles = (("LDE", 1, "0.7", 1.0), ("truth", 0, "black", 1.8), ("enhanced", 2, "tab:orange", 1.8))
    for label, index, color, width in styles:
        axis.plot(position, frames[index][row, first:last], color=color, lw=width, label=label)
    axis.set(xlabel="position along the orange line [nm]", ylabel="counts", xlim=(0, position[-1]))
    axis.set_title(f"one pixel row across a particle of {particle['diameter_nm']:.0f} nm", fontsize=10)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_quality(path: Path, lde: MovieQuality, enhanced: MovieQuality) -> Path:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.add_subplot()
    for label, quality, color in (("enhanced", enhanced, "tab:orange"), ("LDE", lde, "0.5")):
        axis.plot(
            quality.psnr_db,
            "o-",
            ms=3,
            color=color,
            label=f"{label} (mean {np.mean(quality.psnr_db):.1f} dB)",
        )
    axis.set(xlabel="frame", ylabel="PSNR against the truth [dB]\n(affine-fitted)", ylim=(0, None))
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    return path
