"""Plots in docks. matplotlib is imported with the first curve drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

if TYPE_CHECKING:
    from napari_lowdose_tem.widgets.train.state import Curves

HEIGHT_PX = 190
# told apart in both themes and by colour-blind people
_COLORS = {
    "dark": {"steps": "#4d5b6e", "training": "#7cc4ff", "validation": "#ffb454"},
    "light": {"steps": "#b9c6d6", "training": "#0b62b3", "validation": "#b85c00"},
}
_BEST = "best, saved"
_MARKED = 20  # epochs, beyond which marks would hide the line
_MARGINS_PX = {"left": 54, "right": 8, "bottom": 40, "top": 6}


class LossPlot(QWidget):
    """Losses against epochs, in the colours of napari's theme."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(HEIGHT_PX)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._canvas: Any = None
        self._shown: Curves | None = None
        self._theme = ""

    @property
    def figure(self) -> Any:
        """The figure, or None before the first curve."""
        return self._canvas.figure if self._canvas is not None else None

    def show_curves(self, curves: Curves, theme: str) -> None:
        """Draw curves, where they or the theme changed."""
        if not (curves.step_epochs or curves.epochs) or (self._shown, self._theme) == (curves, theme):
            return
        if self._canvas is None:
            self._canvas = make_canvas()
            self.layout().addWidget(self._canvas)
        if theme != self._theme:
            make_axes(self.figure, theme)
            self._canvas.fit_margins()
        self._shown, self._theme = curves, theme
        draw_losses(self.figure.axes[0], curves)
        self._canvas.draw_idle()


def make_axes(figure: Any, theme: str) -> None:
    """Put empty axes and lines in the colours of a theme into a figure."""
    text, background, kind = theme_colors(theme)
    colors = _COLORS[kind]
    figure.clear()
    figure.set_facecolor(background)
    axes = figure.add_subplot(facecolor=background)
    for name, color in colors.items():
        axes.plot([], [], color=color, lw=1 if name == "steps" else 1.5, ms=3, label=name)
    axes.plot([], [], "o", ms=8, mfc="none", color=colors["validation"], label=_BEST)
    axes.set_xlabel("Epoch", color=text, fontsize=8)
    axes.set_ylabel("Mean absolute error", color=text, fontsize=8)
    style_axes(axes, text)
    axes.legend(fontsize=7, frameon=False, labelcolor=text, ncols=2, loc="upper right")


def theme_colors(theme: str) -> tuple[str, str, str]:
    """Text and background colour of a theme of napari, and whether it is "dark" or "light"."""
    from napari.utils.theme import get_theme

    found = get_theme(theme)
    return found.text.as_hex(), found.background.as_hex(), found.type


def style_axes(axes: Any, text: str) -> None:
    """Draw ticks, frame and grid in the colour of the text."""
    axes.tick_params(which="both", colors=text, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(text)
        spine.set_alpha(0.4)
    axes.grid(alpha=0.15, color=text)


def draw_losses(axes: Any, curves: Curves) -> None:
    """Move the lines of the axes to the losses; far faster than new axes."""
    best = [] if curves.best is None else [curves.best]
    points = {
        "steps": (curves.step_epochs, curves.step_losses),
        "training": (curves.epochs, curves.training),
        "validation": (curves.epochs, curves.validation),
        _BEST: ([curves.epochs[i] for i in best], [curves.validation[i] for i in best]),
    }
    for line in axes.lines:
        line.set_data(*points[line.get_label()])
        if line.get_label() in ("training", "validation"):
            line.set_marker("o" if len(curves.epochs) < _MARKED else "")
    scale = "log" if curves.is_wide else "linear"
    if axes.get_yscale() != scale:
        axes.set_yscale(scale)
        _label_plainly(axes.yaxis, scale)
    axes.relim()
    axes.autoscale_view()
    axes.set_xlim(left=0, auto=True)  # or the limits would stay those of the first steps
    _label_epochs(axes.xaxis, curves)


def _label_plainly(axis: Any, scale: str) -> None:
    """Label 1, 2 and 5 of a decade as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    if scale == "log":
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def _label_epochs(axis: Any, curves: Curves) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(6, integer=bool(curves.epochs) and curves.epochs[-1] > 2))


def make_canvas() -> Any:
    """Make a canvas whose margins stay as wide as their labels."""
    from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
    from matplotlib.figure import Figure

    class Canvas(FigureCanvasQTAgg):
        """Keeps the margins as wide as their labels, at half the cost of a layout engine."""

        def resizeEvent(self, event: Any) -> None:
            super().resizeEvent(event)
            self.fit_margins()

        def fit_margins(self) -> None:
            width, height = max(self.width(), 200), max(self.height(), 100)
            margins = _MARGINS_PX
            self.figure.subplots_adjust(
                margins["left"] / width,
                margins["bottom"] / height,
                1 - margins["right"] / width,
                1 - margins["top"] / height,
                hspace=0.1,
            )

    return Canvas(Figure())
