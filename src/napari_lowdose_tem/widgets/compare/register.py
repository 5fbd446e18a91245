"""The high dose laid on the low dose: found in a job, shown, then kept or undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.widgets.compare.jobs import Grid, Item, bring
from napari_lowdose_tem.widgets.compare.state import CompareState, Moved
from napari_lowdose_tem.widgets.shared import layers as _layers
from napari_lowdose_tem.widgets.shared.latest_request import LatestRequest
from napari_lowdose_tem.widgets.shared.worker import error_line

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_lowdose_tem.pairs import Similarity

_ENTRY = "registered"


@dataclass(frozen=True, eq=False)
class RegisterRequest:
    """The high dose, and the low-dose frame it is to lie on."""

    high: Item
    low: Item
    grid: Grid
    rotation: bool = False
    scale: bool = False


def iter_registration(request: RegisterRequest) -> Iterator[Moved]:
    """Find how the high dose lies on the low dose.

    Raises
    ------
    ValueError
        When they are not of one field, or that cannot be told.
    """
    from napari_lowdose_tem.pairs.similarity import register_similarity

    high, low = (bring(item, request.grid) for item in (request.high, request.low))
    found = register_similarity(high, low, rotation=request.rotation, scale=request.scale)
    if found.refused:
        raise ValueError(f"Not registered: the low-dose frame {found.refused}")
    yield Moved(found, describe(found, request.grid[1]))


def describe(found: Similarity, size_nm: tuple[float, float] | None) -> str:
    """Say in a sentence how far the high dose was moved."""
    row, col = found.shift_px
    text = f"{row:+.2f} rows, {col:+.2f} columns"
    if size_nm is not None:
        text = f"{row * size_nm[0]:+.1f} nm down, {col * size_nm[1]:+.1f} nm to the right ({text})"
    if found.rotation_deg:
        text += f"; turned by {found.rotation_deg:+.2f}° (anticlockwise)"
    if found.scale != 1:
        text += f"; magnified × {found.scale:.4f}"
    if found.shift_se_px < 10:
        text += f"; known to ± {found.shift_se_px:.2f} px"
    text = text.replace("-", "−")
    return f"Moved by {text}; confidence {found.confidence:.2f}."


class Registering:
    """Registers, and remembers in the layer's metadata what was accepted; the layer itself is not moved.

    Parameters
    ----------
    state
        Of the dock.
    changed
        Called when the high dose is to be shown elsewhere.
    """

    def __init__(self, state: CompareState, changed: Callable[[], None]) -> None:
        self._state, self._changed = state, changed
        self._run: LatestRequest[RegisterRequest] = LatestRequest(
            iter_registration, self._on_moved, self._on_failed
        )
        self._taken: tuple[Any, ...] = ()

    @property
    def is_busy(self) -> bool:
        """Whether the job runs."""
        return self._run.is_busy

    def start(self, high: Item, low: Item, grid: Grid) -> None:
        """Find where the high dose lies."""
        state = self._state
        state.registering = True
        self._run.ask(RegisterRequest(high, low, grid, state.rotation, state.magnification))

    def cancel(self) -> None:
        """Stop the job."""
        self._run.cancel()
        self._state.registering = False

    def take(self, high: Layer | None, low: Layer | None, shape: tuple[int, int] | None) -> None:
        """Take over what the layer remembers, when other images are compared."""
        if self._taken == (high, low, shape):
            return
        self._taken = high, low, shape
        self._run.cancel()
        self._state.registering = self._state.before = False
        self._state.moved = _recall(high, low, shape)

    def keep(self, high: Layer, low: str) -> None:
        """Accept it; the high-dose layer remembers."""
        moved = self._state.moved
        if moved is None:
            return
        found = moved.similarity
        entry = {
            "to": low, "shape": list(found.shape), "shift_px": list(found.shift_px),
            "rotation_deg": found.rotation_deg, "scale": found.scale, "confidence": found.confidence,
            "text": moved.text,
        }  # fmt: skip
        ours = high.metadata.get(_layers.KEY, {})
        high.metadata = {**high.metadata, _layers.KEY: {**ours, _ENTRY: entry}}
        self._state.before = False
        self._state.moved = replace(moved, is_kept=True)
        self._changed()

    def undo(self, high: Layer | None) -> None:
        """Show the high dose where it lay before, and forget."""
        self._run.cancel()
        if high is not None and _ENTRY in high.metadata.get(_layers.KEY, {}):
            ours = {key: value for key, value in high.metadata[_layers.KEY].items() if key != _ENTRY}
            high.metadata = {**high.metadata, _layers.KEY: ours}
        self._state.registering = self._state.before = False
        self._state.moved = None
        self._changed()

    def _on_moved(self, moved: Moved) -> None:
        self._state.registering = self._state.before = False
        self._state.moved = moved
        self._changed()

    def _on_failed(self, request: RegisterRequest, error: Exception) -> None:
        self._state.registering = False
        self._state.is_error = True
        self._state.message = error_line(error)


def _recall(high: Layer | None, low: Layer | None, shape: tuple[int, int] | None) -> Moved | None:
    entry = high.metadata.get(_layers.KEY, {}).get(_ENTRY) if high is not None else None
    if low is None or not entry or tuple(entry["shape"]) != shape:
        return None
    from napari_lowdose_tem.pairs.similarity import Similarity

    found = Similarity(
        tuple(entry["shift_px"]), entry["rotation_deg"], entry["scale"], entry["confidence"],
        shape=tuple(entry["shape"]),
    )  # fmt: skip
    return Moved(found, entry["text"], is_kept=True)
