"""Kymograph, diameters and separation over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QRectF
from qtpy.QtGui import QColor

from napari_lowdose_tem.image import F64
from napari_lowdose_tem.widgets.shared.plot import DockPlot, ThemeColors

if TYPE_CHECKING:
    import pyqtgraph as pg

    from napari_lowdose_tem.measure.over_time import OverTime

_HEIGHT_PX = 300
_COLORS = {
    "dark": ("#7cc4ff", "#ffb454", "#5fd3a6", "#e08bd0", "#d9d9d9", "#f0e442"),
    "light": ("#0b62b3", "#b85c00", "#00805a", "#a0408e", "#555555", "#7d7600"),
}
_INTERVAL = 1.96  # standard errors of a 95 % interval
_MARKED = 60  # frames, beyond which marks would hide the line
_BAND_ALPHA = 0.25


class OverTimePlot(DockPlot):
    """Kymograph above, diameters with their 95 % bands below, the separation of two particles with them."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT_PX)
        self._shown: tuple[OverTime, str] | None = None

    def show_result(self, found: OverTime | None, theme: str) -> None:
        """Draw a result, where it or the theme changed."""
        if found is None or (found, theme) == self._shown:
            return
        self._shown = found, theme
        colors = self.clear(theme)
        x = np.asarray(found.frames if found.time_s is None else found.time_s, float)
        half = ((x[-1] - x[0]) / max(len(x) - 1, 1) or 1.0) / 2
        self._add_kymograph(found, x[0] - half, x[-1] + half)
        self._add_diameters(found, x, colors)
        for plot, stretch in zip(self.plots, (2, 3), strict=True):
            plot.setXRange(x[0] - half, x[-1] + half, padding=0)
            plot.layout.setRowStretchFactor(2, 1)
            assert self.canvas is not None
            self.canvas.ci.layout.setRowStretchFactor(self.plots.index(plot), stretch)

    def _add_kymograph(self, found: OverTime, left: float, right: float) -> None:
        import pyqtgraph as pg

        plot = self.add_plot(f"Position [{found.unit}]")
        plot.showGrid(x=False, y=False)
        known = found.kymograph[np.isfinite(found.kymograph)]
        low, high = np.percentile(known, (0.5, 99.5)) if known.size else (0.0, 1.0)
        # x, then y
        picture = pg.ImageItem(np.asarray(found.kymograph, np.float32), axisOrder="col-major")
        picture.setLevels((float(low), float(high)))
        start, stop = float(found.position[0]), float(found.position[-1])
        picture.setRect(QRectF(left, start, right - left, stop - start))
        plot.addItem(picture)
        plot.invertY(True)
        plot.setYRange(start, stop, padding=0)

    def _add_diameters(self, found: OverTime, x: F64, colors: ThemeColors) -> None:
        series = _series(found)
        what = "Diameter, separation" if "l" in series else "Diameter"
        plot = self.add_plot(f"{what} [{found.unit}]", "Frame" if found.time_s is None else "Time [s]")
        if len(series) > 1:
            self.add_legend(plot)
        for (name, (values, error)), color in zip(series.items(), _COLORS[colors.kind], strict=False):
            if not np.isfinite(values).any():
                continue
            _add_band(plot, x, values, _INTERVAL * np.nan_to_num(error), color)
            symbol = "o" if len(x) < _MARKED else None
            plot.plot(
                x, values, name=name, pen={"color": color, "width": 1.5}, antialias=True, connect="finite",
                symbol=symbol, symbolSize=4, symbolPen=None, symbolBrush=color,
            )  # fmt: skip
        shown = np.concatenate([values[np.isfinite(values)] for values, _ in series.values()])
        if shown.size:
            # a frame that failed must not hide the others
            bottom, top = np.percentile(shown, (1, 99))
            room = max(0.35 * (top - bottom), 0.02 * abs(top), 1e-6)
            plot.setYRange(bottom - room, top + room, padding=0)
        else:
            import pyqtgraph as pg

            text = pg.TextItem("No result on any frame", colors.text, anchor=(0.5, 0.5))
            text.setPos(float(x.mean()), 0.5)
            plot.addItem(text)
            plot.setYRange(0, 1, padding=0)


def _series(found: OverTime) -> dict[str, tuple[F64, F64]]:
    """Return values and standard errors by name: d, or d1, d2 … and l."""
    pairs = list(zip(found.diameter.T, found.diameter_se.T, strict=True))
    if len(pairs) == 1:
        return {"d": pairs[0]}
    series = {f"d{i + 1}": pair for i, pair in enumerate(pairs)}
    if np.isfinite(found.separation).any():
        series["l"] = found.separation, found.separation_se
    return series


def _add_band(plot: pg.PlotItem, x: F64, values: F64, half: F64, color: str) -> None:
    import pyqtgraph as pg

    fill = QColor(color)
    fill.setAlphaF(_BAND_ALPHA)
    rims = [pg.PlotCurveItem(x, values + sign * half, connect="finite") for sign in (-1, 1)]
    plot.addItem(pg.FillBetweenItem(*rims, brush=fill))
