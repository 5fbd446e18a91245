"""The one layer that shows the current frame enhanced, and the job behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.widgets.enhance.preview import (
    EngineKey,
    FrameCache,
    FrameKey,
    PreviewEngine,
    PreviewFrame,
    PreviewRequest,
)
from napari_lowdose_tem.widgets.enhance.stack import free_memory_bytes
from napari_lowdose_tem.widgets.shared import layers
from napari_lowdose_tem.widgets.shared.models import model_time_ns
from napari_lowdose_tem.widgets.shared.source_tokens import SourceTokens
from napari_lowdose_tem.widgets.shared.viewer import add_image_unselected, frame_index
from napari_lowdose_tem.widgets.shared.worker import Job

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_CACHE_BYTES = 2**30
_AHEAD = 2  # frames enhanced ahead when the user steps or plays through the stack


class PreviewLayer:
    """Shows enhanced frames as soon as they are computed; the latest request wins.

    For a stack the layer is a stack of one frame, lying at that frame: where the frame shown is not yet
    enhanced one sees the source, never the enhancement of another frame.

    Parameters
    ----------
    viewer
        The viewer or its model.
    shown, failed
        Called with the frame just shown, or the error.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        shown: Callable[[PreviewFrame], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.layer: Layer | None = None
        self.tokens = SourceTokens()
        self._viewer, self._shown, self._failed = viewer, shown, failed
        self._engine = PreviewEngine()
        self._cache = FrameCache(min(_CACHE_BYTES, free_memory_bytes() // 8))
        self._source: Layer | None = None
        self._image: Image | None = None
        self._wanted: FrameKey | None = None
        self._shown_key: FrameKey | None = None
        self._job: Job | None = None
        self._running: PreviewRequest | None = None
        self._next: PreviewRequest | None = None
        self._is_on = False

    def show(self, source: Layer, image: Image, options: EngineOptions) -> bool:
        """Show the frame the viewer is at; return whether it was there already."""
        index = frame_index(self._viewer, source)
        before = self._wanted.frame if self._wanted is not None and source is self._source else index
        self._source, self._image, self._is_on = source, image, True
        request = PreviewRequest(
            image=image,
            source=self.tokens.of(source, layers.level0(source)),
            frames=(index, *_ahead(index, index - before, image.n_frames)),
            engine=EngineKey(options, model_time_ns(options.model)),
        )
        self._wanted = request.key(index)
        cached = self._cache.get(self._wanted)
        if cached is not None:
            self._put(cached)
        missing = tuple(i for i in request.frames if self._cache.get(request.key(i)) is None)
        if missing:
            self._ask(replace(request, frames=missing))
        return cached is not None

    def pause(self) -> None:
        """Stop computing and give the processor's memory back; the layer stays."""
        self._is_on, self._next = False, None
        if self._job is not None:
            self._engine.retire()
            self._job.cancel()
        else:
            self._engine.release()

    def stop(self) -> None:
        """Stop and remove the layer."""
        self.pause()
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def close(self) -> None:
        """Stop and forget the frames; the layer stays as it is."""
        self.pause()
        self._cache.clear()
        self.layer = self._source = self._image = None

    def _ask(self, request: PreviewRequest) -> None:
        if self._job is None:
            self._start(request)
        elif not self._job.is_cancelled and self._in_work() == request.key(request.frames[0]):
            self._next = None
        else:
            self._next = request
            self._job.cancel()

    def _in_work(self) -> FrameKey | None:
        """Key of the frame the job works on; None when it is through."""
        keys = map(self._running.key, self._running.frames) if self._running is not None else ()
        return next((key for key in keys if self._cache.get(key) is None), None)

    def _start(self, request: PreviewRequest) -> None:
        self._running, self._next = request, None
        job = self._job = Job(lambda: self._engine.iter_frames(request))
        job.progress.connect(self._on_progress)
        job.errored.connect(self._on_errored)
        job.finished.connect(self._on_ended)
        job.cancelled.connect(self._on_ended)
        job.start()

    def _on_progress(self, frame: PreviewFrame | None) -> None:
        if frame is None or self._running is None:
            return
        self._cache.add(frame)
        if self._is_on and frame.key == self._wanted:
            self._put(frame)

    def _on_errored(self, error: Exception) -> None:
        is_wanted = self._is_on and self._next is None
        self._on_ended()
        if is_wanted:
            self._failed(error)

    def _on_ended(self, last: object = None) -> None:
        self._job = self._running = None
        if self._next is not None and self._is_on:
            self._start(self._next)
        elif not self._is_on:
            self._engine.release()

    def _put(self, frame: PreviewFrame) -> None:
        source, image, viewer = self._source, self._image, self._viewer
        if source is None or image is None or source not in viewer.layers:
            return
        pixels = frame.pixels[None] if image.is_stack else frame.pixels
        shown = image.with_data(pixels, provenance=frame.provenance)
        at = frame.key.frame if image.is_stack else None
        if self.layer is not None and self.layer.ndim != pixels.ndim:
            viewer.layers.remove(self.layer)
            self.layer = None
        name = f"{source.name} enhanced (preview)"
        if self.layer is None:
            self.layer, self._shown_key = self._left_over(name, pixels.ndim), None
        if self.layer is None:
            made = layers.layer_tuple(shown, name, like=source, frame=at)
            self.layer = add_image_unselected(viewer, made)
        elif self._shown_key != frame.key:
            self.layer.data = pixels
            before = self._shown_key
            if before is None or (before.source, before.engine) != (frame.key.source, frame.key.engine):
                self.layer.contrast_limits = layers.limits_of(pixels)
                self.layer.name = name
        self._shown_key = frame.key
        layers.set_provenance(self.layer, shown)
        layers.place(self.layer, source, at)
        self._shown(frame)

    def _left_over(self, name: str, ndim: int) -> Layer | None:
        """Find the layer of a dock closed before."""
        layer = self._viewer.layers[name] if name in self._viewer.layers else None
        return layer if layer is not None and layers.is_output(layer) and layer.ndim == ndim else None


def _ahead(index: int, step: int, n_frames: int) -> tuple[int, ...]:
    """Return the frames to come when the viewer went by a step of one frame."""
    if abs(step) != 1:
        return ()
    return tuple(i for i in range(index + step, index + step * (_AHEAD + 1), step) if 0 <= i < n_frames)
