"""The plot of the Line profile dock: profiles, their fits, and background segments that can be dragged."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal

from napari_lowdose_tem.widgets.profile.plot_panel import PlotPanel
from napari_lowdose_tem.widgets.profile.state import SCALES, Curve, Segments
from napari_lowdose_tem.widgets.shared.delay import DelayedCall
from napari_lowdose_tem.widgets.shared.plot import DockPlot

if TYPE_CHECKING:
    from pyqtgraph.GraphicsScene.mouseEvents import MouseClickEvent, MouseDragEvent

_HEIGHT_PX, _PANEL_PX = 280, 140
_REST_MS = 350
_LEAST_SEGMENT = 0.002  # of the axis; shorter ones are taken away


class ProfilePlot(DockPlot):
    """Profiles with their fits; background segments can be dragged, or marked while `marking`."""

    background_changed = Signal(object)
    """The segments, ((start, stop), …) along the line."""

    def __init__(self) -> None:
        super().__init__(_HEIGHT_PX)
        self.panels: list[PlotPanel] = []
        self._marking = False
        self._panels_key: tuple[object, ...] = ()
        self._shown: tuple[object, ...] = ()
        self._own: Segments = ()
        self._is_marking_now = False
        self._rest = DelayedCall(self._fit_closely, _REST_MS)

    @property
    def marking(self) -> bool:
        """Whether a drag marks a segment, instead of moving one."""
        return self._marking

    @marking.setter
    def marking(self, on: bool) -> None:
        self._marking = on
        for panel in self.panels:
            panel.set_movable(not on)

    def show_curves(
        self, curves: tuple[Curve, ...], scale: str, layout: str, segments: Segments, theme: str
    ) -> None:
        """Draw profiles, where something changed; `segments` are the user's, empty for those found."""
        shown = (curves, scale, layout, segments, theme)
        if shown == self._shown or (not curves and self.canvas is None):
            return
        self._shown, self._own = shown, segments
        roles = tuple(curve.role for curve in curves)
        unit = next((c.profile.unit for c in curves if c.profile is not None), "")
        key = (roles, scale, layout, theme, unit)
        is_new = key != self._panels_key
        if is_new:
            self._panels_key = key
            self._make_panels(roles, layout == "stacked" and len(roles) > 1, theme, SCALES[scale], unit)
        length = max((c.profile.length for c in curves if c.profile is not None), default=1.0)
        for panel in self.panels:
            panel.show(curves, scale, length)
            if not self._is_marking_now:
                panel.show_segments(segments or panel.found_segments, is_own=bool(segments))
            panel.fit_axes(closely=is_new)
        self._rest.ask()

    def _make_panels(self, roles: tuple[str, ...], stacked: bool, theme: str, scale: str, unit: str) -> None:
        colors = self.clear(theme)
        self.setFixedHeight(max(_HEIGHT_PX, _PANEL_PX * len(roles)) if stacked else _HEIGHT_PX)
        self.panels = []
        groups = [(role,) for role in roles] if stacked else [roles]
        for group in groups:
            below = f"Distance from start [{unit}]" if group is groups[-1] else ""
            panel = PlotPanel(self.add_plot(scale, below), group, colors, self._emit)
            # pyqtgraph calls these for what no segment takes
            panel.view.mouseDragEvent = partial(self._on_drag, panel)
            panel.view.mouseClickEvent = partial(self._on_click, panel)
            panel.set_movable(not self._marking)
            self.panels.append(panel)

    def _fit_closely(self) -> None:
        for panel in self.panels:
            panel.fit_axes(closely=True)

    # ---- background segments by hand

    def _on_drag(self, panel: PlotPanel, event: MouseDragEvent) -> None:
        """Mark a segment."""
        if not self.marking or event.button() != Qt.MouseButton.LeftButton:
            event.ignore()
            return
        event.accept()
        start, stop = sorted(panel.view.mapToView(at).x() for at in (event.buttonDownPos(), event.pos()))
        segments = (*self._own, (start, stop))
        self._is_marking_now = not event.isFinish()
        panel.show_segments(segments, is_own=True)
        if event.isFinish():
            self._emit(segments)

    def _on_click(self, panel: PlotPanel, event: MouseClickEvent) -> None:
        """Take a segment away."""
        if event.button() == Qt.MouseButton.RightButton:
            event.accept()
            x = panel.view.mapToView(event.pos()).x()
            kept = tuple(s for s in panel.segments if not s[0] <= x <= s[1])
            if kept != panel.segments:
                self.background_changed.emit(kept)

    def _emit(self, segments: Segments) -> None:
        least = _LEAST_SEGMENT * self.panels[0].view.viewRange()[0][1]
        self.background_changed.emit(tuple(s for s in segments if s[1] - s[0] > least))
