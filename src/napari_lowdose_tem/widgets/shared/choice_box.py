"""Boxes to choose from, no wider than the dock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog

from napari_lowdose_tem.network.model_file import SUFFIX
from napari_lowdose_tem.widgets.shared.parts import show_choice

_CHOOSE_FILE = "Choose a model file …"


class ChoiceBox(QComboBox):
    """Shows a value of the state, and asks for another by `chosen`.

    Parameters
    ----------
    items
        Texts by value, where they are always the same.
    """

    chosen = Signal(object)

    def __init__(self, items: Mapping[str, str] | Mapping[bool, str] | None = None) -> None:
        super().__init__()
        # long names must not widen the dock
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        for value, text in (items or {}).items():
            self.addItem(text, value)
        self._shown: object = None
        self.activated.connect(self._on_activated)

    def show_value(self, value: object, items: Sequence[tuple[str, object]] | None = None) -> None:
        """Show a value, among new (text, value) items if given; `chosen` stays silent."""
        self._shown = value
        show_choice(self, items, value)

    def _on_activated(self, index: int) -> None:
        value = self._complete(self.itemData(index))
        if value is not None:
            self.chosen.emit(value)
        show_choice(self, None, self._shown)  # what the control made of it

    def _complete(self, value: object) -> object:
        """Return the value to choose, None for none; the place to ask for a file."""
        return value


class ModelBox(ChoiceBox):
    """Models, and any model file; `chosen` carries the path."""

    def show_models(
        self, models: Sequence[tuple[str, str]], path: str, others: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Show (path, label) of models, then other (text, value) items."""
        self.show_value(path, [*((label, key) for key, label in models), *others, (_CHOOSE_FILE, None)])

    def _complete(self, value: object) -> object:
        if value is not None:
            return value
        path, _ = QFileDialog.getOpenFileName(self, "Choose a model", "", f"Models (*{SUFFIX})")
        return path or None
