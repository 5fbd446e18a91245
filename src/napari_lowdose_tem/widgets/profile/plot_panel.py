"""One pair of axes of the Line profile dock, with everything that is drawn in it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QGraphicsTextItem

from napari_lowdose_tem.widgets.profile.state import Curve, Segments, scaled
from napari_lowdose_tem.widgets.shared.plot import GREEN, ROLE_COLORS, ThemeColors, small_font

if TYPE_CHECKING:
    import pyqtgraph as pg

_ROOM = 0.12  # beyond the data while they move, so that the axes need not follow each step
_MARGIN = 0.06  # of the height of the data
_BAR_SHARE = 0.17  # of the height of the axes, for the diameters of each profile
_LINE_PX = 22  # height of a line of text
_CIRCLES = 90
_FAINT = 0.4  # opacity of a fit that is not of this profile


class PlotPanel:
    """Profiles of some roles in one pair of axes.

    Parameters
    ----------
    plot
        The axes.
    roles
        Roles drawn in it, from the top of the diameters down.
    colors
        Colours of the theme.
    dragged
        Called with all segments after one was dragged.
    """

    def __init__(
        self,
        plot: pg.PlotItem,
        roles: tuple[str, ...],
        colors: ThemeColors,
        dragged: Callable[[Segments], None],
    ) -> None:
        self.plot, self.view = plot, plot.vb
        self.items = {role: _CurveItems(plot, ROLE_COLORS[colors.kind][role]) for role in reversed(roles)}
        self.found_segments: Segments = ()
        self._colors, self._dragged = colors, dragged
        self._regions: list[pg.LinearRegionItem] = []
        self._length, self._is_movable = 1.0, True
        # names, and why there are no numbers; lies on the axes whatever their limits
        self.head = QGraphicsTextItem(self.view)
        self.head.setFont(small_font())
        self.view.sigResized.connect(self._on_resized)

    def show(self, curves: tuple[Curve, ...], scale: str, length: float) -> None:
        """Move what is drawn to the profiles; `length` is that of the longest line."""
        shown = [curve for curve in curves if curve.role in self.items]
        self._length, self.found_segments = length, ()
        for curve in shown:
            self.items[curve.role].show(curve, scale)
            found = curve.measurement
            if not self.found_segments and found and not found.refused and found.background is not None:
                self.found_segments = found.background.segments
        colors = ROLE_COLORS[self._colors.kind]
        names = "&nbsp; ".join(f"<b style='color: {colors[c.role]}'>{c.role}</b>" for c in shown)
        reasons = "<br>".join(f"{c.role}: {escape(c.reason)}" for c in shown if c.reason)
        text = f"<div align='right'>{names}</div><div style='color: {self._colors.text}'>{reasons}</div>"
        if text != self.head.property("html"):
            self.head.setProperty("html", text)
            self.head.setHtml(text)

    # ---- limits

    def fit_axes(self, closely: bool) -> None:
        """Let the axes hold the profiles: closely, or with room and only where they do not."""
        (_, right), (low, high) = self.view.viewRange()
        bottom, top = self._limits()
        fits_x = 0.55 * right <= self._length <= right * (1 + 1e-9)
        fits_y = low - 1e-9 <= bottom and top <= high + 1e-9 and top - bottom >= 0.4 * (high - low)
        if closely or not (fits_x and fits_y):
            room = 0.0 if closely else _ROOM
            span = room * (top - bottom)
            x, y = (0, self._length * (1 + room)), (bottom - span, top + span)
            self.view.setRange(xRange=x, yRange=y, padding=0)
        low, high = self.view.viewRange()[1]
        for row, items in enumerate(self._measured):
            items.place_bars(low + _bar_height(row) * (high - low))

    @property
    def _measured(self) -> list[_CurveItems]:
        """What has diameters, from the bottom up."""
        return [items for items in self.items.values() if items.is_measured]

    def _limits(self) -> tuple[float, float]:
        """Bottom and top: the profiles, above them the text, below them the diameters with their numbers."""
        drawn = [items.extremes for items in self.items.values() if items.extremes is not None]
        low, high = (min(e[0] for e in drawn), max(e[1] for e in drawn)) if drawn else (0.0, 1.0)
        margin = _MARGIN * ((high - low) or abs(high) or 1.0)
        height = self.view.height() or 1.0
        rows = max(1, len(self._measured))
        below = max(_BAR_SHARE * rows, min(0.5, _bar_height(rows - 1) + _LINE_PX / height))
        bottom = low - margin - below / (1 - below) * (high - low + 2 * margin)
        share = min(0.6, self.head.boundingRect().height() / height)
        return bottom, high + margin + (high - bottom) * share / (1 - share)

    def _on_resized(self) -> None:
        self.head.setTextWidth(self.view.width())
        self.fit_axes(closely=True)

    # ---- background segments

    @property
    def segments(self) -> Segments:
        """The segments shown."""
        return tuple(region.getRegion() for region in self._regions if region.isVisible())

    def set_movable(self, on: bool) -> None:
        """Let segments be dragged, or not, while drags mark new ones."""
        self._is_movable = on
        for region in self._regions:
            region.setMovable(on)

    def show_segments(self, segments: Segments, is_own: bool) -> None:
        """Show segments, those of the user's own stronger; not while one is dragged."""
        if any(part.moving for region in self._regions for part in (region, *region.lines)):
            return
        while len(self._regions) < len(segments):
            self._add_region()
        for i, region in enumerate(self._regions):
            region.setVisible(i < len(segments))
            if i < len(segments):
                with QSignalBlocker(region):
                    region.setRegion(segments[i])
                region.setBrush(self._fill(0.28 if is_own else 0.13))
                region.setHoverBrush(self._fill(0.35))

    def _add_region(self) -> None:
        import pyqtgraph as pg

        rim = {"color": self._fill(0.35), "width": 1}
        # the wider one is how near the mouse must come
        region = pg.LinearRegionItem(pen=rim, hoverPen={"color": self._fill(0.8), "width": 7})
        region.setZValue(-10)
        for line in region.lines:
            line.setCursor(Qt.CursorShape.SplitHCursor)
        region.sigRegionChangeFinished.connect(lambda: self._dragged(self.segments))
        region.setMovable(self._is_movable)
        self.plot.addItem(region)
        self._regions.append(region)

    def _fill(self, alpha: float) -> QColor:
        color = QColor(GREEN[self._colors.kind])
        color.setAlphaF(alpha)
        return color


