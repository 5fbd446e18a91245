"""The Compare dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import EmissionInfo
from qtpy.QtCore import QEvent, QSignalBlocker, QSize, Qt
from qtpy.QtWidgets import (
    QBoxLayout,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_lowdose_tem.widgets.compare.control import CompareControl
from napari_lowdose_tem.widgets.compare.numbers import numbers_html, numbers_note
from napari_lowdose_tem.widgets.compare.parts import hold, make_form, make_page, make_row, scroll
from napari_lowdose_tem.widgets.compare.plot import HistogramPlot
from napari_lowdose_tem.widgets.compare.state import (
    CONTRASTS,
    HISTOGRAMS,
    MODES,
    ROLES,
    cursor_texts,
    picture_of,
    position_text,
    region_text,
)
from napari_lowdose_tem.widgets.compare.view import Views
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.parts import Note, show_choice, show_message

if TYPE_CHECKING:
    from napari.viewer import Viewer

_NONE = "none"
_FIGURES = "PNG (*.png);;SVG (*.svg);;PDF (*.pdf)"
_LAYERS = {"HDE": "HDE on the low-dose grid", "LDE": "LDE, averaged", "residual": "Residual"}
_SIDE_PX, _RESULTS_PX, _HEIGHT_PX = 260, 350, 430
_ANY_PX = 16_777_215  # Qt's largest width
_WIDE = 1.25  # ratio of width and height from which on parts lie side by side


class CompareDock(Dock[CompareControl]):
    """See high dose, low dose and output of one field side by side, and in numbers.

    Parameters
    ----------
    napari_viewer
        The viewer or its model.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        self._placed = placed_by_user()
        super().__init__(CompareControl(napari_viewer))
        viewer = self.control.viewer
        viewer.events.theme.connect(self._show_state)
        self._endings.append(lambda: viewer.events.theme.disconnect(self._show_state))
        self._endings.append(self.views.stop)
        self.setMinimumWidth(1)  # or the right side would grow before it goes below

    # ---- widgets

    def _make_widgets(self) -> None:
        self.views = Views()
        self.value_labels = {role: QLabel() for role in (*ROLES, "residual")}
        self.position_label, self.message_label, self.numbers_label = QLabel(), QLabel(), QLabel()
        self.role_boxes = {role: QComboBox() for role in ROLES}
        self.average_box, self.mode_box, self.contrast_box, self.histogram_box = (
            QComboBox() for _ in range(4)
        )
        self.pair_boxes = QComboBox(), QComboBox()
        for box in (*self.role_boxes.values(), self.average_box, self.mode_box, *self.pair_boxes):
            # long names must not widen the dock
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(5)
        for box, texts in (
            (self.mode_box, MODES), (self.contrast_box, CONTRASTS), (self.histogram_box, HISTOGRAMS)
        ):  # fmt: skip
            for key, text in texts.items():
                box.addItem(text, key)
        for box in self.pair_boxes:
            for role in ROLES:
                box.addItem(role, role)
        self.average_box.setToolTip("Mean of so many frames around the one shown: what averaging would give")
        self.mode_box.setToolTip("Swipe, blink and overlay show two of the three in one large view")
        self.pair_button = QPushButton("Pair up again")
        self.pair_button.setToolTip("Chooses the three by provenance, size and name")
        self.blink_box = QSpinBox()
        self.blink_box.setRange(100, 5000)
        self.blink_box.setSingleStep(100)
        self.blink_box.setSuffix(" ms")
        self.limit_boxes = QDoubleSpinBox(), QDoubleSpinBox()
        for box, name in zip(self.limit_boxes, ("Black", "White"), strict=True):
            box.setRange(-1e9, 1e9)
            box.setDecimals(1)
            box.setKeyboardTracking(False)
            box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
            box.setMinimumWidth(40)
            box.setToolTip(f"{name} at this many counts")
        self.auto_button = QPushButton("Auto")
        self.auto_button.setToolTip("Chooses the shared limits by the frames shown now")
        self.fit_button = QPushButton("Show all")
        self.fit_button.setToolTip("The whole field again; a double click in a view does the same")
        self.figure_button = QPushButton("Figure …")
        self.figure_button.setToolTip("What the views show, with scale bars, as PNG, SVG or PDF")
        self.layer_button = QToolButton()
        self.layer_button.setText("Add layer")
        self.layer_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.layer_button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._menu = QMenu(self.layer_button)
        self.layer_actions = {what: self._menu.addAction(text) for what, text in _LAYERS.items()}
        self.layer_button.setMenu(self._menu)
        self.note, self.contrast_note, self.numbers_note, self.region_note = (Note() for _ in range(4))
        self.residual_note, self.histogram_note, self.moved_note = (Note() for _ in range(3))
        self.region_button, self.clear_button = QPushButton("Draw a region"), QPushButton("Whole frame")
        self.region_button.setCheckable(True)
        self.region_button.setToolTip(
            "Drag in any of the views; the region is a Shapes layer, to be adjusted"
        )
        self.region_box = QCheckBox("Numbers within the region")
        self.map_box = QCheckBox("Show LDE − output as a view of its own")
        self.plot = HistogramPlot()
        self.register_button = QPushButton("Register HDE to LDE")
        self.register_button.setToolTip("Finds how the high dose lies on the low dose; no layer is changed")
        self.keep_button, self.undo_button = QPushButton("Accept"), QPushButton("Undo")
        self.keep_button.setToolTip("The high-dose layer remembers it in its metadata; its scale stays")
        self.before_button = QPushButton("Before")
        self.before_button.setCheckable(True)
        self.before_button.setToolTip("Shows where it lay before, while pressed in")
        self.overlay_button = QPushButton("Overlay")
        self.overlay_button.setToolTip("HDE green and LDE magenta in one view: grey where both agree")
        self.rotation_box, self.scale_box = QCheckBox("also rotation"), QCheckBox("also magnification")
        self.numbers_label.setTextFormat(Qt.TextFormat.RichText)
        for label in (self.numbers_label, self.message_label):
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.message_label.setWordWrap(True)
        for label in (*self.value_labels.values(), self.position_label):
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)

    def _lay_out(self) -> None:
        side = QWidget()
        left = QVBoxLayout(side)
        left.setContentsMargins(0, 0, 4, 0)
        self.pair_row, self.limits_row = hold(*self.pair_boxes), hold(*self.limit_boxes, self.auto_button)
        self._form = make_form(
            *self.role_boxes.items(), ("Mean of", self.average_box), ("", self.note),
            ("View", self.mode_box), ("Two", self.pair_row), ("Every", self.blink_box),
            ("Contrast", self.contrast_box), ("Limits", self.limits_row), ("", self.contrast_note),
        )  # fmt: skip
        left.addLayout(self._form)
        left.addLayout(make_row(self.fit_button, self.pair_button))
        left.addLayout(make_row(self.figure_button, self.layer_button))
        left.addWidget(self.message_label)
        left.addStretch(1)
        middle = QWidget()
        center = QVBoxLayout(middle)
        center.setContentsMargins(0, 0, 0, 0)
        center.setSpacing(2)
        center.addWidget(self.views, 1)
        center.addLayout(make_row(*self.value_labels.values()))
        center.addWidget(self.position_label)
        self.tabs = QTabWidget()
        for name, page in (
            ("Numbers", make_page(
                self.numbers_label, self.numbers_note, hold(self.region_button, self.clear_button),
                self.region_note, self.region_box)),
            ("Residual", make_page(self.map_box, self.residual_note)),
            ("Histograms", make_page(self.histogram_box, self.plot, self.histogram_note)),
            ("Register", make_page(
                self.register_button, hold(self.rotation_box, self.scale_box), self.moved_note,
                hold(self.before_button, self.overlay_button), hold(self.keep_button, self.undo_button))),
        ):  # fmt: skip
            self.tabs.addTab(page, name)
        self._box = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._box.setContentsMargins(4, 2, 4, 2)
        area = scroll(side)
        self.tabs.setMinimumWidth(_RESULTS_PX)
        for part, stretch in ((area, 0), (middle, 1), (self.tabs, 0)):
            self._box.addWidget(part, stretch)
        self._area, self._side = area, side
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def _connect(self) -> None:
        control = self.control
        for role, box in self.role_boxes.items():
            box.activated.connect(lambda i, r=role, b=box: control.choose_layer(r, b.itemData(i)))
        for box, key in (
            (self.average_box, "average"), (self.mode_box, "mode"), (self.contrast_box, "shared"),
            (self.histogram_box, "scaled"),
        ):  # fmt: skip
            box.activated.connect(lambda i, k=key, b=box: control.choose(**{k: b.itemData(i)}))
        for which, box in enumerate(self.pair_boxes):
            box.activated.connect(lambda i, w=which, b=box: control.choose_pair(w, b.itemData(i)))
        for box in self.limit_boxes:
            box.valueChanged.connect(lambda _: control.set_limits(*(b.value() for b in self.limit_boxes)))
        self.blink_box.valueChanged.connect(lambda value: control.choose(blink_ms=value))
        self.auto_button.clicked.connect(control.find_limits)
        self.pair_button.clicked.connect(control.pair_again)
        self.fit_button.clicked.connect(self._on_fit)
        self.figure_button.clicked.connect(self._on_figure)
        for what, action in self.layer_actions.items():
            action.triggered.connect(lambda _=False, w=what: control.add_layer(w))
        for check, key in (
            (self.region_button, "drawing"), (self.region_box, "in_region"), (self.map_box, "map_shown"),
            (self.before_button, "before"), (self.rotation_box, "rotation"),
            (self.scale_box, "magnification"),
        ):  # fmt: skip
            check.toggled.connect(lambda on, k=key: control.choose(**{k: on}))
        self.clear_button.clicked.connect(control.clear_region)
        self.register_button.clicked.connect(control.register)
        self.overlay_button.clicked.connect(lambda: control.choose(mode="overlay", pair=("HDE", "LDE")))
        self.keep_button.clicked.connect(control.keep_moved)
        self.undo_button.clicked.connect(control.undo_moved)
        self.views.pointed.connect(control.point_at)
        self.views.marked.connect(control.mark_region)

    # ---- place

    def resizeEvent(self, event: Any) -> None:
        """Lay the parts beside or above each other, as there is room."""
        super().resizeEvent(event)
        self._share_width()

    def _share_width(self) -> None:
        is_wide = self.width() > _WIDE * self.height()
        kinds = QBoxLayout.Direction
        self._box.setDirection(kinds.LeftToRight if is_wide else kinds.TopToBottom)
        # nothing is cut off at the right
        bar = self._area.verticalScrollBar().sizeHint().width()
        self._area.setMinimumWidth(max(_SIDE_PX, self._side.minimumSizeHint().width() + bar))
        for part in (self._area, self.tabs):  # what width there is belongs to the views
            part.setMaximumWidth(part.minimumWidth() if is_wide else _ANY_PX)

    def _place_in_window(self) -> None:
        """Go below the canvas where the user had no other place for it: three views need the width."""
        self.setMinimumWidth(0)
        found = self._frame_and_window()
        if found is None or getattr(found[0], "name", "") in self._placed:
            super()._place_in_window()
            return
        frame, window = found
        window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, frame)

    def sizeHint(self) -> QSize:
        """Ask for the height that views worth looking at need."""
        return super().sizeHint().expandedTo(QSize(0, _HEIGHT_PX))

    # ---- files

    def _on_fit(self) -> None:
        self.views.camera.fit()
        self.views.show_marks()

    def _on_figure(self) -> None:
        path, kind = QFileDialog.getSaveFileName(self, "Save the figure", "comparison.png", _FIGURES)
        if path:
            ending = kind.partition("*")[2].rstrip(")") or ".png"
            seen = None if self.views.camera.zoom is None else self.views.visible()
            self.control.save_figure(Path(path) if Path(path).suffix else Path(path + ending), seen)

    # ---- the state

    def _show_state(self, *info: object) -> None:
        """Show the state; nothing else writes to the widgets."""
        state = self.control.state
        changed = info[0].signal.name if info and isinstance(info[0], EmissionInfo) else ""
        if changed == "cursor":
            self._show_cursor()
            self.views.show_marks()
            return
        extra = state.map if state.map_shown else None
        self.views.show_state(state, extra)
        self._show_cursor()
        if changed in ("pictures", "outlines", "is_fresh"):
            return
        self._show_choices()
        self._show_results()
        self._show_registration()
        show_message(self.message_label, state.message, state.is_error)

    def _show_cursor(self) -> None:
        state = self.control.state
        texts = cursor_texts(state)
        for role, label in self.value_labels.items():
            label.setText(f"{role}  {texts[role]}" if texts.get(role) else role if role in texts else "")
        self.value_labels["residual"].setVisible(state.map_shown and state.map is not None)
        self.position_label.setText(position_text(state) or "Point at a place to read its values.")

    def _show_choices(self) -> None:
        state = self.control.state
        layers = [(_NONE, ""), *((name, name) for name in state.layers)]
        for box, name in zip(self.role_boxes.values(), state.chosen, strict=True):
            show_choice(box, layers, name)
        show_choice(self.average_box, [(_frames(n), n) for n in state.averages], state.average)
        self.average_box.setEnabled(len(state.averages) > 1)
        show_choice(self.mode_box, None, state.mode)
        show_choice(self.contrast_box, None, state.shared)
        show_choice(self.histogram_box, None, state.scaled)
        for box, role in zip(self.pair_boxes, state.pair, strict=True):
            show_choice(box, None, role)
        self._show_row(self.pair_row, state.mode != "side")
        self._show_row(self.blink_box, state.mode == "blink")
        with QSignalBlocker(self.blink_box):
            self.blink_box.setValue(state.blink_ms)
        for box, value in zip(self.limit_boxes, state.limits, strict=True):
            with QSignalBlocker(box):
                box.setValue(value)
        self._show_row(self.limits_row, state.shared and " in all" in state.contrast_text)
        self.note.show_text(state.note)
        self.contrast_note.show_text(state.contrast_text)
        self._share_width()
        for button in (self.figure_button, self.fit_button, self.layer_button):
            button.setEnabled(state.field is not None)

    def _show_row(self, field: QWidget, on: bool) -> None:
        field.setVisible(on)
        self._form.labelForField(field).setVisible(on)

    def _show_results(self) -> None:
        state, found = self.control.state, self.control.state.found
        html = numbers_html(found)
        if self.numbers_label.text() != html:
            self.numbers_label.setText(html)
        self.numbers_label.setVisible(bool(html))
        has_others = bool(state.chosen[1] or state.chosen[2])
        self.numbers_note.show_text(numbers_note(found, bool(state.chosen[0]), has_others))
        self.region_note.show_text(region_text(state) if state.field is not None else "")
        for check, on in (
            (self.region_button, state.drawing), (self.region_box, state.in_region),
            (self.map_box, state.map_shown), (self.before_button, state.before),
            (self.rotation_box, state.rotation), (self.scale_box, state.magnification),
        ):  # fmt: skip
            with QSignalBlocker(check):
                check.setChecked(on)
        self.region_button.setEnabled(state.field is not None)
        self.clear_button.setEnabled(state.region is not None)
        self.region_box.setVisible(state.region is not None)
        text = found.residual_text if found is not None else ""
        self.residual_note.show_text(text or "The residual needs a low-dose image and its output.")
        self.map_box.setEnabled(state.map is not None)
        histograms = found.histograms.get(state.scaled, ()) if found is not None else ()
        self.plot.setVisible(bool(histograms))
        self.plot.show_histograms(histograms, state.scaled, self.control.viewer.theme)
        text = found.histogram_text.get(state.scaled, "") if found is not None else ""
        self.histogram_note.show_text(text or "Open an image to see its histogram.")

    def _show_registration(self) -> None:
        state = self.control.state
        both = picture_of(state, "HDE") is not None and picture_of(state, "LDE") is not None
        self.register_button.setEnabled(both and not state.registering)
        self.register_button.setText("Registering …" if state.registering else "Register HDE to LDE")
        moved = state.moved
        text = (
            "Finds how the high dose lies on the low dose, in nm."
            if both
            else ("Registration needs a high-dose and a low-dose image.")
        )
        if moved is not None:
            text = f"{moved.text} {'Accepted.' if moved.is_kept else 'Accept it, or undo.'}"
        self.moved_note.show_text(text)
        self.overlay_button.setEnabled(both)
        self.before_button.setEnabled(moved is not None)
        self.keep_button.setEnabled(moved is not None and not moved.is_kept)
        self.undo_button.setEnabled(moved is not None)

    def event(self, event: QEvent | None) -> bool:
        """Stop blinking while hidden."""
        kind = event.type() if event is not None and hasattr(self, "views") else None
        if kind == QEvent.Type.Hide:
            self.views.stop()
        elif kind == QEvent.Type.Show and self.is_open:
            self._show_state()
        return super().event(event)


def placed_by_user() -> frozenset[str]:
    """Names of docks whose place napari knows, from when they were open last."""
    from napari.settings import get_settings

    return frozenset(get_settings().application.plugin_widget_positions)


def _frames(n: int) -> str:
    return "this frame" if n == 1 else f"{n} frames"
