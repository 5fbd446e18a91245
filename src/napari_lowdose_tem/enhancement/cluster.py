"""Enhancing on the workers of a dask.distributed cluster: the same blocks, written into one OME-Zarr.

The client measures the scaling, lays out the output and keeps its journal. A worker holds one engine, opens
the input itself and writes its frames, each a chunk of its own, straight into the output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import socket
import threading
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.enhancement.run import Block, EnhanceJob, read_ahead
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.network.model_file import ModelFile, find_model
from napari_lowdose_tem.network.scaling import measure_stack

try:
    from distributed import Client, Future, KilledWorker, WorkerPlugin, get_worker, wait
except ImportError as err:
    raise ImportError(
        "computing on a cluster needs dask.distributed; install it: pip install 'napari-lowdose-tem[cluster]'"
    ) from err

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine
    from napari_lowdose_tem.io import ZarrStore
    from napari_lowdose_tem.network.scaling import Scaling

Ranges = list[tuple[int, int]]

_CONNECT_S = 10
_POLL_S = 1.0
_TASK_PX = 16 * 512**2  # pixels a task holds at most, so that sending it costs little beside computing it
_TASKS_EACH = 8  # tasks a worker should get at least, so that all end together
_WAITING_EACH = 3  # tasks sent out per worker: what is not sent costs the scheduler nothing
_RETRIES = 2
_LARGEST_SENT_BYTES = 256_000_000


class Cluster:
    """The workers of a scheduler as the place where a job's blocks are computed; `enhance.Here` is the other.

    Raises
    ------
    ValueError
        For an output that several processes cannot write, or a movie that is in no file.
    OSError
        When no scheduler answers at the address.
    """

    def __init__(self, job: EnhanceJob) -> None:
        if job.output is None or job.output.suffix.lower() != ".zarr":
            raise ValueError(
                f"{job.output}: the workers of a cluster write their frames at the same time, which only a "
                "Zarr allows; name an output that ends in .ome.zarr"
            )
        image = job.image
        if not image.is_lazy and image.data.nbytes > _LARGEST_SENT_BYTES:
            raise ValueError(
                f"{image.name}: {image.data.nbytes / 1e9:.2g} GB in memory; save it to a file that all "
                "workers can open, and enhance that"
            )
        self._job = job
        self._address = str(job.scheduler)
        self._name = f"lowdose-tem-{uuid.uuid4().hex[:12]}"
        self._running: dict[int, Future] = {}
        self._description: dict[str, Any] = {}
        self._batch = 1
        self._client: Any = None
        self.device = f"the cluster at {self._address}"
        self.note = ""

    def __enter__(self) -> Cluster:
        """Connect."""
        try:
            self._client = Client(self._address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TypeError) as err:
            raise OSError(
                f"{self._address}: no dask scheduler answers there; check host and port (tcp://HOST:8786), "
                "that `dask scheduler` runs and that no firewall is between"
            ) from err
        return self

    def __exit__(self, *exc: object) -> None:
        """Have the workers forget the job and disconnect."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            if self._client.status == "running":
                self._client.unregister_worker_plugin(self._name)
        self._client.close()

    def iter_waiting(self) -> Iterator[str]:
        """Yield what is waited for until the first workers are there and ready."""
        while not (threads := self._client.nthreads()):
            yield "waiting for the first worker"
            time.sleep(_POLL_S)
        yield "the workers load the network"
        self._client.register_plugin(_Worker(self._job, min(threads.values())), name=self._name)
        ready = self._ask("prepare")
        first = ready[0]
        for other in ready[1:]:
            _check_same(other["host"], other["made"], first["made"])
        kinds = sorted({r["made"]["device"] for r in ready})
        self._description = {**first["made"], "device": ", ".join(kinds)}
        self._batch = min(r["batch"] for r in ready)
        self.device = (
            f"{len(ready)} worker{'s' * (len(ready) > 1)}: {', '.join(sorted({r['device'] for r in ready}))}"
        )
        self.note = "; ".join(sorted({r["note"] for r in ready} - {""}))

    def measure(self, image: Image, first: int, last: int) -> Scaling | None:
        """Measure the one scaling of a stack, here and once."""
        scaling = measure_stack(find_model(self._job.model).info.recipe, image, first, last)
        self._description["level_counts"] = None if scaling is None else scaling.level_counts
        return scaling

    def describe(self, scaling: Scaling | None = None) -> dict[str, Any]:
        """Return what an enhanced image should know of its making, `scaling` being the one measured."""
        return dict(self._description)

    def batch_for(self, frame_shape: tuple[int, int]) -> int:
        """Return how many frames the workers process together."""
        return self._batch

    def iter_blocks(
        self, image: Image, offset: int, ranges: Ranges, scaling: Scaling | None
    ) -> Generator[Block, None, None]:
        """Have ranges of output frames computed and written; yields them as they come in."""
        n_workers = len(self._ask("check_output"))
        tasks = _group(ranges, n_workers, image.frame_shape)
        made = {**self._description, "level_counts": None}
        finished: queue.Queue[Future] = queue.Queue()
        counted_s = time.monotonic()

        def send(n_tasks: int) -> None:
            for group in islice(tasks, max(0, n_tasks)):
                first = group[0][0]
                future = self._client.submit(
                    _enhance,
                    self._name,
                    offset,
                    group,
                    scaling,
                    made,
                    key=(self._name, first),
                    retries=_RETRIES,
                )
                self._running[first] = future
                future.add_done_callback(finished.put)

        send(_WAITING_EACH * n_workers)
        while self._running:
            if time.monotonic() - counted_s > 5 * _POLL_S:  # workers come and go
                n_workers, counted_s = len(self._client.nthreads()), time.monotonic()
            with contextlib.suppress(queue.Empty):
                future = finished.get(timeout=_POLL_S)
                send(1 + _WAITING_EACH * max(1, n_workers) - len(self._running))
                yield from self._receive(future)
                del self._running[future.key[1]]  # now, so that an interruption before loses nothing
            if self._client.status != "running":
                raise OSError(
                    f"{self._address}: the connection to the scheduler is lost; resume when it is back"
                )

    def stop(self) -> list[Block]:
        """Stop after the batches being computed and return those; nothing when all is done."""
        running, self._running = self._running, {}
        if not running or self._client.status != "running":
            return []
        with contextlib.suppress(OSError, ValueError):
            # what has not begun comes back empty, at once unless the workers are busy with other jobs
            started = {first for firsts in self._ask("stop") for first in firsts}
            wait([future for first, future in running.items() if first in started])
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                wait(list(running.values()), timeout=5 * _POLL_S)
        done = [future for future in running.values() if future.status == "finished"]
        self._client.cancel([future for future in running.values() if not future.done()])
        return [block for future in done for block in self._receive(future)]

    def _receive(self, future: Future) -> list[Block]:
        try:
            result = future.result()
        except KilledWorker as err:
            raise OSError(
                f"frames from {future.key[1]} on: {err.allowed_failures + 1} workers ended while they "
                "computed them, out of memory perhaps; see their logs, start fewer on a machine, and resume"
            ) from err
        self.note = result["note"] or self.note
        return [Block(first, stop - first) for first, stop in result["done"]]

    def _ask(self, what: str) -> list[Any]:
        """Let every worker do something; returns their answers, of which a problem is raised."""
        answers = self._client.run(_call, self._name, what, on_error="return").values()
        lost = [answer for answer in answers if isinstance(answer, Exception)]
        heard = [answer for answer in answers if not isinstance(answer, Exception)]
        for answer in heard:
            if isinstance(answer, str):
                raise ValueError(answer)
        if not heard:  # one that ended meanwhile is no harm, unless it was the last
            raise OSError(f"{self._address}: no worker answers ({lost[0] if lost else 'all have ended'})")
        return heard


