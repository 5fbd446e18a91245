"""The high dose aligned with the low dose: found in a job, shown, then accepted or undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_lowdose_tem.widgets.compare.grid_frame import Grid, GridFrame, resample_to_grid
from napari_lowdose_tem.widgets.compare.state import Alignment, CompareState
from napari_lowdose_tem.widgets.shared.latest_request import LatestRequest
from napari_lowdose_tem.widgets.shared.layers import KEY
from napari_lowdose_tem.widgets.shared.worker import error_line

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_lowdose_tem.pairs import Similarity

_ENTRY = "registered"


@dataclass(frozen=True, eq=False)
class RegistrationRequest:
    """The high dose, and the low-dose frame to align it with."""

    high: GridFrame
    low: GridFrame
    grid: Grid
    rotation: bool = False
    magnification: bool = False


def iter_registration(request: RegistrationRequest) -> Iterator[Alignment]:
    """Find how the high dose lies on the low dose.

    Raises
    ------
    ValueError
        When they are not of one field, or that cannot be told.
    """
    from napari_lowdose_tem.pairs.similarity import register_similarity

    high, low = (resample_to_grid(frame, request.grid) for frame in (request.high, request.low))
    found = register_similarity(high, low, rotation=request.rotation, scale=request.magnification)
    if found.refused:
        raise ValueError(f"Not registered: the low-dose frame {found.refused}")
    yield Alignment(found, describe(found, request.grid.pixel_size_nm))


def describe(found: Similarity, pixel_size_nm: tuple[float, float] | None) -> str:
    """Say in a line how the high dose was shifted, turned and magnified."""
    row, col = found.shift_px
    text = f"y {row:+.2f} px, x {col:+.2f} px"
    if pixel_size_nm is not None:
        row_nm, col_nm = row * pixel_size_nm[0], col * pixel_size_nm[1]
        text = f"y {row_nm:+.1f} nm, x {col_nm:+.1f} nm ({row:+.2f} px, {col:+.2f} px)"
    if found.shift_se_px < 10:
        text += f" ± {found.shift_se_px:.2f} px"
    if found.rotation_deg:
        text += f"; rotation {found.rotation_deg:+.2f}° (anticlockwise)"
    if found.scale != 1:
        text += f"; magnification × {found.scale:.4f}"
    return f"Shift {text}; confidence {found.confidence:.2f}.".replace("-", "−")


class RegistrationRun:
    """Registers, and keeps what was accepted in the layer's metadata; the layer itself is not moved.

    Parameters
    ----------
    state
        Of the dock.
    changed
        Called when the high dose is to be shown elsewhere.
    """

    def __init__(self, state: CompareState, changed: Callable[[], None]) -> None:
        self._state, self._changed = state, changed
        self._run: LatestRequest[RegistrationRequest] = LatestRequest(
            iter_registration, self._on_found, self._on_failed
        )
        self._compared: tuple[Layer | None, Layer | None, tuple[int, int] | None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the job runs."""
        return self._run.is_busy

    def start(self, high: GridFrame, low: GridFrame, grid: Grid) -> None:
        """Find how the high dose lies."""
        state = self._state
        state.registering = True
        self._run.ask(RegistrationRequest(high, low, grid, state.rotation, state.magnification))

    def cancel(self) -> None:
        """Stop the job."""
        self._run.cancel()
        self._state.registering = False

    def follow(self, high: Layer | None, low: Layer | None, shape: tuple[int, int] | None) -> None:
        """Take over the alignment that the layer remembers, when other images are compared."""
        if self._compared != (high, low, shape):
            self._compared = high, low, shape
            self._run.cancel()
            self._set(_recall(high, low, shape))

    def accept(self, high: Layer, low: str) -> None:
        """Accept it; the high-dose layer remembers."""
        alignment = self._state.alignment
        if alignment is None:
            return
        found = alignment.similarity
        entry = {
            "to": low, "shape": list(found.shape), "shift_px": list(found.shift_px),
            "rotation_deg": found.rotation_deg, "scale": found.scale, "confidence": found.confidence,
            "text": alignment.text,
        }  # fmt: skip
        ours = high.metadata.get(KEY, {})
        high.metadata = {**high.metadata, KEY: {**ours, _ENTRY: entry}}
        self._set(replace(alignment, is_accepted=True))
        self._changed()

    def undo(self, high: Layer | None) -> None:
        """Show the high dose where it lay before, and forget."""
        self._run.cancel()
        if high is not None and _ENTRY in high.metadata.get(KEY, {}):
            ours = {key: value for key, value in high.metadata[KEY].items() if key != _ENTRY}
            high.metadata = {**high.metadata, KEY: ours}
        self._set(None)
        self._changed()

    def _set(self, alignment: Alignment | None) -> None:
        self._state.registering = self._state.unregistered = False
        self._state.alignment = alignment

    def _on_found(self, alignment: Alignment) -> None:
        self._set(alignment)
        self._changed()

    def _on_failed(self, request: RegistrationRequest, error: Exception) -> None:
        self._state.registering = False
        self._state.report(error_line(error), is_error=True)


def _recall(high: Layer | None, low: Layer | None, shape: tuple[int, int] | None) -> Alignment | None:
    entry = high.metadata.get(KEY, {}).get(_ENTRY) if high is not None else None
    if low is None or not entry or tuple(entry["shape"]) != shape:
        return None
    from napari_lowdose_tem.pairs.similarity import Similarity

    found = Similarity(
        tuple(entry["shift_px"]), entry["rotation_deg"], entry["scale"], entry["confidence"],
        shape=tuple(entry["shape"]),
    )  # fmt: skip
    return Alignment(found, entry["text"], is_accepted=True)
