"""The histograms of the Compare dock. matplotlib is imported with the first one drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_lowdose_tem.widgets.profile.plot import COLORS
from napari_lowdose_tem.widgets.shared.plot import make_canvas, style_axes, theme_colors

_LEAST_PX = 150
_MEAN = {"dark": "#5fd3a6", "light": "#00805a"}
_WIDTHS = {"HDE": 1.6, "LDE": 1.0, "mean": 1.2, "output": 1.6}
_TAIL = 1e-3  # of the pixels beyond which a histogram's end is not shown


class HistogramPlot(QWidget):
    """Histograms of all frames, semi-logarithmic, in the colours of napari's theme."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(_LEAST_PX)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._canvas: Any = None
        self._shown: tuple[Any, ...] = ()

    @property
    def figure(self) -> Any:
        """The figure, or None before the first histogram."""
        return self._canvas.figure if self._canvas is not None else None

    def show_histograms(self, histograms: tuple[Any, ...], scaled: bool, theme: str) -> None:
        """Draw them, where they or the theme changed."""
        shown = (*(id(histogram) for histogram in histograms), scaled, theme)
        if not histograms or shown == self._shown:
            return
        if self._canvas is None:
            self._canvas = make_canvas()
            # as high as there is room, not as its figure says
            self._canvas.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
            self.layout().addWidget(self._canvas)
        self._shown, self._kept = shown, histograms  # kept, or an id could be given again
        draw(self.figure, histograms, scaled, theme)
        self._canvas.fit_margins()
        self._canvas.draw_idle()


def draw(figure: Any, histograms: tuple[Any, ...], scaled: bool, theme: str) -> None:
    """Draw histograms into a figure; the peaks found are marked by triangles."""
    text, background, kind = theme_colors(theme)
    figure.clear()
    figure.set_facecolor(background)
    axes = figure.add_subplot(facecolor=background)
    ends = []
    for histogram in histograms:
        role = next((role for role in ("HDE", "LDE", "output") if histogram.name.startswith(role)), "mean")
        color = _MEAN[kind] if role == "mean" else COLORS[kind][role]
        axes.stairs(
            np.maximum(histogram.counts, 0.5), histogram.edges, baseline=0.5, color=color,
            lw=_WIDTHS[role], label=histogram.name,
        )  # fmt: skip
        for peak in histogram.peaks[:2] if len(histogram.peaks) > 1 else ():
            height = np.interp(peak.position, histogram.centers, np.maximum(histogram.counts, 0.5))
            axes.plot(peak.position, height * 1.5, "v", ms=5, color=color, mec="none")
        ends.append(_ends(histogram))
    axes.set_yscale("log")
    top = max(float(histogram.counts.max()) for histogram in histograms)
    axes.set_ylim(0.7, 6 * max(top, 1))
    low, high = (0.0, 1.0) if scaled else (min(e[0] for e in ends), max(e[1] for e in ends))
    margin = 0.03 * ((high - low) or 1.0)
    axes.set_xlim(low - margin, high + margin)
    axes.set_xlabel("Scaled by the extremes" if scaled else "Value [counts]", color=text, fontsize=8)
    axes.set_ylabel("Pixels", color=text, fontsize=8)
    style_axes(axes, text)
    axes.legend(fontsize=7, frameon=False, labelcolor=text, ncols=2, loc="upper right", borderaxespad=0.2)


def _ends(histogram: Any) -> tuple[float, float]:
    below = np.cumsum(histogram.counts) / max(int(histogram.counts.sum()), 1)
    first, last = np.searchsorted(below, [_TAIL / 10, 1 - _TAIL / 10])
    last = min(int(last), len(below) - 1)
    return float(histogram.edges[min(int(first), last)]), float(histogram.edges[last + 1])
