"""The losses of a training against its epochs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_lowdose_tem.widgets.shared.plot import DockPlot, label_decades
from napari_lowdose_tem.widgets.train.state import Curves

if TYPE_CHECKING:
    import pyqtgraph as pg

_HEIGHT_PX = 190
_COLORS = {
    "dark": {"steps": "#4d5b6e", "training": "#7cc4ff", "validation": "#ffb454"},
    "light": {"steps": "#b9c6d6", "training": "#0b62b3", "validation": "#b85c00"},
}
_BEST = "best, saved"
_MARKED = 20  # epochs, beyond which marks would hide the line
_TICKS = 6
_MARGIN = 0.05  # of the height, below and above the losses


class LossPlot(DockPlot):
    """Losses against epochs, in the colours of napari's theme."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT_PX)
        self.lines: dict[str, pg.PlotDataItem] = {}
        self._shown: Curves | None = None
        self._theme = ""

    def show_curves(self, curves: Curves, theme: str) -> None:
        """Draw curves, where they or the theme changed."""
        if not (curves.step_epochs or curves.epochs) or (self._shown, self._theme) == (curves, theme):
            return
        if theme != self._theme:
            self._make_lines(theme)
        self._shown, self._theme = curves, theme
        best = [] if curves.best is None else [curves.best]
        points = {
            "steps": (curves.step_epochs, curves.step_losses),
            "training": (curves.epochs, curves.training),
            "validation": (curves.epochs, curves.validation),
            _BEST: ([curves.epochs[i] for i in best], [curves.validation[i] for i in best]),
        }
        for name, (x, y) in points.items():
            self.lines[name].setData(list(x), list(y))
        for name in ("training", "validation"):
            self.lines[name].setSymbol("o" if len(curves.epochs) < _MARKED else None)
        self._fit_axes(curves)

    def _make_lines(self, theme: str) -> None:
        kind = self.clear(theme).kind
        plot = self.add_plot("Mean absolute error", "Epoch")
        self.add_legend(plot)
        for name, color in _COLORS[kind].items():
            is_step = name == "steps"  # faint, and not named: the legend has room for a line
            self.lines[name] = plot.plot(
                name=None if is_step else name,
                pen={"color": color, "width": 1 if is_step else 2},
                symbol=None,
                symbolSize=4,
                symbolPen=None,
                symbolBrush=color,
                antialias=True,
            )
        ring = {"color": _COLORS[kind]["validation"], "width": 1.5}
        self.lines[_BEST] = plot.plot(
            name=_BEST, pen=None, symbol="o", symbolSize=11, symbolPen=ring, symbolBrush=None
        )

    def _fit_axes(self, curves: Curves) -> None:
        (plot,) = self.plots
        plot.setLogMode(False, curves.is_wide)
        losses = [v for v in (*curves.step_losses, *curves.training, *curves.validation) if math.isfinite(v)]
        if curves.is_wide:
            losses = [math.log10(v) for v in losses if v > 0]
        low, high = min(losses, default=0.0), max(losses, default=1.0)
        room = _MARGIN * ((high - low) or abs(high) or 1.0)
        last = max((*curves.step_epochs, *curves.epochs))
        plot.setXRange(0, last * (1 + _MARGIN), padding=0)
        plot.setYRange(low - room, high + 5 * room, padding=0)  # the legend is above them
        if curves.is_wide:
            label_decades(plot.getAxis("left"), low, high)
        else:
            plot.getAxis("left").setTicks(None)
        whole = (10**exponent * step for exponent in range(9) for step in (1, 2, 5))
        step = next(step for step in whole if step * _TICKS >= last)
        plot.getAxis("bottom").setTickSpacing(levels=[(step, 0)] if last > 2 else None)
