"""The live pipeline: one thread reads frames, the calling one enhances them, a third saves them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.io import is_zarr
from napari_lowdose_tem.live.average import RecursiveAverage
from napari_lowdose_tem.live.folder import FolderSource
from napari_lowdose_tem.live.growing_file import GrowingSource
from napari_lowdose_tem.live.rates import Rates
from napari_lowdose_tem.live.reader import SourceReader
from napari_lowdose_tem.live.save import OUTPUT_ENDINGS, LiveOutput, open_output
from napari_lowdose_tem.live.scaling import LEVELS, SeriesScaling
from napari_lowdose_tem.live.source import Arrival, Skipped, Source
from napari_lowdose_tem.live.step import LiveStep

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine
    from napari_lowdose_tem.network.scaling import Scaling

AVERAGED = ("enhanced", "raw")
_HEARTBEAT_S = 0.1


@dataclass(frozen=True)
class LiveConfig:
    """What a live enhancement needs to know, frozen when it starts.

    Parameters
    ----------
    source
        Where the frames come from; `open_source` makes one of a path.
    engine
        Model, and how it is run.
    save_all
        Enhance all frames in order, however long it takes; otherwise the latest one, dropping those before.
    output
        OME-Zarr (``.zarr``) or folder of TIFF files for the enhanced frames.
    resume
        Continue an existing output: its frames are not enhanced again.
    average_s, average_of
        Time constant of a recursive average [s], 0 for none, and of what: "enhanced" or "raw" frames.
    level
        Scale all frames like the first one ("first"), or each by its own level ("frame").
    until_idle_s
        End when no frame came for this time [s]; None never ends.
    report_every_s
        Shortest time between two reports with a frame [s]; 0 reports every frame.
    is_stopped
        Asked between frames; when true, the enhancement ends with a last report.

    Raises
    ------
    ValueError
        For other values of `average_s`, `average_of` and `level`.
    """

    source: Source
    _: KW_ONLY
    engine: EngineOptions = field(default_factory=EngineOptions)
    save_all: bool = False
    output: Path | None = None
    resume: bool = False
    average_s: float = 0.0
    average_of: str = "enhanced"
    level: str = "first"
    until_idle_s: float | None = None
    report_every_s: float = 0.0
    is_stopped: Callable[[], bool] = bool

    def __post_init__(self) -> None:
        """Check what can be checked before anything is loaded."""
        RecursiveAverage(self.average_s)
        for key, known in (("average_of", AVERAGED), ("level", LEVELS)):
            if getattr(self, key) not in known:
                raise ValueError(f"{key} {getattr(self, key)!r}; choose {' or '.join(known)}")


def open_source(path: str | Path, *, ignore: Path | None = None, **options: float) -> Source:
    """Open a folder of single frames, or a growing file or Zarr, as a source.

    Parameters
    ----------
    path
        Folder or file.
    ignore
        An output that may lie in the folder.
    **options
        `poll_s` and `patience_s`.
    """
    path = Path(path)
    if is_zarr(path) or path.is_file() or (path.suffix and not path.is_dir()):
        return GrowingSource(path, **options)
    ignored = [ignore.with_name(f"{ignore.name}{ending}") for ending in OUTPUT_ENDINGS] if ignore else []
    return FolderSource(path, ignore=ignored, **options)


def iter_live(config: LiveConfig) -> Generator[LiveStep, None, None]:
    """Enhance frames as they come, and report; closing the iterator ends it and leaves whole frames only.

    Raises
    ------
    ValueError, OSError
        For an unknown model, a device that fails, an existing output, a source that cannot be read any more.
    """
    from napari_lowdose_tem.engine.engine import Engine

    yield LiveStep(note="loading the model")
    with ExitStack() as stack:
        engine = stack.enter_context(Engine.from_options(config.engine))
        output = None
        if config.output is not None:
            output = open_output(config.output, _job(config, engine), config.resume)
            stack.callback(output.close)
        done = output.done if output else set()
        reader = stack.enter_context(SourceReader(config.source, not config.save_all, done))
        pipeline = _Pipeline(config, engine, reader, output)
        stack.callback(pipeline.close)
        yield from pipeline.iter_steps()


def _job(config: LiveConfig, engine: Engine) -> dict[str, Any]:
    """Give what decides the pixels."""
    return {
        "source": config.source.path or config.source.name,
        "model_sha256": engine.describe()["model_sha256"],
        "average_s": config.average_s,
        "average_of": config.average_of,
        "level": config.level,
    }


class _Pipeline:
    """One live enhancement."""

    def __init__(
        self, config: LiveConfig, engine: Engine, reader: SourceReader, output: LiveOutput | None
    ) -> None:
        self._config, self._engine, self._reader, self._output = config, engine, reader, output
        self._scaling = SeriesScaling(
            engine.model.info.recipe,
            each=config.level == "frame",
            follow=output is None,
            fixed=output.scaling if output else None,
        )
        self._average = RecursiveAverage(config.average_s)
        self._rates = Rates()
        self._writer = ThreadPoolExecutor(1, "live-writer")
        self._pending: Future[None] | None = None
        self._shape = output.shape if output else None
        self._description: tuple[Scaling | None, dict[str, Any]] | None = None
        self._enhanced = 0
        self._start_s = time.monotonic()
        self._reported_s = self._counted_s = -math.inf
        self._latest: LiveStep | None = None  # only the fields of the frame

    def close(self) -> None:
        """Wait for the frame that is being saved."""
        self._writer.shutdown()

    def iter_steps(self) -> Iterator[LiveStep]:
        """Enhance frames until there are no more, or it is stopped."""
        idle_since_s = time.monotonic()
        while not self._config.is_stopped():
            arrival = self._reader.take(_HEARTBEAT_S)
            now_s = time.monotonic()
            if arrival is not None:
                yield from self._iter_frame(arrival)
                idle_since_s = now_s = time.monotonic()
            elif self._reader.has_ended or now_s - idle_since_s > (self._config.until_idle_s or math.inf):
                break
            if now_s - self._reported_s >= self._config.report_every_s:
                yield self._report_frame(now_s)
            elif now_s - self._counted_s >= _HEARTBEAT_S:
                yield self._report_counts()
        self._wait_saved()
        last = self._report_frame(time.monotonic())
        if not self._config.save_all:  # a frame still waiting will not be enhanced
            last = replace(last, dropped=last.dropped + last.waiting, waiting=0)
        yield last

    def _iter_frame(self, arrival: Arrival) -> Generator[LiveStep, None, None]:
        """Enhance one frame, reporting between tiles."""
        image = arrival.image
        if self._output is not None and self._shape not in (None, image.frame_shape):
            rows, cols = image.frame_shape
            reason = f"{rows} × {cols} px, the frames saved have {self._shape[0]} × {self._shape[1]} px"
            self._reader.refuse(Skipped(arrival.name, reason))
            return
        self._shape = image.frame_shape
        of_raw = self._config.average_of == "raw"
        counts = self._average.add(image.data, arrival.recorded_s) if of_raw else image.data
        scaling = self._scaling.scaling_for(counts)
        pixels = yield from self._engine.iter_enhance(
            counts[None], scaling, lambda share: self._report_counts()
        )
        enhanced = pixels[0] if of_raw else self._average.add(pixels[0], arrival.recorded_s)
        now_s = time.monotonic()
        latency_s = now_s - arrival.arrived_s
        self._rates.record(now_s, latency_s)
        self._enhanced += 1
        made = {**image.provenance, "enhanced": self._describe(), "frame": arrival.name}
        output = image.with_data(enhanced, provenance=made)
        self._latest = LiveStep(name=arrival.name, raw=image.with_data(counts), output=output)
        if self._output is not None:
            self._wait_saved()
            self._pending = self._writer.submit(
                self._output.write, arrival.name, output, self._scaling.scaling, latency_s
            )

    def _describe(self) -> dict[str, Any]:
        scaling = self._scaling.scaling
        if self._description is None or self._description[0] is not scaling:
            averaged = {"average_s": self._config.average_s, "average_of": self._config.average_of}
            made = {**self._engine.describe(scaling), **(averaged if self._config.average_s else {})}
            # plain values: a version number of a torch class would load torch in the process that receives it
            self._description = scaling, json.loads(json.dumps(made))
        return self._description[1]

    def _wait_saved(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _report_frame(self, now_s: float) -> LiveStep:
        """Report with the latest frame, if there is a new one."""
        self._reported_s = now_s
        step, latest = self._report_counts(), self._latest
        self._latest = None
        return step if latest is None else step.with_frame_of(latest)

    def _report_counts(self) -> LiveStep:
        counts = self._reader.counts
        now_s = self._counted_s = time.monotonic()
        p50, p99 = self._rates.latency_ms()
        return LiveStep(
            arrived=counts.arrived,
            enhanced=self._enhanced,
            dropped=counts.dropped,
            waiting=counts.waiting,
            saved=self._output.count if self._output else 0,
            n_skipped=counts.n_skipped,
            skipped=counts.skipped,
            frames_per_s=self._rates.frames_per_s(now_s),
            latency_ms_p50=p50,
            latency_ms_p99=p99,
            elapsed_s=now_s - self._start_s,
            device=str(self._engine.device),
            note=self._scaling.note or self._engine.note,
        )