def _group(ranges: Ranges, n_workers: int, frame_shape: tuple[int, int]) -> Iterator[Ranges]:
    """Group batches into tasks, few enough to cost little and enough to go round."""
    n_frames = sum(stop - first for first, stop in ranges)
    wanted = min(_TASK_PX // (frame_shape[0] * frame_shape[1]), n_frames // (_TASKS_EACH * n_workers))
    group: Ranges = []
    n_grouped = 0
    for first, stop in ranges:
        group.append((first, stop))
        n_grouped += stop - first
        if n_grouped >= wanted:
            yield group
            group, n_grouped = [], 0
    if group:
        yield group


def _check_same(host: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise unless two workers compute the same, on whatever processors."""
    for key in wanted.keys() - {"device"}:
        if found.get(key) != wanted[key]:
            remedy = "choose one with --precision" if key == "precision" else "give all the same environment"
            raise ValueError(
                f"the worker on {host} has {key} {found.get(key)}, others {wanted[key]}; {remedy}"
            )


# What follows runs on the workers.


async def _call(name: str, what: str, dask_worker: Any = None) -> Any:
    return await asyncio.to_thread(getattr(dask_worker.plugins[name], what))


def _enhance(
    name: str, offset: int, ranges: Ranges, scaling: Scaling | None, made: dict[str, Any]
) -> dict[str, Any]:
    plugin: _Worker = get_worker().plugins[name]
    return plugin.enhance(offset, ranges, scaling, made)


class _Worker(WorkerPlugin):  # type: ignore[misc]
    """One job on one worker: sent to every worker, those that come later too."""

    def __init__(self, job: EnhanceJob, n_threads: int) -> None:
        if job.output is None:
            raise ValueError("a cluster needs an output file")
        self._image = job.image
        file = find_model(job.model)
        self._model = (os.path.abspath(file.path), file.label, file.sha256)
        self._options = job.device, job.precision, job.tile_px
        self._n_threads = n_threads
        self._output = Path(os.path.abspath(job.output))
        self._source = str(job.image.provenance.get("source", ""))
        self._source_bytes = _file_bytes(self._source)

    def setup(self, worker: Any) -> None:
        """Get ready; whatever may fail waits until the job asks."""
        self._host = socket.gethostname()
        self._engine: Engine | None = None
        self._store: ZarrStore | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._busy: set[int] = set()
        # all computing in one thread, others read and write meanwhile
        self._computing = ThreadPoolExecutor(1, "enhance", initializer=self._set_threads)

    def teardown(self, worker: Any) -> None:
        """Give the engine's memory back."""
        self._stopped = True
        self._computing.shutdown(wait=False, cancel_futures=True)
        if self._engine is not None:
            self._engine.close()

    def prepare(self) -> dict[str, Any] | str:
        """Tell what this worker computes with, or in one line why it cannot."""
        try:
            engine = self._open_engine()
        except (ValueError, OSError, MemoryError, ImportError) as err:
            return _on(self._host, err)
        return {
            "host": self._host,
            "made": self._made,
            "batch": engine.batch_for(self._image.frame_shape),
            "device": str(engine.device),
            "note": engine.note,
        }

    def check_output(self) -> str | None:
        """Tell in one line why the output cannot be written."""
        try:
            self._open_store()
        except (ValueError, OSError) as err:
            return _on(self._host, err)
        return None

    def stop(self) -> list[int]:
        """Stop after the batch being computed; returns the first frames of the tasks that are."""
        self._stopped = True
        return list(self._busy)

    def enhance(
        self, offset: int, ranges: Ranges, scaling: Scaling | None, made: dict[str, Any]
    ) -> dict[str, Any]:
        """Enhance ranges of frames into the output; returns those done."""
        self._busy.add(ranges[0][0])
        done: Ranges = []
        try:
            if self._stopped:
                return {"done": done, "note": ""}
            engine, store = self._open_engine(), self._open_store()
            _check_same(self._host, self._made, made)
            with closing(read_ahead(self._image, offset, ranges)) as batches:
                for first, counts in batches:
                    if self._stopped:
                        break
                    frames = self._computing.submit(engine.enhance, counts, scaling).result()
                    store.write(first, frames)
                    done.append((first, first + len(frames)))
        except (ValueError, OSError) as err:
            raise ValueError(_on(self._host, err)) from None
        finally:
            self._busy.discard(ranges[0][0])
        return {"done": _merge(done), "note": engine.note}

    def _set_threads(self) -> None:
        import torch

        torch.set_num_threads(self._n_threads)

    def _open_engine(self) -> Engine:
        from napari_lowdose_tem.engine.engine import Engine

        with self._lock:
            if self._engine is None:
                if self._source_bytes is not None and _file_bytes(self._source) != self._source_bytes:
                    fault = "another file" if os.path.exists(self._source) else "no such file"
                    raise ValueError(f"{self._source}: {fault} there; put it where all workers see it")
                device, precision, tile_px = self._options
                self._engine = self._computing.submit(
                    lambda: Engine(str(self._find_model().path), device, precision=precision, tile_px=tile_px)
                ).result()
                self._made = self._engine.describe()
            return self._engine

    def _find_model(self) -> ModelFile:
        path, label, sha256 = self._model
        for name in (path, label):
            with contextlib.suppress(ValueError, OSError):
                file = find_model(name)
                if file.sha256 == sha256:
                    return file
        raise ValueError(
            f"{path}: no such model there, nor one called {label} of the same content; "
            "put it where all workers see it"
        )

    def _open_store(self) -> ZarrStore:
        from napari_lowdose_tem.io import open_partial_zarr

        with self._lock:
            if self._store is None:
                self._store = open_partial_zarr(self._output, self._image.data.shape)
            return self._store


def _on(host: str, err: BaseException) -> str:
    return f"on {host}: {err}"


def _file_bytes(path: str) -> int | None:
    """Size of a file, 0 of a folder, None where there is neither."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return 0 if os.path.isdir(path) else None


def _merge(ranges: Iterable[tuple[int, int]]) -> Ranges:
    merged: Ranges = []
    for first, stop in ranges:
        if merged and merged[-1][1] == first:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((first, stop))
    return merged
