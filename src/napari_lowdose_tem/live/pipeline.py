"""The live pipeline: frames read in one thread, enhanced in this one, saved in a third."""

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
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.live.average import RecursiveAverage
from napari_lowdose_tem.live.folder import FolderSource
from napari_lowdose_tem.live.growing_file import GrowingSource
from napari_lowdose_tem.live.rates import Rates
from napari_lowdose_tem.live.reader import ReadCounts, SourceReader
from napari_lowdose_tem.live.save import LiveOutput, open_output
from napari_lowdose_tem.live.scaling import LEVELS, SeriesScaling
from napari_lowdose_tem.live.source import Arrival, Skipped, Source

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine
    from napari_lowdose_tem.network.scaling import Scaling

AVERAGED = ("enhanced", "raw")
_HEARTBEAT_S = 0.1


@dataclass(frozen=True)
class LiveConfig:
    """All a live enhancement needs to know, frozen when it starts.

    Parameters
    ----------
    source
        Where the frames come from; `open_source` makes one of a path.
    engine
        Model, device, precision and tile.
    save_all
        Enhance all frames in order, however long it takes; else always the newest, dropping others.
    output
        OME-Zarr (``.zarr``) or folder of TIFF files for what is enhanced.
    resume
        Go on with an output that is there: frames in it are not enhanced again.
    average_s, average_of
        Time constant of a recursive average [s], 0 for none, and of what: "enhanced" or "raw" frames.
    level
        Scale all frames as the first one ("first") or each by itself ("frame").
    until_idle_s
        End when nothing new came for this time [s]; None goes on.
    report_every_s
        Shortest time between two reports of frames [s]; 0 reports every frame.
    is_stopped
        Asked between frames; ends it with a last report when true.

    Raises
    ------
    ValueError
        For values that are none of these.
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


@dataclass(frozen=True, eq=False)
class LiveStep:
    """How it goes; every `report_every_s`, and ten times a second while nothing comes.

    `raw` (averaged if so asked) and `output` are the newest frame, (rows, columns) counts with their
    calibration, or None when there is none since the last report. arrived = enhanced + dropped + waiting, and
    one more while a frame is in work. Latency is from arrival to enhanced, of the last 1,000 frames.
    """

    name: str = ""
    arrived: int = 0
    enhanced: int = 0
    dropped: int = 0
    waiting: int = 0
    saved: int = 0
    n_skipped: int = 0
    skipped: tuple[Skipped, ...] = ()
    frames_per_s: float = 0.0
    latency_ms_p50: float = float("nan")
    latency_ms_p99: float = float("nan")
    elapsed_s: float = 0.0
    device: str = ""
    note: str = ""
    raw: Image | None = field(default=None, repr=False)
    output: Image | None = field(default=None, repr=False)


def open_source(path: str | Path, *, ignore: Path | None = None, **options: float) -> Source:
    """Make the source of a path: a folder of single frames, or a growing file or Zarr.

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
    is_zarr = path.suffix.lower() == ".zarr" or any(
        (path / name).exists() for name in (".zarray", "zarr.json")
    )
    if is_zarr or path.is_file() or (path.suffix and not path.is_dir()):
        return GrowingSource(path, **options)
    ours = [ignore.with_name(f"{ignore.name}{end}") for end in _BESIDE] if ignore else []
    return FolderSource(path, ignore=ours, **options)


_BESIDE = ("", ".lock", ".frames.csv", ".frames.json")


def iter_live(config: LiveConfig) -> Generator[LiveStep, None, None]:
    """Enhance frames as they come, reporting; closing the iterator ends it, what is saved is whole.

    Raises
    ------
    ValueError, OSError
        For an unknown model, a device that does not work, an output that exists, a source that vanished.
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
        run = _Run(config, engine, reader, output)
        stack.callback(run.close)
        yield from run.iter_steps()


def _job(config: LiveConfig, engine: Engine) -> dict[str, Any]:
    """Give what decides about the pixels."""
    made = engine.describe()
    return {
        "source": config.source.path or config.source.name,
        "model_sha256": made["model_sha256"],
        "average_s": config.average_s,
        "average_of": config.average_of,
        "level": config.level,
    }


class _Run:
    """One live enhancement."""

    def __init__(
        self, config: LiveConfig, engine: Engine, reader: SourceReader, output: LiveOutput | None
    ) -> None:
        self._config, self._engine, self._reader, self._output = config, engine, reader, output
        self._level = SeriesScaling(
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
        self._made: tuple[Scaling | None, dict[str, Any]] | None = None
        self._enhanced = 0
        self._start_s = time.monotonic()
        self._reported_s = self._told_s = -math.inf
        self._newest: tuple[str, Image, Image] | None = None

    def close(self) -> None:
        """Wait for the frame that is being saved."""
        self._writer.shutdown()

    def iter_steps(self) -> Iterator[LiveStep]:
        """Take frames until there are no more or it is stopped."""
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
                yield self._report(now_s)
            elif now_s - self._told_s >= _HEARTBEAT_S:
                yield self._counts()
        self._wait_saved()
        last = self._report(time.monotonic())
        if not self._config.save_all:  # the frame still waiting is one nobody will see
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
        scaling = self._level.scaling_for(counts)
        pixels = yield from self._engine.iter_enhance(counts[None], scaling, lambda share: self._counts())
        enhanced = pixels[0] if of_raw else self._average.add(pixels[0], arrival.recorded_s)
        now_s = time.monotonic()
        latency_s = now_s - arrival.arrived_s
        self._rates.note(now_s, latency_s)
        self._enhanced += 1
        made = {**image.provenance, "enhanced": self._describe(), "frame": arrival.name}
        output = image.with_data(enhanced, provenance=made)
        self._newest = arrival.name, image.with_data(counts), output
        if self._output is not None:
            self._wait_saved()
            self._pending = self._writer.submit(
                self._output.write, arrival.name, output, self._level.scaling, latency_s
            )

    def _describe(self) -> dict[str, Any]:
        scaling = self._level.scaling
        if self._made is None or self._made[0] is not scaling:
            averaged = {"average_s": self._config.average_s, "average_of": self._config.average_of}
            made = {**self._engine.describe(scaling), **(averaged if self._config.average_s else {})}
            # plain values: a version that is of a class of torch would load torch wherever it is sent
            self._made = scaling, json.loads(json.dumps(made))
        return self._made[1]

    def _wait_saved(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _report(self, now_s: float) -> LiveStep:
        """Report with the newest frame."""
        self._reported_s = now_s
        step = self._counts()
        newest, self._newest = self._newest, None
        if newest is None:
            return step
        return replace(step, name=newest[0], raw=newest[1], output=newest[2])

    def _counts(self) -> LiveStep:
        tally: ReadCounts = self._reader.tally
        now_s = self._told_s = time.monotonic()
        p50, p99 = self._rates.latency_ms()
        return LiveStep(
            arrived=tally.arrived,
            enhanced=self._enhanced,
            dropped=tally.dropped,
            waiting=tally.waiting,
            saved=self._output.count if self._output else 0,
            n_skipped=tally.n_skipped,
            skipped=tally.skipped,
            frames_per_s=self._rates.frames_per_s(now_s),
            latency_ms_p50=p50,
            latency_ms_p99=p99,
            elapsed_s=now_s - self._start_s,
            device=str(self._engine.device),
            note=self._level.note or self._engine.note,
        )
