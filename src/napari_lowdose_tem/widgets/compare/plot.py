"""The histograms of the Compare dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QSizePolicy

from napari_lowdose_tem.widgets.shared.plot import GREEN, ROLE_COLORS, DockPlot, label_decades

if TYPE_CHECKING:
    from napari_lowdose_tem.judge.histogram import Histogram

_LEAST_PX = 150
_WIDTHS = {"HDE": 2, "LDE": 1, "mean": 1, "output": 2}
_TAIL = 1e-3  # of the pixels beyond which a histogram's end is not shown
_FLOOR = 0.5  # pixels, drawn for none


class HistogramPlot(DockPlot):
    """Histograms of all frames, semi-logarithmic, in the colours of napari's theme; triangles mark peaks."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(_LEAST_PX)
        # as high as there is room, not as the plot would like: its page must not scroll
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        self._shown: tuple[tuple[Histogram, ...], bool, str] | None = None

    def show_histograms(self, histograms: tuple[Histogram, ...], scaled: bool, theme: str) -> None:
        """Draw them, where they or the theme changed."""
        shown = histograms, scaled, theme
        if not histograms or shown == self._shown:
            return
        self._shown = shown
        kind = self.clear(theme).kind
        plot = self.add_plot("Pixels", "Scaled by the extremes" if scaled else "Value [counts]")
        plot.setLogMode(False, True)
        self.add_legend(plot)
        for histogram in histograms:
            role = next((r for r in ("HDE", "LDE", "output") if histogram.name.startswith(r)), "mean")
            color = GREEN[kind] if role == "mean" else ROLE_COLORS[kind][role]
            counts = np.maximum(histogram.counts, _FLOOR)
            pen = {"color": color, "width": _WIDTHS[role]}
            plot.plot(histogram.edges, counts, stepMode="center", pen=pen, name=histogram.name)
            peaks = [peak.position for peak in histogram.peaks[:2]] if len(histogram.peaks) > 1 else []
            heights = 1.5 * np.interp(peaks, histogram.centers, counts)
            plot.plot(peaks, heights, pen=None, symbol="t", symbolSize=8, symbolPen=None, symbolBrush=color)
        top = max(float(histogram.counts.max()) for histogram in histograms)
        low, high = np.log10(0.7), np.log10(6 * max(top, 1))
        plot.setYRange(low, high, padding=0)
        label_decades(plot.getAxis("left"), low, high, steps=(1,))
        ends = [(0.0, 1.0)] if scaled else [_ends(histogram) for histogram in histograms]
        plot.setXRange(min(low for low, _ in ends), max(high for _, high in ends), padding=0.03)


def _ends(histogram: Histogram) -> tuple[float, float]:
    below = np.cumsum(histogram.counts) / max(int(histogram.counts.sum()), 1)
    first, last = np.searchsorted(below, [_TAIL / 10, 1 - _TAIL / 10])
    last = min(int(last), len(below) - 1)
    return float(histogram.edges[min(int(first), last)]), float(histogram.edges[last + 1])
