"""Plots in docks. matplotlib is imported with the first curve drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from .train_state import Curves

HEIGHT_PX = 190
# steps, training, validation; told apart in both themes and by colour-blind people
_COLORS = {"dark": ("#4d5b6e", "#7cc4ff", "#ffb454"), "light": ("#b9c6d6", "#0b62b3", "#b85c00")}


class LossPlot(QWidget):
    """Losses against epochs, in the colours of napari's theme."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(HEIGHT_PX)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._canvas: Any = None
        self._shown: tuple[Any, ...] = ()

    @property
    def figure(self) -> Any:
        """The figure, or None before the first curve."""
        return self._canvas.figure if self._canvas is not None else None

    def show_curves(self, curves: Curves, theme: str) -> None:
        """Draw curves, where they or the theme changed."""
        if not (curves.step_epochs or curves.epochs) or self._shown == (curves, theme):
            return
        self._shown = (curves, theme)
        if self._canvas is None:
            self._canvas = _make_canvas()
            self.layout().addWidget(self._canvas)
        draw_losses(self._canvas.figure, curves, theme)
        self._canvas.draw_idle()


def draw_losses(figure: Any, curves: Curves, theme: str) -> None:
    """Draw losses into an empty or used figure."""
    from matplotlib.ticker import MaxNLocator
    from napari.utils.theme import get_theme

    napari_theme = get_theme(theme)
    text, background = (color.as_hex() for color in (napari_theme.text, napari_theme.background))
    steps_color, training_color, validation_color = _COLORS[napari_theme.type]
    figure.clear()
    figure.set_facecolor(background)
    axes = figure.add_subplot(facecolor=background)
    axes.plot(curves.step_epochs, curves.step_losses, color=steps_color, lw=1, label="steps")
    marks = {"marker": "o", "ms": 3} if len(curves.epochs) < 20 else {}
    if curves.epochs:
        axes.plot(curves.epochs, curves.training, color=training_color, label="training", **marks)
        axes.plot(curves.epochs, curves.validation, color=validation_color, label="validation", **marks)
    if (best := curves.best) is not None:
        axes.plot(
            curves.epochs[best], curves.validation[best], "o", ms=8, mfc="none", color=validation_color,
            label="best, saved", ls="",
        )  # fmt: skip
    if curves.is_wide:
        axes.set_yscale("log")
        _label_decades(axes.yaxis)
    axes.set_xlabel("Epoch", color=text, fontsize=8)
    axes.set_ylabel("Mean absolute error", color=text, fontsize=8)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=bool(curves.epochs) and curves.epochs[-1] > 2))
    axes.tick_params(which="both", colors=text, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(text)
        spine.set_alpha(0.4)
    axes.grid(alpha=0.15, color=text)
    axes.legend(fontsize=7, frameon=False, labelcolor=text, ncols=2, loc="upper right")


def _label_decades(axis: Any) -> None:
    """Label 1, 2 and 5 of a decade as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _make_canvas() -> Any:
    from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
    from matplotlib.figure import Figure

    return FigureCanvasQTAgg(Figure(layout="constrained"))
