"""The pictures of a validation frame in the dock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QRect, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_lowdose_tem.image import F32
from napari_lowdose_tem.widgets.train.state import ValidationView

_CAPTIONS = ("LDE", "Output", "HDE")
_GAP_PX, _CAPTION_PX = 4, 18
_DETAIL_PX = 160
UNKNOWN_GREY = 96


class ValidationPictures(QWidget):
    """Three images side by side with the same contrast: the part of a validation frame that varies most."""

    def __init__(self) -> None:
        super().__init__()
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self._view: ValidationView | None = None
        self._pictures: list[QImage] = []
        self._text_color = QColor("white")

    def show_view(self, view: ValidationView | None, text_color: str) -> None:
        """Show a validation frame, or nothing."""
        if view is not self._view or self._text_color != QColor(text_color):
            self._text_color = QColor(text_color)
            self._view = view
            self._pictures = [] if view is None else [to_picture(f, view.limits) for f in _cut(view)]
            self.updateGeometry()
            self.update()

    def hasHeightForWidth(self) -> bool:
        """Whether the height follows the width: the images keep their shape."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Height of the images and their captions [px]."""
        if not self._pictures:
            return 0
        picture = self._pictures[0]
        return round(self._picture_width(width) * picture.height() / picture.width()) + _CAPTION_PX

    def sizeHint(self) -> QSize:
        """Size that suits a usual dock."""
        return QSize(300, self.heightForWidth(300))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the images, each with its caption."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.setPen(self._text_color)
        width = self._picture_width(self.width())
        height = self.height() - _CAPTION_PX
        for column, (picture, caption) in enumerate(zip(self._pictures, _CAPTIONS, strict=False)):
            left = column * (width + _GAP_PX)
            painter.drawImage(QRectF(left, 0, width, height), picture)
            where = QRect(round(left), height, round(width), _CAPTION_PX)
            painter.drawText(where, Qt.AlignmentFlag.AlignCenter, caption)
        painter.end()

    def _picture_width(self, width: int) -> float:
        return (width - 2 * _GAP_PX) / 3


def to_picture(frame: npt.NDArray[Any], limits: tuple[float, float]) -> QImage:
    """Make a grey image of a frame (rows, columns); unknown pixels are dark grey."""
    low, high = limits
    grey = np.clip((frame - low) / (high - low), 0, 1) * 255
    grey = np.ascontiguousarray(np.where(np.isfinite(grey), grey, UNKNOWN_GREY).astype(np.uint8))
    rows, cols = grey.shape
    # copied: Qt does not keep the array alive
    return QImage(grey.tobytes(), cols, rows, cols, QImage.Format.Format_Grayscale8).copy()


def find_detail(frame: npt.NDArray[Any], side_px: int = _DETAIL_PX) -> tuple[slice, slice]:
    """Find the part of a frame (rows, columns), `side_px` at most, that varies most."""
    height, width = (min(side_px, n) for n in frame.shape)
    best, where = -1.0, (0, 0)
    step = max(1, side_px // 2)
    for row in (*range(0, frame.shape[0] - height, step), frame.shape[0] - height):
        for col in (*range(0, frame.shape[1] - width, step), frame.shape[1] - width):
            part = frame[row : row + height, col : col + width]
            known = part[np.isfinite(part)]
            spread = float(known.std()) if 2 * known.size > part.size else 0.0
            if spread > best:
                best, where = spread, (row, col)
    row, col = where
    return slice(row, row + height), slice(col, col + width)


def _cut(view: ValidationView) -> Sequence[F32]:
    detail = find_detail(np.clip(view.hde, *view.limits))  # a hot pixel is no detail
    return [frame[detail] for frame in (view.lde, view.output, view.hde)]
