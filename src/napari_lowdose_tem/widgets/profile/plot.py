"""The plot of the Line profile dock. matplotlib is imported with the first profile drawn."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_lowdose_tem.widgets.profile.state import SCALES, Curve, scaled
from napari_lowdose_tem.widgets.shared.delay import DelayedCall
from napari_lowdose_tem.widgets.shared.plot import make_canvas, style_axes, theme_colors

HEIGHT_PX, _PANEL_PX = 280, 140
# told apart in both themes and by colour-blind people
COLORS = {
    "dark": {"HDE": "#7cc4ff", "LDE": "#b9b9b9", "output": "#ffb454"},
    "light": {"HDE": "#0b62b3", "LDE": "#6b6b6b", "output": "#b85c00"},
}
_SPAN = {"dark": "#5fd3a6", "light": "#00805a"}
_GRAB_PX = 7
_ROOM = 0.12  # beyond the data while they move, so that the axes need not follow each step
_REST_MS = 350
_CIRCLES = 90
_BAR_SHARE = 0.17  # of the height, for each profile's diameters
_ABOVE_BAR = 0.025
_LETTER_PX, _LINE_HEIGHT_PX = 5.6, 13
Segments = tuple[tuple[float, float], ...]


class ProfilePlot(QWidget):
    """Profiles with their fits; background segments can be dragged.

    What moves is drawn over a stored picture of what does not, so that dragging a line stays smooth.
    """

    background_changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(HEIGHT_PX)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._canvas: Any = None
        self._panels: dict[str, _Panel] = {}
        self._key: Any = None
        self._shown: Any = None
        self._curves: tuple[Curve, ...] = ()
        self._scale = "counts"
        self._segments: Segments = ()
        self._own: Segments = ()
        self._picture: Any = None
        self._text_lines: dict[Any, int] = {}
        self._drag: tuple[int, int] | None = None
        self.marking = False
        self._rest = DelayedCall(self._settle, _REST_MS)

    @property
    def figure(self) -> Any:
        """The figure, or None before the first profile."""
        return self._canvas.figure if self._canvas is not None else None

    def show_curves(
        self, curves: tuple[Curve, ...], scale: str, layout: str, segments: Segments, theme: str
    ) -> None:
        """Draw profiles, where something changed; `segments` are the user's, empty for those found."""
        seen = (curves, scale, layout, segments, theme)
        if seen == self._shown or (not curves and self._canvas is None):
            return
        self._shown, self._curves, self._scale, self._own = seen, curves, scale, segments
        if self._canvas is None:
            self._canvas = make_canvas()
            self.layout().addWidget(self._canvas)
            for name, slot in (
                ("draw_event", self._on_drawn),
                ("button_press_event", self._on_press),
                ("motion_notify_event", self._on_move),
                ("button_release_event", self._on_release),
            ):
                self._canvas.mpl_connect(name, slot)
        roles = tuple(curve.role for curve in curves)
        unit = next((c.profile.unit for c in curves if c.profile is not None), "")
        key = (roles, scale, layout, theme, unit)
        if key != self._key:
            self._key = key
            self._make_panels(roles, layout, theme, unit)
        self._move()

    def _make_panels(self, roles: tuple[str, ...], layout: str, theme: str, unit: str) -> None:
        text, background, kind = theme_colors(theme)
        figure = self.figure
        figure.clear()
        figure.set_facecolor(background)
        stacked = layout == "stacked" and len(roles) > 1
        self.setFixedHeight(max(HEIGHT_PX, _PANEL_PX * len(roles)) if stacked else HEIGHT_PX)
        axes = figure.subplots(len(roles) if stacked else 1, 1, sharex=True, squeeze=False)[:, 0]
        for one in axes:
            one.set_facecolor(background)
            style_axes(one, text)
            one.set_ylabel(SCALES[self._scale], color=text, fontsize=8)
            self._align_label(one)
        axes[-1].set_xlabel(f"Distance from the start [{unit}]", color=text, fontsize=8)
        shown = {role: axes[i if stacked else 0] for i, role in enumerate(roles)}
        self._panels = {
            role: _Panel(one, role, COLORS[kind][role], text, *((0, 1) if stacked else (i, len(roles))))
            for i, (role, one) in enumerate(shown.items())
        }
        self._spans = {one: _Spans(one, _SPAN[kind]) for one in axes}
        self._picture = None
        self._canvas.fit_margins()

    def _align_label(self, axes: Any) -> None:
        """Put the label at the rim: beside the numbers it would be cut off."""
        from matplotlib.transforms import IdentityTransform, blended_transform_factory

        place = blended_transform_factory(IdentityTransform(), axes.transAxes)
        axes.yaxis.set_label_coords(14 * self._canvas.device_pixel_ratio, 0.5, place)

    def _move(self) -> None:
        """Move what is drawn to the curves; over the stored picture where the axes still fit."""
        drawn = [curve for curve in self._curves if curve.profile is not None]
        for curve in self._curves:
            self._panels[curve.role].show(curve, self._scale)
        self._show_spans()
        if self._picture is None or not self._axes_fit(drawn):
            self._tell_reasons()
            self._set_limits(drawn, room=_ROOM if self._picture is not None else 0.0)
            self._canvas.draw_idle()
        else:
            self._blit()
        self._rest.ask()

    def _tell_reasons(self) -> bool:
        """Say why there are no numbers; returns whether that is new. Text takes long to draw: it waits."""
        reasons: dict[Any, list[str]] = {}
        for curve in self._curves:
            lines = reasons.setdefault(self._panels[curve.role].axes, [])
            if curve.reason:
                width = max(24, int(0.8 * self.width() / _LETTER_PX))
                lines += textwrap.wrap(f"{curve.role}: {curve.reason}", width)
        self._text_lines = {axes: len(lines) for axes, lines in reasons.items()}
        told, is_new = set(), False
        for panel in self._panels.values():
            is_new |= panel.tell("" if panel.axes in told else "\n".join(reasons[panel.axes]))
            told.add(panel.axes)
        return is_new

    def _settle(self) -> None:
        """Let the axes fit closely when nothing has moved for a while."""
        drawn = [curve for curve in self._curves if curve.profile is not None]
        if self._canvas is not None and (self._tell_reasons() | self._set_limits(drawn, room=0.0)):
            self._canvas.draw_idle()

    def _limits(self, axes: Any, drawn: list[Curve]) -> tuple[float, float, float, float]:
        here = [curve for curve in drawn if self._panels[curve.role].axes is axes]
        lows, highs = [], []
        for curve in here:
            for values in scaled(curve, self._scale):
                finite = values[np.isfinite(values)]
                if finite.size:
                    lows.append(float(finite.min()))
                    highs.append(float(finite.max()))
        length = max((curve.profile.length for curve in drawn if curve.profile is not None), default=1.0)
        low, high = (min(lows), max(highs)) if lows else (0.0, 1.0)
        margin = 0.06 * ((high - low) or abs(high) or 1.0)
        height = axes.bbox.height or 1.0
        # the diameters' bars have their place below the profiles, and so have the numbers on them
        line = _LINE_HEIGHT_PX * float(self._canvas.device_pixel_ratio) / height
        below = max(_BAR_SHARE * len(here), min(0.5, _place_bar(len(here) - 1) + _ABOVE_BAR + line))
        bottom = low - margin - below / (1 - below) * (high - low + 2 * margin)
        # and what is said its place above them
        share = min(0.6, self._head_px(axes) / height)
        return 0.0, length, bottom, high + margin + (high - bottom) * share / (1 - share)

    def _head_px(self, axes: Any) -> float:
        """Height of the names and of what is said [px]."""
        lines = self._text_lines.get(axes, 0) + (len(self._panels) > 1 and len(self.figure.axes) == 1)
        return max(1, lines) * _LINE_HEIGHT_PX * float(self._canvas.device_pixel_ratio) + 6

    def _axes_fit(self, drawn: list[Curve]) -> bool:
        for axes in {panel.axes for panel in self._panels.values()}:
            _, length, low, high = self._limits(axes, drawn)
            _, right = axes.get_xlim()
            bottom, top = axes.get_ylim()
            if not (0.55 * right <= length <= right * (1 + 1e-9)):
                return False
            if low < bottom - 1e-9 or high > top + 1e-9 or high - low < 0.4 * (top - bottom):
                return False
        return True

    def _set_limits(self, drawn: list[Curve], room: float) -> bool:
        changed = False
        for axes in {panel.axes for panel in self._panels.values()}:
            _, length, low, high = self._limits(axes, drawn)
            span = (high - low) * room
            wanted = (0.0, length * (1 + room)), (low - span, high + span)
            if not (np.allclose(axes.get_xlim(), wanted[0]) and np.allclose(axes.get_ylim(), wanted[1])):
                axes.set_xlim(wanted[0])
                axes.set_ylim(wanted[1])
                changed = True
        return changed

    # ---- drawing over a stored picture

    def _on_drawn(self, event: Any = None) -> None:
        self._picture = self._canvas.copy_from_bbox(self.figure.bbox)
        self._draw_moving()

    def _blit(self) -> None:
        self._canvas.restore_region(self._picture)
        self._draw_moving()
        self._canvas.blit(self.figure.bbox)

    def _draw_moving(self) -> None:
        for spans in self._spans.values():
            spans.draw()
        for panel in self._panels.values():
            panel.draw()

    # ---- background segments by hand

    def _show_spans(self) -> None:
        for axes, spans in self._spans.items():
            spans.show(self._segments_in(axes), is_own=bool(self._own) or self._drag is not None)

    def _segments_in(self, axes: Any) -> Segments:
        """Segments shown in axes: those dragged, the user's own, or those found for the profile there."""
        if self._drag is not None or self._own:
            return self._segments if self._drag is not None else self._own
        here = [curve for curve in self._curves if self._panels[curve.role].axes is axes]
        return _found_segments(tuple(here))

    def _edge_at(self, event: Any) -> tuple[int, int] | None:
        if event.inaxes is None:
            return None
        to_px = event.inaxes.transData.transform
        best, found = float(_GRAB_PX), None
        for i, segment in enumerate(self._segments_in(event.inaxes)):
            for end, position in enumerate(segment):
                distance = abs(to_px((position, 0))[0] - event.x)
                if distance < best:
                    best, found = distance, (i, end)
        return found

    def _on_press(self, event: Any) -> None:
        if event.inaxes is None:
            return
        shown = self._segments_in(event.inaxes)
        if event.button == 3:
            kept = tuple(s for s in shown if not s[0] <= event.xdata <= s[1])
            if kept != shown:
                self.background_changed.emit(kept)
        elif event.button == 1:
            found = self._edge_at(event)
            if found is not None:
                self._segments = shown
            elif self.marking:
                self._segments = (*self._own, (event.xdata, event.xdata))
                found = len(self._segments) - 1, 1
            self._drag = found

    def _on_move(self, event: Any) -> None:
        if self._drag is None:
            from qtpy.QtCore import Qt

            near = self._edge_at(event) is not None or (self.marking and event.inaxes is not None)
            self._canvas.setCursor(Qt.CursorShape.SplitHCursor if near else Qt.CursorShape.ArrowCursor)
            return
        if event.xdata is None:
            return
        which, end = self._drag
        ends = list(self._segments[which])
        ends[end] = float(event.xdata)
        self._segments = tuple(tuple(ends) if i == which else s for i, s in enumerate(self._segments))  # type: ignore[misc]
        self._show_spans()
        if self._picture is not None:
            self._blit()

    def _on_release(self, event: Any) -> None:
        if self._drag is None:
            return
        self._drag = None
        step = 1e-6 + 0.002 * (self.figure.axes[0].get_xlim()[1])
        segments = tuple((min(s), max(s)) for s in self._segments if abs(s[1] - s[0]) > step)
        self.background_changed.emit(segments)


