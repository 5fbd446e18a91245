"""Kymograph, diameters and separation over time. matplotlib is imported with the first drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_lowdose_tem.widgets.shared.plot import make_canvas, style_axes, theme_colors

HEIGHT_PX = 300
_COLORS = {
    "dark": ("#7cc4ff", "#ffb454", "#5fd3a6", "#e08bd0", "#d9d9d9", "#f0e442"),
    "light": ("#0b62b3", "#b85c00", "#00805a", "#a0408e", "#555555", "#7d7600"),
}
_INTERVAL = 1.96  # standard errors of a 95 % interval


class OverTimePlot(QWidget):
    """Kymograph above, diameters with their 95 % bands below, the separation of two with them."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(HEIGHT_PX)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._canvas: Any = None
        self._shown: Any = None

    @property
    def figure(self) -> Any:
        """The figure, or None before the first result."""
        return self._canvas.figure if self._canvas is not None else None

    def show_result(self, found: Any, theme: str) -> None:
        """Draw a result, where it or the theme changed."""
        if found is None or (found, theme) == self._shown:
            return
        if self._canvas is None:
            self._canvas = make_canvas()
            self.layout().addWidget(self._canvas)
        self._shown = found, theme
        draw_over_time(self.figure, found, *theme_colors(theme))
        self._canvas.fit_margins()
        self._canvas.draw_idle()


def draw_over_time(figure: Any, found: Any, text: str, background: str, kind: str) -> None:
    """Draw a result of `iter_over_time` into a figure."""
    figure.clear()
    figure.set_facecolor(background)
    image_axes, axes = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    has_time = found.time_s is not None
    x = np.asarray(found.time_s if has_time else found.frames, float)
    step = (x[-1] - x[0]) / max(len(x) - 1, 1) or 1.0
    kymograph = np.asarray(found.kymograph, float).T
    known = kymograph[np.isfinite(kymograph)]
    low, high = np.percentile(known, (0.5, 99.5)) if known.size else (0.0, 1.0)
    extent = (x[0] - step / 2, x[-1] + step / 2, found.position[-1], found.position[0])
    image_axes.imshow(
        kymograph, cmap="gray", vmin=low, vmax=high, extent=extent, aspect="auto", interpolation="nearest"
    )
    image_axes.set_ylabel(f"Position [{found.unit}]", color=text, fontsize=8)
    diameter, error = (
        np.atleast_2d(np.asarray(found.diameter, float).T),
        np.atleast_2d(np.asarray(found.diameter_se, float).T),
    )
    many = len(diameter) > 1
    series = [
        (f"d{i + 1}" if many else "d", d, se) for i, (d, se) in enumerate(zip(diameter, error, strict=True))
    ]
    if many and found.separation is not None and np.isfinite(np.asarray(found.separation, float)).any():
        series.append(("l", np.asarray(found.separation, float), np.asarray(found.separation_se, float)))
    for (name, values, se), color in zip(series, _COLORS[kind], strict=False):
        axes.plot(x, values, color=color, lw=1.3, marker="o" if len(x) < 60 else "", ms=2.5, label=name)
        band = _INTERVAL * np.where(np.isfinite(se), se, 0)
        axes.fill_between(x, values - band, values + band, color=color, alpha=0.25, lw=0)
    shown = np.concatenate([values[np.isfinite(values)] for _, values, _ in series])
    if shown.size:
        # a frame that failed must not hide the others
        bottom, top = np.percentile(shown, (1, 99))
        room = max(0.35 * (top - bottom), 0.02 * abs(top), 1e-6)
        axes.set_ylim(bottom - room, top + room)
    else:
        axes.text(
            0.5,
            0.5,
            "No frame could be measured.",
            transform=axes.transAxes,
            color=text,
            ha="center",
            fontsize=8,
        )
    what = "Diameter" + (", separation" if len(series) > len(diameter) else "")
    axes.set_ylabel(f"{what} [{found.unit}]", color=text, fontsize=8)
    axes.set_xlabel("Time [s]" if has_time else "Frame", color=text, fontsize=8)
    for one in (image_axes, axes):
        one.set_facecolor(background)
        style_axes(one, text)
    image_axes.grid(False)
    image_axes.tick_params(labelbottom=False)
    if many:
        axes.legend(fontsize=7, frameon=False, labelcolor=text, ncols=3, loc="upper right")
