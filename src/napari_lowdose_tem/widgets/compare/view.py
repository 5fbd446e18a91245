"""The views of the Compare dock: panned and zoomed jointly, one cursor in all.

Painted by hand: pyqtgraph would paint swipe, overlay and outlines no sooner, and a new 4096² frame later
(37 against 30 ms averaged to the view, 16 against 0.7 ms at 1:1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import QPointF, QRectF, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QPainter, QPalette, QPen, QTransform
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from napari_lowdose_tem.widgets.compare.field_of_view import Box, Point
from napari_lowdose_tem.widgets.compare.paint import (
    ORANGE,
    TINTS,
    paint_cursor,
    paint_outlines,
    paint_picture,
    paint_scale_bar,
    paint_title,
)
from napari_lowdose_tem.widgets.compare.state import HOW_TO_BEGIN, ROLES, CompareState, Picture, picture_of

_MARGIN = 0.98  # of the view that the field fills
_WHEEL = 1.0015  # zoom per eighth of a degree
_ZOOMS = 0.02, 400.0  # pixels of the screen per pixel of the grid
_GRAB_PX = 8
_GROUND = QColor("#1b1d22")


class Camera:
    """Where all views look: `center` in the field, and pixels of the screen per unit; None to show all."""

    def __init__(self) -> None:
        self.center: Point | None = None
        self.zoom: float | None = None

    def fit(self) -> None:
        """Show the whole field."""
        self.center = self.zoom = None


class View(QWidget):
    """One or two pictures of the field, a cursor and what is drawn on it.

    Parameters
    ----------
    camera
        Shared by the views.
    """

    pointed = Signal(object)
    turned = Signal()
    marked = Signal(object)

    def __init__(self, camera: Camera) -> None:
        super().__init__()
        self.camera = camera
        self.pictures: tuple[Picture, ...] = ()
        self.hint = ""
        self.mode = "side"
        self.divider = 0.5
        self._state: CompareState | None = None
        self._grabbed: tuple[str, QPointF] | None = None
        self._band: tuple[Point, Point] | None = None
        self.setMouseTracking(True)
        self.setMinimumSize(120, 120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def show_pictures(
        self, state: CompareState, pictures: Sequence[Picture], mode: str = "side", hint: str = ""
    ) -> None:
        """Show these; the other words of the state as well."""
        self._state, self.pictures, self.mode, self.hint = state, tuple(pictures), mode, hint
        marks = state.drawing and bool(self.pictures)
        self.setCursor(Qt.CursorShape.CrossCursor if marks else Qt.CursorShape.ArrowCursor)
        self.update()

    # ---- where things are

    @property
    def zoom(self) -> float:
        """Pixels of the screen per unit of the field."""
        field = self._state.field if self._state is not None else None
        if field is None:
            return 1.0
        if self.camera.zoom is not None:
            return self.camera.zoom
        return _MARGIN * min(self.height() / field.extent[0], self.width() / field.extent[1])

    @property
    def center(self) -> Point:
        """Place in the field in the middle of the view."""
        if self.camera.center is not None:
            return self.camera.center
        extent = self._state.field.extent if self._state is not None and self._state.field else (1.0, 1.0)
        return extent[0] / 2, extent[1] / 2

    @property
    def transform(self) -> QTransform:
        """From (column, row) in the field to the screen."""
        zoom, (row, col) = self.zoom, self.center
        return QTransform(zoom, 0, 0, zoom, self.width() / 2 - col * zoom, self.height() / 2 - row * zoom)

    def to_field(self, at: QPointF) -> Point:
        """Place in the field of a point of the view."""
        found = self.transform.inverted()[0].map(QPointF(at))
        return found.y(), found.x()

    def visible(self) -> Box:
        """Part of the field seen."""
        top, left = self.to_field(QPointF(0, 0))
        bottom, right = self.to_field(QPointF(self.width(), self.height()))
        return top, left, bottom, right

    # ---- drawing

    def paintEvent(self, event: Any) -> None:
        """Draw it."""
        painter = QPainter(self)
        area = QRectF(self.rect())
        painter.fillRect(area, _GROUND)
        state = self._state
        if not self.pictures or state is None or state.field is None:
            painter.setPen(self.palette().color(QPalette.ColorRole.BrightText))
            painter.setPen(QColor("#c9cdd4"))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(area.adjusted(12, 12, -12, -12), int(flags), self.hint)
            return
        view = self.transform
        split = self.divider * self.width() if self.mode == "swipe" and len(self.pictures) > 1 else None
        if self.mode == "overlay" and len(self.pictures) > 1:
            for picture, tint in zip(self.pictures, TINTS, strict=False):
                paint_picture(painter, picture, view, area, tint)
                painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_Plus)
            painter.setCompositionMode(QPainter.CompositionMode.CompositionMode_SourceOver)
        elif split is not None:
            left, right = QRectF(area), QRectF(area)
            left.setRight(split)
            right.setLeft(split)
            paint_picture(painter, self.pictures[0], view, left)
            paint_picture(painter, self.pictures[1], view, right)
        else:
            paint_picture(painter, self.pictures[0], view, area)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        paint_outlines(painter, state.outlines, view)
        if self._band is not None:
            (top, left_), (bottom, right_) = self._band
            corners = [(top, left_), (top, right_), (bottom, right_), (bottom, left_), (top, left_)]
            paint_outlines(painter, [corners], view)
        if split is not None:
            for pen in (QPen(QColor(0, 0, 0, 160), 4), QPen(ORANGE, 2)):
                painter.setPen(pen)
                painter.drawLine(QPointF(split, 0), QPointF(split, self.height()))
        if state.cursor is not None:
            paint_cursor(painter, state.cursor, view)
        paint_scale_bar(painter, area, self.zoom, state.field.unit)
        titles = [picture.title for picture in self.pictures]
        if split is not None:
            paint_title(painter, QRectF(0, 0, self.width() / 2, self.height()), titles[0])
            paint_title(
                painter, QRectF(self.width() / 2, 0, self.width() / 2, self.height()), titles[1], right=True
            )
        elif self.mode == "overlay" and len(titles) > 1:
            paint_title(painter, area, f"{state.pair[0]} green · {state.pair[1]} magenta")
        else:
            paint_title(painter, area, titles[0])

    # ---- mouse

    def wheelEvent(self, event: Any) -> None:
        """Zoom all views about the mouse."""
        if self._state is None or self._state.field is None:
            return
        at = event.position()
        row, col = self.to_field(at)
        limits = [z / self._state.field.step[0] for z in _ZOOMS]
        delta = event.angleDelta().y() or event.angleDelta().x()
        zoom = min(max(self.zoom * _WHEEL**delta, limits[0]), limits[1])
        self.camera.zoom = zoom
        self.camera.center = (
            row - (at.y() - self.height() / 2) / zoom,
            col - (at.x() - self.width() / 2) / zoom,
        )
        self.turned.emit()
        event.accept()

    def mousePressEvent(self, event: Any) -> None:
        """Begin to pan, to move the divider or to mark a region."""
        if event.button() != Qt.MouseButton.LeftButton or not self.pictures:
            return
        at = event.position()
        if self._state is not None and self._state.drawing:
            self._grabbed = "mark", at
        elif self._is_on_divider(at):
            self._grabbed = "divider", at
        else:
            self._grabbed = "pan", at

    def mouseMoveEvent(self, event: Any) -> None:
        """Go on, or tell where the mouse is."""
        at = event.position()
        self.pointed.emit(self.to_field(at) if self.pictures else None)
        if self._grabbed is None:
            if self._state is not None and not self._state.drawing:
                on = self._is_on_divider(at)
                self.setCursor(Qt.CursorShape.SplitHCursor if on else Qt.CursorShape.ArrowCursor)
            return
        kind, last = self._grabbed
        if kind == "pan":
            zoom, (row, col) = self.zoom, self.center
            self.camera.zoom = zoom
            self.camera.center = row - (at.y() - last.y()) / zoom, col - (at.x() - last.x()) / zoom
            self._grabbed = kind, at
            self.turned.emit()
        elif kind == "divider":
            self.divider = min(max(at.x() / max(self.width(), 1), 0.0), 1.0)
            self.update()
        else:
            self._band = self.to_field(last), self.to_field(at)
            self.update()

    def mouseReleaseEvent(self, event: Any) -> None:
        """End it."""
        band, self._band, self._grabbed = self._band, None, None
        if band is not None:
            (row, col), (other_row, other_col) = band
            self.marked.emit(
                (min(row, other_row), min(col, other_col), max(row, other_row), max(col, other_col))
            )
            self.update()

    def mouseDoubleClickEvent(self, event: Any) -> None:
        """Show the whole field."""
        self.camera.fit()
        self.turned.emit()

    def leaveEvent(self, event: Any) -> None:
        """Forget the cursor."""
        self.pointed.emit(None)

    def _is_on_divider(self, at: QPointF) -> bool:
        is_split = self.mode == "swipe" and len(self.pictures) > 1
        return is_split and abs(at.x() - self.divider * self.width()) <= _GRAB_PX


class Views(QWidget):
    """The views side by side, or one large view that swipes, blinks or overlays two pictures."""

    pointed = Signal(object)
    marked = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.camera = Camera()
        self.views = {name: View(self.camera) for name in (*ROLES, "residual")}
        self._pair = View(self.camera)
        self._state: CompareState | None = None
        self._extra: Picture | None = None
        self._shows_second = False
        self._blink = QTimer(self)
        self._blink.timeout.connect(self._on_blink)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        for view in (*self.views.values(), self._pair):
            view.pointed.connect(self.pointed)
            view.marked.connect(self.marked)
            view.turned.connect(self._update_all)
            layout.addWidget(view)

    @property
    def pair_view(self) -> View:
        """The large view."""
        return self._pair

    @property
    def is_blinking(self) -> bool:
        """Whether pictures alternate now."""
        return self._blink.isActive()

    def visible(self) -> Box:
        """Part of the field seen, in the first view shown."""
        view = self._pair if self._pair.isVisibleTo(self) else self.views[ROLES[0]]
        return view.visible()

    def stop(self) -> None:
        """Blink no more."""
        if isalive(self._blink):
            self._blink.stop()

    def show_state(self, state: CompareState, extra: Picture | None = None) -> None:
        """Show the pictures of a state, and the residual map where there is one."""
        if self._state is not None and self._state.field is not None and state.field is None:
            self.camera.fit()
        self._state, self._extra = state, extra
        is_side = state.mode == "side"
        for role in ROLES:
            picture = picture_of(state, role)
            self.views[role].setVisible(is_side)
            self.views[role].show_pictures(state, (picture,) if picture else (), hint=HOW_TO_BEGIN[role])
        self.views["residual"].setVisible(extra is not None)
        self.views["residual"].show_pictures(state, (extra,) if extra is not None else ())
        self._pair.setVisible(not is_side)
        wants_blink = state.mode == "blink" and len(self._paired()) > 1
        if wants_blink and (not self._blink.isActive() or self._blink.interval() != state.blink_ms):
            self._blink.start(state.blink_ms)
        elif not wants_blink:
            self._blink.stop()
        self._show_pair()

    def show_marks(self) -> None:
        """Draw cursor and lines anew."""
        self._update_all()

    def _paired(self) -> tuple[Picture, ...]:
        if self._state is None:
            return ()
        found = (picture_of(self._state, role) for role in self._state.pair)
        return tuple(picture for picture in found if picture is not None)

    def _show_pair(self) -> None:
        if self._state is None or self._state.mode == "side":
            return
        pictures = self._paired()
        if self._state.mode == "blink" and len(pictures) > 1:
            pictures = pictures[int(self._shows_second) :][:1]
        missing = [role for role in self._state.pair if picture_of(self._state, role) is None]
        hint = HOW_TO_BEGIN[missing[0]] if missing else ""
        self._pair.show_pictures(self._state, pictures, self._state.mode, hint)

    def _on_blink(self) -> None:
        self._shows_second = not self._shows_second
        self._show_pair()

    def _update_all(self) -> None:
        for view in (*self.views.values(), self._pair):
            view.update()
