"""Jobs of the Line profile dock: frames read, profiles fitted, lines followed over time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.measure.measurement import FitOptions, Measurement
from napari_lowdose_tem.measure.profile import Line, Profile
from napari_lowdose_tem.measure.sphere_window import SphereFit
from napari_lowdose_tem.widgets.enhance.preview import SourceTokens
from napari_lowdose_tem.widgets.shared import layers as _layers
from napari_lowdose_tem.widgets.shared.worker import Job, Later, error_line

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

R = TypeVar("R")

_CACHE_BYTES = 2**29


class Newest(Generic[R]):
    """One job at a time; of the requests that come meanwhile the newest waits, the others are forgotten.

    Parameters
    ----------
    run
        Makes the job's generator from a request.
    progress
        Called with what the job yields.
    failed
        Called with the request and what the job ended with.
    pause_ms
        Time between two jobs, that the viewer needs to stay smooth while a job computes.
    """

    def __init__(
        self,
        run: Callable[[R], Iterator[Any]],
        progress: Callable[[Any], None],
        failed: Callable[[R, Exception], None],
        pause_ms: int = 0,
    ) -> None:
        self._run, self._progress, self._failed = run, progress, failed
        self._job: Job | None = None
        self._next: R | None = None
        self._pause_ms = pause_ms
        self._pause = Later(self._go_on, pause_ms)

    @property
    def is_busy(self) -> bool:
        """Whether a job runs."""
        return self._job is not None

    def ask(self, request: R) -> None:
        """Run it, at once or when the job in work has ended."""
        if self._job is not None or self._pause.is_waiting:
            self._next = request
        else:
            self._start(request)

    def cancel(self) -> None:
        """Forget what waits and stop what runs."""
        self._next = None
        self._pause.cancel()
        if self._job is not None:
            self._job.cancel()

    def _start(self, request: R) -> None:
        self._next = None
        job = self._job = Job(lambda: self._run(request))
        job.progress.connect(self._progress)
        job.errored.connect(lambda error: self._on_errored(request, error))
        job.finished.connect(self._on_ended)
        job.cancelled.connect(self._on_ended)
        job.start()

    def _on_errored(self, request: R, error: Exception) -> None:
        self._failed(request, error)
        self._on_ended()

    def _on_ended(self, last: Any = None) -> None:
        self._job = None
        if self._pause_ms:
            self._pause.ask()
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self._next is not None:
            self._start(self._next)


@dataclass(frozen=True, eq=False)
class FitItem:
    """A profile to measure; `raw` is the raw frame of an enhanced one, else `raw_noise` its noise."""

    role: str
    profile: Profile
    options: FitOptions
    raw: npt.NDArray[Any] | None = None
    raw_noise: float | None = None


@dataclass(frozen=True, eq=False)
class CountsItem:
    """A raw frame to be fitted by its counts; `clearer` is a frame and line of the same place to begin at."""

    pixels: npt.NDArray[Any]
    line: Line
    pixel_size_nm: tuple[float, float] | None
    counts_per_electron: float | None
    clearer: tuple[npt.NDArray[Any], Line] | None = None


@dataclass(frozen=True, eq=False)
class FitRequest:
    """Profiles to measure, one after the other, and then perhaps the raw counts."""

    items: tuple[FitItem, ...]
    counts: CountsItem | None = None


class Fitter:
    """Measures profiles; for one job at a time."""

    def __init__(self) -> None:
        self._noise: tuple[npt.NDArray[Any] | None, float | None] = None, None

    def iter_fits(
        self, request: FitRequest
    ) -> Iterator[tuple[FitItem, Measurement] | tuple[CountsItem, SphereFit]]:
        """Measure the profiles, then the counts."""
        from napari_lowdose_tem.measure import fit_profile

        for item in request.items:
            noise = item.raw_noise if item.raw is None else self._noise_of(item.raw)
            yield item, fit_profile(item.profile, item.options, noise)
        if request.counts is not None:
            yield request.counts, _fit_counts(request.counts)

    def _noise_of(self, raw: npt.NDArray[Any]) -> float | None:
        from napari_lowdose_tem.measure import measure_raw_noise

        if not is_same(raw, self._noise[0]):
            try:
                self._noise = raw, measure_raw_noise(raw)
            except ValueError:
                self._noise = raw, None
        return self._noise[1]


def _fit_counts(item: CountsItem) -> SphereFit:
    from napari_lowdose_tem.measure import fit_counts, fit_sphere

    try:
        start = None
        if item.clearer is not None:
            pixels, line = item.clearer
            start = fit_sphere(pixels, line, item.pixel_size_nm)
        return fit_counts(item.pixels, item.line, item.pixel_size_nm, item.counts_per_electron, start=start)
    except ValueError as error:
        return SphereFit("nm" if item.pixel_size_nm else "px", refused=error_line(error))


def is_same(one: npt.NDArray[Any], other: npt.NDArray[Any] | None) -> bool:
    """Whether two views show the same pixels of one array."""
    if other is None:
        return False
    a, b = one.__array_interface__, other.__array_interface__
    return all(a[key] == b[key] for key in ("data", "shape", "strides", "typestr"))


# ---- frames


@dataclass(frozen=True, eq=False)
class _FrameRequest:
    image: Image
    frame: int
    key: Hashable


class Frames:
    """The frames shown, as arrays: those in memory at once, others after a job has read them.

    Parameters
    ----------
    viewer
        The viewer's model.
    loaded
        Called when a frame that was asked for is there, or cannot be read.
    """

    def __init__(self, viewer: ViewerModel, loaded: Callable[[], None]) -> None:
        self._viewer, self._loaded = viewer, loaded
        self._tokens = SourceTokens()
        self._cache: OrderedDict[Hashable, npt.NDArray[Any]] = OrderedDict()
        self._errors: dict[Hashable, str] = {}
        self._jobs: dict[Layer, Newest[_FrameRequest]] = {}

    def get(self, layer: Layer, image: Image, frame: int) -> npt.NDArray[Any] | None:
        """Frame (rows, columns), or None until it is read.

        Raises
        ------
        ValueError
            When it cannot be read.
        """
        if not image.is_lazy:
            return np.asarray(image.data[frame] if image.is_stack else image.data)
        key = self._tokens.of(layer, _layers.level0(layer)), frame
        if key in self._errors:
            raise ValueError(self._errors[key])
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        if layer not in self._jobs:
            self._jobs[layer] = Newest(_iter_frame, self._on_read, self._on_failed)
        self._jobs[layer].ask(_FrameRequest(image, frame, key))
        return None

    def forget(self, layer: Layer) -> None:
        """Its pixels have changed."""
        self._tokens.changed(layer)

    def close(self) -> None:
        """Stop reading."""
        for job in self._jobs.values():
            job.cancel()
        self._jobs.clear()
        self._cache.clear()

    def _on_read(self, read: tuple[_FrameRequest, npt.NDArray[Any]]) -> None:
        request, pixels = read
        self._cache[request.key] = pixels
        while len(self._cache) > 1 and sum(p.nbytes for p in self._cache.values()) > _CACHE_BYTES:
            self._cache.popitem(last=False)
        self._loaded()

    def _on_failed(self, request: _FrameRequest, error: Exception) -> None:
        self._errors[request.key] = error_line(error)
        self._loaded()


def _iter_frame(request: _FrameRequest) -> Iterator[tuple[_FrameRequest, npt.NDArray[Any]]]:
    yield request, request.image.frames(request.frame, request.frame + 1)[0]


# ---- layers


def is_stretched(pixels: npt.NDArray[Any]) -> bool:
    """Whether a frame was stretched to 0…1, so that zero no longer means no electrons."""
    if np.asarray(pixels).dtype.kind != "f":
        return False
    sample = pixels[:: max(1, pixels.shape[0] // 128), :: max(1, pixels.shape[1] // 128)]
    sample = sample[np.isfinite(sample)]
    return bool(sample.size) and 0 <= float(sample.min()) and 0.3 < float(sample.max()) <= 1


def guess_roles(described: Sequence[tuple[str, bool, int]]) -> tuple[str, str, str]:
    """Guess which layers are HDE, LDE and output.

    Parameters
    ----------
    described
        Name, whether it is an output, and the number of pixels of a frame; the topmost layer last.
    """
    outputs = [name for name, is_out, _ in described if is_out]
    rest = [(name, size) for name, is_out, size in described if not is_out]
    high = next((name for name, _ in rest[::-1] if _says(name, ("hde", "high"))), "")
    low = next((name for name, _ in rest[::-1] if _says(name, ("lde", "low")) and name != high), "")
    others = [(name, size) for name, size in rest if name not in (high, low)]
    if not high and len(rest) > 1:
        # of two unnamed frames the finer is the one with the dose
        finest = max(others, key=lambda entry: entry[1], default=("", 0))
        coarse = min(rest, key=lambda entry: entry[1] if entry[0] != finest[0] else 2**62)
        if finest[0] and finest[1] > coarse[1]:
            high = finest[0]
    if not low:
        low = next((name for name, _ in others[::-1] if name != high), "")
    return high, low, outputs[-1] if outputs else ""


def _says(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name.lower() for word in words)
