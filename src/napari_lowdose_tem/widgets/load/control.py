"""What the Load dock does: reads in a job, shows and corrects the calibration of the selected layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.load.state import NO_LAYER, LoadState, size_and_type
from napari_lowdose_tem.widgets.shared.layers import image_from_layer, is_output, set_calibration, why_not
from napari_lowdose_tem.widgets.shared.viewer import add_image, viewer_itself
from napari_lowdose_tem.widgets.shared.worker import Job, error_line

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class LoadControl:
    """Between viewer, state and jobs; lives on the GUI thread and knows no widget.

    Parameters
    ----------
    viewer
        The viewer or its model.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer = viewer_itself(viewer)
        self.state = LoadState()
        self._layer: Layer | None = None
        self._reading: Job | None = None
        self._measuring: Job | None = None
        viewer.layers.selection.events.active.connect(self._on_active)
        self._on_active()

    def close(self) -> None:
        """End jobs and leave the viewer alone; for when the dock goes."""
        self.viewer.layers.selection.events.active.disconnect(self._on_active)
        self._watch(None)
        for job in (self._reading, self._measuring):
            if job is not None:
                job.cancel()

    def load(self, paths: Sequence[str | Path]) -> None:
        """Read files and folders into layers."""
        if not paths or self.state.loading:
            return
        dark = self.state.dark_reference
        from napari_lowdose_tem.widgets.load.read_layers import iter_layers

        # in a job: reading, and the first look at the pixels, take long from a network drive
        job = self._reading = Job(lambda: iter_layers(paths, dark))
        job.progress.connect(lambda layer: add_image(self.viewer, layer))
        job.finished.connect(lambda _: self._end_loading())
        job.cancelled.connect(lambda _: self._end_loading())
        job.errored.connect(self._on_errored)
        self.state.report("")
        self.state.loading = True
        job.start()

    def set_dark_reference(self, path: Path | None) -> None:
        """Subtract a dark reference from everything loaded from now on; None for none."""
        self.state.dark_reference = path

    def calibrate(self, pixel_size_nm: tuple[float, float] | None, counts_per_electron: float | None) -> None:
        """Correct the layer's pixel size [nm/px] and gain [counts/e-]; None makes it unknown."""
        if self._layer is None or not self.state.layer_ok:
            return
        try:
            set_calibration(self._layer, pixel_size_nm, counts_per_electron)
        except ValueError as error:
            self.state.report(error_line(error), is_error=True)
            return
        self._show_layer()
        self.state.report(f"Applied to “{self._layer.name}”.")

    def _on_errored(self, error: Exception) -> None:
        self._end_loading()
        self.state.report(error_line(error), is_error=True)

    def _end_loading(self) -> None:
        self._reading = None
        self.state.loading = False

    def _on_active(self, event: object = None) -> None:
        self._watch(self.viewer.layers.selection.active)
        self.state.report("")
        self._show_layer()

    def _watch(self, layer: Layer | None) -> None:
        for watched, name in ((self._layer, "disconnect"), (layer, "connect")):
            if watched is not None:
                for event in (watched.events.scale, watched.events.units, watched.events.name):
                    getattr(event, name)(self._show_layer)
        self._layer = layer

    def _show_layer(self, event: object = None) -> None:
        if self._measuring is not None:
            self._measuring.cancel()  # or the dose of the layer before is shown for this one
        state, layer = self.state, self._layer
        reason = NO_LAYER if layer is None else why_not(layer)
        state.layer = layer.name if layer is not None else ""
        state.dose_e_per_px = state.mean_counts = None
        if reason:
            state.pixel_size_nm = state.counts_per_electron = state.frame_time_s = None
            state.text, state.layer_ok = reason, False
            return
        image = image_from_layer(layer)
        state.text, state.layer_ok = size_and_type(image), True
        state.pixel_size_nm = image.pixel_size_nm
        state.counts_per_electron = image.counts_per_electron
        state.frame_time_s = image.frame_time_s
        if not is_output(layer):
            self._measure(image)

    def _measure(self, image: Image) -> None:
        job = self._measuring = Job(lambda: _iter_mean(image))

        def show(mean: float) -> None:
            self.state.mean_counts = mean
            if image.counts_per_electron is not None:
                self.state.dose_e_per_px = mean / image.counts_per_electron

        job.progress.connect(show)
        job.errored.connect(lambda error: self.state.report(error_line(error), is_error=True))
        job.start()


def _iter_mean(image: Image) -> Iterator[float]:
    middle = image.n_frames // 2
    frame = image.frames(middle, middle + 1)
    yield float(np.mean(frame, dtype=np.float64, where=np.isfinite(frame)))
