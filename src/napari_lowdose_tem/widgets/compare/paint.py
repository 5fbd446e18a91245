"""Pictures drawn with Qt's painter: no OpenGL, no layer of the viewer is touched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPolygonF, QTransform

from napari_lowdose_tem.figures.scale_bar import round_length, write_length
from napari_lowdose_tem.widgets.compare.field_of_view import Point
from napari_lowdose_tem.widgets.compare.state import Picture

ORANGE, CURSOR = QColor("#ffb000"), QColor("#3ad0ff")
_SHADE = QColor(0, 0, 0, 150)
_BAR_SHARE = 0.3  # of the shorter side
_ARM_PX, _GAP_PX = 11, 4
_STEPS = np.linspace(0, 255, 256).astype(np.uint8)
# added up they are white
TINTS = tuple(
    np.stack([_STEPS * np.uint8(c) for c in (*rgb,)] + [np.full(256, 255, np.uint8)], 1)
    for rgb in ((0, 1, 0), (1, 0, 1))
)


def paint_picture(
    painter: QPainter,
    picture: Picture,
    view: QTransform,
    area: QRectF,
    colors: npt.NDArray[np.uint8] | None = None,
) -> None:
    """Draw what is visible of a picture; larger frames as the means over the pixels of the screen.

    Parameters
    ----------
    view
        From (column, row) in the field to the screen.
    area
        Part of the screen to draw on.
    colors
        (256, 4) RGBA in place of the picture's own.
    """
    (rr, rc, r0), (cr, cc, c0) = picture.placement.matrix
    to_screen = QTransform(cc, rc, cr, rr, c0, r0) * view
    back, possible = to_screen.inverted()
    if not possible:
        return
    rows, cols = picture.placement.shape
    seen = back.mapRect(area).intersected(QRectF(0, 0, cols, rows))
    if seen.isEmpty():
        return
    device = painter.device()
    zoom = math.sqrt(abs(to_screen.determinant())) * (device.devicePixelRatioF() if device is not None else 1)
    level = max(0, math.floor(math.log2(1 / zoom))) if zoom < 1 else 0
    pixels, factor = picture.pyramid.level(level), 2**level
    top, left = int(seen.top() // factor), int(seen.left() // factor)
    part = pixels[top : math.ceil(seen.bottom() / factor), left : math.ceil(seen.right() / factor)]
    if not part.size:
        return
    image = make_image(part, picture.limits, picture.colors if colors is None else colors)
    painter.save()
    painter.setClipRect(area, Qt.ClipOperation.IntersectClip)
    painter.setTransform(to_screen)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, zoom * factor < 1)
    painter.setClipRect(QRectF(0, 0, cols, rows), Qt.ClipOperation.IntersectClip)
    painter.drawImage(
        QRectF(left * factor, top * factor, part.shape[1] * factor, part.shape[0] * factor), image
    )
    painter.restore()


def make_image(
    pixels: npt.NDArray[Any], limits: tuple[float, float], colors: npt.NDArray[np.uint8] | None
) -> QImage:
    """Turn values into grey, or into `colors` (256, 4) RGBA; what is not finite is black."""
    low, high = limits
    values = np.asarray(pixels, np.float32) - np.float32(low)
    values *= np.float32(255 / ((high - low) or 1.0))
    np.nan_to_num(values, copy=False, posinf=255, neginf=0)
    index = np.clip(values, 0, 255, out=values).astype(np.uint8)
    rows, cols = index.shape
    kind = QImage.Format.Format_Grayscale8 if colors is None else QImage.Format.Format_Indexed8
    image = QImage(index.tobytes(), cols, rows, cols, kind)
    if colors is not None:
        image.setColorTable([QColor(*(int(v) for v in color)).rgba() for color in colors])
    return image.copy()  # which owns its pixels


def paint_outlines(painter: QPainter, outlines: Sequence[Sequence[Point]], view: QTransform) -> None:
    """Draw lines and regions, (row, column) in the field."""
    painter.setBrush(Qt.BrushStyle.NoBrush)
    for outline in outlines:
        polygon = QPolygonF([view.map(QPointF(col, row)) for row, col in outline])
        for pen in (QPen(_SHADE, 3.0), QPen(ORANGE, 1.4)):
            painter.setPen(pen)
            painter.drawPolyline(polygon)


def paint_cursor(painter: QPainter, cursor: Point, view: QTransform) -> None:
    """Draw the cross that marks one place in all pictures."""
    at = view.map(QPointF(cursor[1], cursor[0]))
    for pen in (QPen(_SHADE, 3.2), QPen(CURSOR, 1.6)):
        painter.setPen(pen)
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            step = QPointF(x, y)
            painter.drawLine(at + step * _GAP_PX, at + step * _ARM_PX)


def paint_scale_bar(painter: QPainter, area: QRectF, zoom: float, unit: str) -> None:
    """Draw a bar of a round length at the lower left."""
    length = round_length(_BAR_SHARE * min(area.width(), area.height()) / zoom)
    width = length * zoom
    box = QRectF(area.left() + 8, area.bottom() - 30, max(width, 34) + 12, 24)
    painter.fillRect(box, _SHADE)
    painter.fillRect(QRectF(box.left() + 6, box.bottom() - 6, width, 3), QColor("white"))
    painter.setPen(QColor("white"))
    painter.drawText(box.adjusted(0, 1, 0, -7), Qt.AlignmentFlag.AlignCenter, write_length(length, unit))


def paint_title(painter: QPainter, area: QRectF, text: str, right: bool = False) -> None:
    """Write what is shown into the upper left or right corner."""
    most = max(20, int(area.width()) - 16)
    text = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideMiddle, most - 10)
    size = painter.fontMetrics().boundingRect(text)
    width = min(size.width() + 14, most)
    left = area.right() - width - 6 if right else area.left() + 6
    box = QRectF(left, area.top() + 6, width, size.height() + 5)
    painter.fillRect(box, _SHADE)
    painter.setPen(QColor("white"))
    painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
