"""Plots in docks. pyqtgraph is imported with the first curve, after Qt, whose binding it then takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from qtpy.QtGui import QFont
from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    import pyqtgraph as pg

# told apart in both themes and by colour-blind people
ROLE_COLORS = {
    "dark": {"HDE": "#7cc4ff", "LDE": "#b9b9b9", "output": "#ffb454"},
    "light": {"HDE": "#0b62b3", "LDE": "#6b6b6b", "output": "#b85c00"},
}
GREEN = {"dark": "#5fd3a6", "light": "#00805a"}
FONT_PT = 8
_LEFT_PX, _BOTTOM_PX = 58, 34


class ThemeColors(NamedTuple):
    """Colours of a theme of napari, and whether it is "dark" or "light"."""

    text: str
    background: str
    kind: str


def theme_colors(theme: str) -> ThemeColors:
    """Return the colours of a theme of napari."""
    from napari.utils.theme import get_theme

    found = get_theme(theme)
    return ThemeColors(found.text.as_hex(), found.background.as_hex(), found.type)


class DockPlot(QWidget):
    """One or more plots below each other, empty until something is drawn; the mouse neither moves nor zooms.

    Parameters
    ----------
    height_px
        Its height; None for what room there is.
    """

    def __init__(self, height_px: int | None = None) -> None:
        super().__init__()
        if height_px is not None:
            self.setFixedHeight(height_px)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self.canvas: pg.GraphicsLayoutWidget | None = None
        self.plots: list[pg.PlotItem] = []

    def clear(self, theme: str) -> ThemeColors:
        """Take all plots away, for those of a theme."""
        import pyqtgraph as pg

        if self.canvas is None:
            self.canvas = pg.GraphicsLayoutWidget()
            self.canvas.ci.layout.setContentsMargins(0, 6, 6, 4)
            self._layout.addWidget(self.canvas)
        self.canvas.clear()
        self.plots = []
        self._colors = theme_colors(theme)
        self.canvas.setBackground(self._colors.background)
        return self._colors

    def add_plot(self, left: str, bottom: str = "") -> pg.PlotItem:
        """Add a plot with labels at its axes; without a label at the bottom there are no numbers either."""
        assert self.canvas is not None
        text = self._colors.text
        plot = self.canvas.addPlot(row=len(self.plots), col=0)
        plot.setMenuEnabled(False)
        plot.hideButtons()
        plot.setMouseEnabled(False, False)
        plot.showGrid(x=True, y=True, alpha=0.15)
        for side, label in (("left", left), ("bottom", bottom)):
            axis = plot.getAxis(side)
            axis.enableAutoSIPrefix(False)
            axis.setTextPen(text)
            axis.setPen(text)
            axis.setTickFont(small_font())
            axis.setStyle(showValues=bool(label))
            if label:
                axis.setLabel(label, **{"color": text, "font-size": f"{FONT_PT}pt"})
        plot.getAxis("left").setWidth(_LEFT_PX)
        if bottom:
            plot.getAxis("bottom").setHeight(_BOTTOM_PX)
        self.plots.append(plot)
        return plot

    def add_legend(self, plot: pg.PlotItem) -> None:
        """Name the curves that are added from now on, at the upper right."""
        size = f"{FONT_PT - 1}pt"
        plot.addLegend(offset=(-4, 1), labelTextColor=self._colors.text, labelTextSize=size, colCount=3)


def small_font() -> QFont:
    """Return the font of numbers and names in plots."""
    font = QFont()
    font.setPointSize(FONT_PT)
    return font


def label_decades(axis: pg.AxisItem, low: float, high: float, steps: Sequence[int] = (1, 2, 5)) -> None:
    """Label a logarithmic axis from 10^low to 10^high by plain numbers, at 1, 2 and 5 of each decade."""
    exponents = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    values = [step * 10.0**exponent for exponent in exponents for step in steps]
    axis.setTicks([[(float(np.log10(value)), f"{value:g}") for value in values]])