class _CurveItems:
    """What is drawn of one profile."""

    def __init__(self, plot: pg.PlotItem, color: str) -> None:
        self._plot, self._color = plot, color
        self.is_measured = False
        self.extremes: tuple[float, float] | None = None
        thin, fine = {"color": color, "width": 1}, {"color": color, "width": 2}
        dashed = thin | {"style": Qt.PenStyle.DashLine}
        self.data = plot.plot(pen=thin, antialias=True)
        self.data.setOpacity(0.6)
        self.ground = plot.plot(pen=dashed, antialias=True)
        self.used = plot.plot(pen=None, symbol="o", symbolSize=5, symbolPen=color, symbolBrush=None)
        self.fit = plot.plot(pen=fine, antialias=True)
        marks = {"symbolPen": color, "symbolBrush": color}
        self.bars = plot.plot(pen=fine, connect="pairs", symbol="|", symbolSize=10, **marks)
        self.centers = plot.plot(pen=None, symbol="d", symbolSize=7, **marks)
        self.numbers: list[pg.TextItem] = []

    def show(self, curve: Curve, scale: str) -> None:
        """Move to a profile."""
        profile, found = curve.profile, curve.measurement
        for item in (self.data, self.used, self.fit, self.ground, self.bars, self.centers):
            item.setData([], [])
        for number in self.numbers:
            number.setVisible(False)
        self.extremes, self.is_measured = None, False
        if profile is None:
            return
        values, fitted, ground = scaled(curve, scale)
        known = np.concatenate([v[np.isfinite(v)] for v in (values, fitted, ground)])
        if known.size:
            self.extremes = float(known.min()), float(known.max())
        self.data.setData(profile.position, values)
        if found is None or found.refused:
            return
        for item in (self.fit, self.ground, self.bars):
            item.setOpacity(1.0 if curve.is_fresh else _FAINT)
        if fitted.size:
            self.fit.setData(found.position, fitted)
        if ground.size:
            self.ground.setData(profile.position, ground)
        if curve.is_fresh and found.used.size == values.size:
            # of many samples some: circles side by side would hide the fit
            marked = np.flatnonzero(found.used)[:: max(1, int(found.used.sum()) // _CIRCLES)]
            self.used.setData(profile.position[marked], values[marked])
        self.is_measured = bool(found.particles)
        halves = [(p.center, p.diameter / 2) for p in found.particles]
        self.bars.setData([x for c, half in halves for x in (c - half, c + half)], [0.0] * 2 * len(halves))
        self.centers.setData([center for center, _ in halves], [0.0] * len(halves))
        for i, particle in enumerate(found.particles):
            self._show_number(i, particle.center, f"{particle.diameter:.1f}")

    def place_bars(self, height: float) -> None:
        """Draw the diameters at a height."""
        for item in (self.bars, self.centers):
            x = [] if item.xData is None else item.xData
            item.setData(x, [height] * len(x))
        for number in self.numbers:
            number.setPos(number.x(), height)

    def _show_number(self, i: int, x: float, text: str) -> None:
        if i == len(self.numbers):
            import pyqtgraph as pg

            number = pg.TextItem("", self._color, anchor=(0.5, 1.0))
            number.setFont(small_font())
            self._plot.addItem(number)
            self.numbers.append(number)
        self.numbers[i].setText(text)
        self.numbers[i].setX(x)
        self.numbers[i].setVisible(True)


def _bar_height(row: int) -> float:
    """Height of the diameters of a profile, the lowest row being 0, as a share of the axes'."""
    return _BAR_SHARE * (row + 0.35)
