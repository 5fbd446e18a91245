"""The Compare dock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import EmissionInfo
from qtpy.QtCore import QEvent, QSignalBlocker, QSize, Qt
from qtpy.QtGui import QAction, QResizeEvent
from qtpy.QtWidgets import (
    QBoxLayout,
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QLabel,
    QMenu,
    QSizePolicy,
    QSpinBox,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_lowdose_tem.widgets.compare.control import CompareControl
from napari_lowdose_tem.widgets.compare.layout import (
    make_button,
    make_combo,
    make_form,
    make_page,
    make_row,
    show_checked,
)
from napari_lowdose_tem.widgets.compare.plot import HistogramPlot
from napari_lowdose_tem.widgets.compare.results_text import numbers_html, numbers_note
from napari_lowdose_tem.widgets.compare.state import (
    CONTRASTS,
    HISTOGRAMS,
    MODES,
    NO_RESIDUAL,
    ROLES,
    cursor_texts,
    picture_of,
    position_text,
    region_text,
)
from napari_lowdose_tem.widgets.compare.view import Views
from napari_lowdose_tem.widgets.shared.dock import Dock
from napari_lowdose_tem.widgets.shared.parts import Note, VerticalScrollArea, show_choice, show_message

if TYPE_CHECKING:
    from napari.viewer import Viewer

_NONE = "none"
_FIGURES = "PNG (*.png);;SVG (*.svg);;PDF (*.pdf)"
_LAYERS = {"HDE": "HDE on the LDE grid", "LDE": "Averaged LDE", "residual": "Residual (LDE − output)"}
_REGISTER = "Register HDE to LDE"
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
        self.numbers_label.setTextFormat(Qt.TextFormat.RichText)
        for label in (self.numbers_label, self.message_label):
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.message_label.setWordWrap(True)
        for label in (*self.value_labels.values(), self.position_label):
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.note, self.contrast_note, self.numbers_note, self.region_note = (Note() for _ in range(4))
        self.residual_note, self.histogram_note, self.registration_note = (Note() for _ in range(3))
        self._make_choices()
        self._make_result_widgets()

    def _make_choices(self) -> None:
        roles = {role: role for role in ROLES}
        self.role_boxes = {role: make_combo({}) for role in ROLES}
        self.average_box = make_combo({}, "Averages this many low-dose frames around the one shown")
        self.mode_box = make_combo(MODES, "Swipe, blink and overlay show two of the images in one large view")
        self.pair_boxes = make_combo(roles), make_combo(roles)
        self.contrast_box = make_combo(CONTRASTS)
        self.blink_box = QSpinBox()
        self.blink_box.setRange(100, 5000)
        self.blink_box.setSingleStep(100)
        self.blink_box.setSuffix(" ms")
        self.limit_boxes = QDoubleSpinBox(), QDoubleSpinBox()
        for box, name in zip(self.limit_boxes, ("black", "white"), strict=True):
            box.setRange(-1e9, 1e9)
            box.setDecimals(1)
            box.setKeyboardTracking(False)
            box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
            box.setMinimumWidth(40)
            box.setToolTip(f"Counts shown {name}")
        self.auto_button = make_button("Auto", "Chooses the limits from the frames shown now")
        self.fit_button = make_button("Show all", "Shows the whole field, as a double click in a view does")
        self.choose_button = make_button("Choose layers", "Chooses the layers by provenance, size and name")
        self.figure_button = make_button(
            "Save figure …", "Saves the views with scale bars as PNG, SVG or PDF"
        )
        self.layer_button = QToolButton()
        self.layer_button.setText("Add layer")
        self.layer_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.layer_button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        menu = QMenu(self.layer_button)
        self.layer_actions = {what: QAction(text, menu) for what, text in _LAYERS.items()}
        menu.addActions(list(self.layer_actions.values()))
        self.layer_button.setMenu(menu)

    def _make_result_widgets(self) -> None:
        self.region_button = make_button(
            "Draw region", "Drag in any view; the region is a Shapes layer that can be edited", checkable=True
        )
        self.clear_button = make_button("Clear region")
        self.region_box = QCheckBox("Numbers inside the region only")
        self.residual_box = QCheckBox("Show LDE − output in a view of its own")
        self.histogram_box = make_combo(HISTOGRAMS)
        self.plot = HistogramPlot()
        self.register_button = make_button(_REGISTER, "Aligns the HDE with the LDE; changes no layer")
        self.rotation_box, self.magnification_box = QCheckBox("and rotation"), QCheckBox("and magnification")
        self.before_button = make_button("Before", "Shows the HDE as it lay before", checkable=True)
        self.overlay_button = make_button(
            "Overlay", "HDE green and LDE magenta in one view: grey where both agree"
        )
        self.accept_button = make_button(
            "Accept", "Stores the registration in the metadata of the HDE layer; the layer is not moved"
        )
        self.undo_button = make_button("Undo")

    def _lay_out(self) -> None:
        self._side = QWidget()
        left = QVBoxLayout(self._side)
        left.setContentsMargins(0, 0, 4, 0)
        self.pair_row, self.limits_row = (
            make_row(*self.pair_boxes),
            make_row(*self.limit_boxes, self.auto_button),
        )
        self._form = make_form(
            *self.role_boxes.items(), ("LDE mean of", self.average_box), ("", self.note),
            ("View", self.mode_box), ("Images", self.pair_row), ("Blink every", self.blink_box),
            ("Contrast", self.contrast_box), ("Limits", self.limits_row), ("", self.contrast_note),
        )  # fmt: skip
        left.addLayout(self._form)
        left.addWidget(make_row(self.fit_button, self.choose_button))
        left.addWidget(make_row(self.figure_button, self.layer_button))
        left.addWidget(self.message_label)
        left.addStretch(1)
        middle = QWidget()
        center = QVBoxLayout(middle)
        center.setContentsMargins(0, 0, 0, 0)
        center.setSpacing(2)
        center.addWidget(self.views, 1)
        center.addWidget(make_row(*self.value_labels.values()))
        center.addWidget(self.position_label)
        self._area = VerticalScrollArea(self._side)
        self._box = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._box.setContentsMargins(4, 2, 4, 2)
        for part, stretch in ((self._area, 0), (middle, 1), (self._make_tabs(), 0)):
            self._box.addWidget(part, stretch)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def _make_tabs(self) -> QTabWidget:
        self.tabs = QTabWidget()
        self.tabs.setMinimumWidth(_RESULTS_PX)
        for name, page in (
            ("Numbers", make_page(
                self.numbers_label, self.numbers_note, make_row(self.region_button, self.clear_button),
                self.region_note, self.region_box)),
            ("Residual", make_page(self.residual_box, self.residual_note)),
            ("Histograms", make_page(self.histogram_box, self.plot, self.histogram_note)),
            ("Register", make_page(
                self.register_button, make_row(self.rotation_box, self.magnification_box),
                self.registration_note, make_row(self.before_button, self.overlay_button),
                make_row(self.accept_button, self.undo_button))),
        ):  # fmt: skip
            self.tabs.addTab(page, name)
        return self.tabs

    def _connect(self) -> None:
        control = self.control
        for role, box in self.role_boxes.items():
            box.activated.connect(lambda i, r=role, b=box: control.choose_layer(r, b.itemData(i)))
        for which, box in enumerate(self.pair_boxes):
            box.activated.connect(lambda i, w=which, b=box: control.choose_pair(w, b.itemData(i)))
        for box, set_value in (
            (self.average_box, control.set_average), (self.mode_box, control.set_mode),
            (self.contrast_box, control.share_limits), (self.histogram_box, control.scale_histograms),
        ):  # fmt: skip
            box.activated.connect(lambda i, b=box, f=set_value: f(b.itemData(i)))
        for limit_box in self.limit_boxes:
            limit_box.valueChanged.connect(
                lambda _: control.set_limits(*(b.value() for b in self.limit_boxes))
            )
        for check, set_on in (
            (self.region_button, control.draw_region), (self.region_box, control.set_in_region),
            (self.residual_box, control.show_residual), (self.before_button, control.show_unregistered),
            (self.rotation_box, control.set_rotation), (self.magnification_box, control.set_magnification),
        ):  # fmt: skip
            check.toggled.connect(set_on)
        for button, slot in (
            (self.auto_button, control.find_limits), (self.choose_button, control.choose_automatically),
            (self.fit_button, self._on_fit), (self.figure_button, self._on_figure),
            (self.clear_button, control.clear_region), (self.register_button, control.register),
            (self.overlay_button, control.show_overlay), (self.accept_button, control.accept_registration),
            (self.undo_button, control.undo_registration),
        ):  # fmt: skip
            button.clicked.connect(lambda _=False, f=slot: f())
        for what, action in self.layer_actions.items():
            action.triggered.connect(lambda _=False, w=what: control.add_layer(w))
        self.blink_box.valueChanged.connect(control.set_blink_ms)
        self.views.pointed.connect(control.point_at)
        self.views.marked.connect(control.mark_region)

    # ---- place

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Lay the parts beside or above each other, as there is room."""
        super().resizeEvent(event)
        self._share_width()

    def _share_width(self) -> None:
        is_wide = self.width() > _WIDE * self.height()
        kinds = QBoxLayout.Direction
        self._box.setDirection(kinds.LeftToRight if is_wide else kinds.TopToBottom)
        # nothing is cut off at the right
        bar = self._area.verticalScrollBar()
        bar_px = bar.sizeHint().width() if bar is not None else 0
        self._area.setMinimumWidth(max(_SIDE_PX, self._side.minimumSizeHint().width() + bar_px))
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
        path, kind = QFileDialog.getSaveFileName(self, "Save figure", "comparison.png", _FIGURES)
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
        extra = state.residual_picture if state.residual_shown else None
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
        self.value_labels["residual"].setVisible(state.residual_shown and state.residual_picture is not None)
        self.position_label.setText(position_text(state) or "Move the mouse over a view to read values.")

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
        self._form.setRowVisible(self.pair_row, state.mode != "side")
        self._form.setRowVisible(self.blink_box, state.mode == "blink")
        self._form.setRowVisible(self.limits_row, state.limits_are_shared)
        with QSignalBlocker(self.blink_box):
            self.blink_box.setValue(state.blink_ms)
        for limit_box, value in zip(self.limit_boxes, state.limits, strict=True):
            with QSignalBlocker(limit_box):
                limit_box.setValue(value)
        self.note.show_text(state.note)
        self.contrast_note.show_text(state.contrast_text)
        self._share_width()
        for button in (self.figure_button, self.fit_button, self.layer_button):
            button.setEnabled(state.field is not None)

    def _show_results(self) -> None:
        state, results = self.control.state, self.control.state.results
        html = numbers_html(results)
        if self.numbers_label.text() != html:
            self.numbers_label.setText(html)
        self.numbers_label.setVisible(bool(html))
        has_others = bool(state.chosen[1] or state.chosen[2])
        self.numbers_note.show_text(numbers_note(results, bool(state.chosen[0]), has_others))
        self.region_note.show_text(region_text(state) if state.field is not None else "")
        show_checked(self.region_button, state.drawing)
        show_checked(self.region_box, state.in_region)
        show_checked(self.residual_box, state.residual_shown)
        self.region_button.setEnabled(state.field is not None)
        self.clear_button.setEnabled(state.region is not None)
        self.region_box.setVisible(state.region is not None)
        text = results.residual_text if results is not None else ""
        self.residual_note.show_text(text or NO_RESIDUAL)
        self.residual_box.setEnabled(state.residual_picture is not None)
        histograms = results.histograms.get(state.scaled, ()) if results is not None else ()
        self.plot.setVisible(bool(histograms))
        self.plot.show_histograms(histograms, state.scaled, self.control.viewer.theme)
        text = results.histogram_text.get(state.scaled, "") if results is not None else ""
        self.histogram_note.show_text(text or "Open an image to see its histogram.")

    def _show_registration(self) -> None:
        state, alignment = self.control.state, self.control.state.alignment
        has_both = picture_of(state, "HDE") is not None and picture_of(state, "LDE") is not None
        text = "Finds how the high dose lies on the low dose."
        if alignment is not None:
            text = f"{alignment.text} {'Accepted.' if alignment.is_accepted else 'Accept it, or undo it.'}"
        elif not has_both:
            text = "Registration needs a high-dose and a low-dose image."
        self.registration_note.show_text(text)
        self.register_button.setText("Registering …" if state.registering else _REGISTER)
        self.register_button.setEnabled(has_both and not state.registering)
        self.overlay_button.setEnabled(has_both)
        self.accept_button.setEnabled(alignment is not None and not alignment.is_accepted)
        for button in (self.before_button, self.undo_button):
            button.setEnabled(alignment is not None)
        show_checked(self.before_button, state.unregistered)
        show_checked(self.rotation_box, state.rotation)
        show_checked(self.magnification_box, state.magnification)

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
    return "1 frame" if n == 1 else f"{n} frames"
