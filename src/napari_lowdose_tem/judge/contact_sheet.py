"""The contact sheet, Fig. 3 of Katsuno et al. 2021: high dose, low dose and output, a row a set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.figures.scale_bar import Extent, draw_scale_bar
from napari_lowdose_tem.io.output import replacing
from napari_lowdose_tem.judge.evaluate import ScoredFrame
from napari_lowdose_tem.particles.find import Detection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".pdf", ".svg")

_TITLES = ("High dose", "Low dose", "Output")
_INVENTED, _MISSED = "#e66100", "#1a85ff"  # told apart by the colour-blind, too
_WIDTH_INCH = 7.0  # of a page
_BAR_SHARE = 0.25  # of the width of a frame, at most
_LABEL_INCH, _TITLE_INCH = 0.25, 0.19
_LEVEL = 75  # percentile that stands for the background, as in `particles.find`
_LEAST_RANGE = 0.1  # of transmission, so that bare film is not stretched to noise


def check_path(path: str | Path) -> Path:
    """Return the path of a figure; ValueError unless it is .png, .pdf or .svg in a folder that is there."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: a figure ends in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder to write the figure to")
    return path


def draw_sheet(path: str | Path, frames: Sequence[ScoredFrame], model: str = "", dpi: int = 300) -> Path:
    """Draw a contact sheet and write it, PNG, PDF or SVG by its ending.

    High-dose frame and output are shown as transmission, the counts over their third quartile, with shared
    limits taken from both, row by row; the low-dose frame from its 1st to its 99th percentile, as camera
    software does. Particles that the output
    invents or misses, by the rule of `particles.find`, are circled.

    Parameters
    ----------
    path
        The file; what is there is replaced once the new one is complete.
    frames
        One of each set.
    model
        What made the outputs.
    dpi
        Dots per inch of a PNG.

    Raises
    ------
    ValueError
        For another ending, a folder that is not there, and without frames.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    path = check_path(path)
    if not frames:
        raise ValueError("no frames to draw")
    tall = sum(frame.lde.shape[0] / frame.lde.shape[1] for frame in frames)
    figure = Figure((_WIDTH_INCH, (_WIDTH_INCH - _LABEL_INCH) / 3 * tall + _TITLE_INCH * len(frames) + 0.4))
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.01))
    grid = figure.subplots(len(frames), 3, squeeze=False)
    for axes, frame in zip(grid, frames, strict=True):
        _draw_row(axes, frame)
    last = _TITLES[2] if not model else f"{_TITLES[2]}, model {model}"
    for axis, title in zip(grid[0], (*_TITLES[:2], last), strict=True):
        axis.set_title(f"{title}\n{axis.get_title()}".strip(), fontsize=8)
    _draw_legend(figure)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=dpi)
    return path


def _draw_row(axes: Sequence[Axes], frame: ScoredFrame) -> None:
    hde, output = (image / np.nanpercentile(image, _LEVEL) for image in (frame.hde, frame.output))
    both = np.concatenate([hde.ravel(), output.ravel()])
    low, high = np.nanpercentile(both, [0.1, 99.9])
    low = min(low, high - _LEAST_RANGE)
    finite = frame.lde[np.isfinite(frame.lde)]
    for axis, image, limits in (
        (axes[0], hde, (low, high)),
        (axes[1], frame.lde, np.percentile(finite, [1, 99])),
        (axes[2], output, (low, high)),
    ):
        axis.imshow(image, "gray", vmin=limits[0], vmax=limits[1], interpolation="antialiased")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    axes[0].set_ylabel(frame.set_name, fontsize=9)
    axes[0].set_title(f"T = {low:.2f} to {high:.2f}", fontsize=7)
    axes[1].set_title(frame.path.stem, fontsize=7)
    axes[2].set_title(f"MAE {frame.score.mae:.3f}, PSNR {frame.score.psnr:.1f} dB", fontsize=7)
    _circle(axes[2], frame.match.invented, _INVENTED)
    _circle(axes[2], frame.match.missed, _MISSED)
    if frame.pixel_size_nm:
        rows, cols = hde.shape
        extent = Extent(-0.5, cols - 0.5, rows - 0.5, -0.5)
        draw_scale_bar(axes[0], extent, "nm", frame.pixel_size_nm, share=_BAR_SHARE)


def _circle(axis: Axes, particles: Sequence[Detection], color: str) -> None:
    from matplotlib.patches import Circle

    for particle in particles:
        center = particle.col_px, particle.row_px
        axis.add_patch(Circle(center, particle.diameter_px / 2 + 3, fill=False, color=color, lw=0.9))


def _draw_legend(figure: Any) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], ls="", marker="o", mfc="none", mec=color, label=label)
        for color, label in ((_INVENTED, "particle invented"), (_MISSED, "particle missed"))
    ]
    figure.legend(handles=marks, loc="outside lower right", ncols=2, frameon=False, fontsize=7)