class _Panel:
    """Everything that moves of one profile."""

    def __init__(self, axes: Any, role: str, color: str, text: str, place: int, of: int) -> None:
        self.axes, self.role = axes, role
        plot = axes.plot
        (self._data,) = plot([], [], color=color, lw=0.9, alpha=0.6, animated=True)
        (self._used,) = plot([], [], "o", ms=3.6, mfc="none", mec=color, mew=0.8, ls="", animated=True)
        (self._fit,) = plot([], [], color=color, lw=2.0, animated=True)
        (self._ground,) = plot([], [], color=color, lw=1.0, ls=(0, (4, 3)), animated=True)
        across = axes.get_xaxis_transform()
        self._height = _place_bar(of - 1 - place)
        (self._bars,) = plot(
            [], [], color=color, lw=1.4, marker="|", ms=8, mew=1.4, transform=across, animated=True
        )
        (self._centers,) = plot([], [], "d", ms=4, color=color, ls="", transform=across, animated=True)
        self._labels = [
            axes.text(
                0,
                self._height,
                "",
                transform=across,
                color=color,
                fontsize=7.5,
                ha="center",
                va="bottom",
                animated=True,
            )
            for _ in range(6)
        ]
        axes.text(
            0.985 - 0.15 * (of - 1 - place), 0.97, role, transform=axes.transAxes, color=color, fontsize=8,
            weight="bold", ha="right", va="top",
        )  # fmt: skip
        self._reason = axes.text(
            0.015, 0.97 if of == 1 else 0.9, "", transform=axes.transAxes, color=text, fontsize=7.5, va="top"
        )

    def show(self, curve: Curve, scale: str) -> None:
        """Move to a profile."""
        profile, found = curve.profile, curve.measurement
        nothing: list[float] = []
        for line in (self._data, self._used, self._fit, self._ground, self._bars, self._centers):
            line.set_data(nothing, nothing)
        for label in self._labels:
            label.set_text("")
        if profile is None:
            return
        values, fitted, ground = scaled(curve, scale)
        self._data.set_data(profile.position, values)
        if found is None or found.refused:
            return
        for line in (self._fit, self._ground, self._bars):
            line.set_alpha(1.0 if curve.is_fresh else 0.4)
        if fitted.size:
            self._fit.set_data(found.position, fitted)
        if ground.size:
            self._ground.set_data(profile.position, ground)
        if curve.is_fresh and found.used.size == values.size:
            # of many samples some: circles side by side would hide the fit
            marked = np.flatnonzero(found.used)[:: max(1, int(found.used.sum()) // _CIRCLES)]
            self._used.set_data(profile.position[marked], values[marked])
        xs: list[float] = []
        for particle, label in zip(found.particles, self._labels, strict=False):
            half = particle.diameter / 2
            xs += [particle.center - half, particle.center + half, np.nan]
            label.set_position((particle.center, self._height + _ABOVE_BAR))
            label.set_text(f"{particle.diameter:.1f}")
        self._bars.set_data(xs, [self._height] * len(xs))
        centers = [particle.center for particle in found.particles]
        self._centers.set_data(centers, [self._height] * len(centers))

    def tell(self, reason: str) -> bool:
        """Say why there are no numbers; returns whether that is new."""
        is_new = bool(self._reason.get_text() != reason)
        self._reason.set_text(reason)
        return is_new

    def draw(self) -> None:
        """Draw over what is there."""
        moving = (self._data, self._ground, self._used, self._fit, self._bars, self._centers)
        for artist in (*moving, *(label for label in self._labels if label.get_text())):
            self.axes.draw_artist(artist)


class _Spans:
    """Background segments in one axes."""

    def __init__(self, axes: Any, color: str) -> None:
        self._axes, self._color = axes, color
        self._patches: list[Any] = []
        self._n = 0

    def show(self, segments: Segments, is_own: bool) -> None:
        """Move to segments; those of the user's own are stronger."""
        from matplotlib.patches import Rectangle

        while len(self._patches) < len(segments):
            patch = Rectangle((0, 0), 1, 1, transform=self._axes.get_xaxis_transform(), animated=True)
            patch.set_facecolor(self._color)
            patch.set_edgecolor(self._color)
            self._axes.add_patch(patch)
            self._patches.append(patch)
        self._n = len(segments)
        for patch, (low, high) in zip(self._patches, segments, strict=False):
            patch.set_bounds(min(low, high), 0, abs(high - low), 1)
            patch.set_alpha(0.28 if is_own else 0.13)

    def draw(self) -> None:
        """Draw over what is there."""
        for patch in self._patches[: self._n]:
            self._axes.draw_artist(patch)


def _found_segments(curves: tuple[Curve, ...]) -> Segments:
    for curve in curves:
        found = curve.measurement
        if found is not None and not found.refused and found.background is not None:
            return tuple(found.background.segments)
    return ()


def _place_bar(row: int) -> float:
    """Height of the bars of a profile, the lowest row being 0, as a share of the axes'."""
    return _BAR_SHARE * (row + 0.35)
