"""What a worker of a dask.distributed cluster does for a job: it reads, computes and writes frames itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from distributed import WorkerPlugin, get_worker

from napari_lowdose_tem.enhancement.blocks import FrameRange, merge_ranges, read_ahead
from napari_lowdose_tem.enhancement.job import EnhanceJob
from napari_lowdose_tem.network.model_file import ModelFile, find_model

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.engine import Engine
    from napari_lowdose_tem.io import ZarrStore
    from napari_lowdose_tem.network.scaling import Scaling


class Ready(NamedTuple):
    """A worker whose engine is open: `made` is what the engine says of itself."""

    host: str
    made: dict[str, Any]
    batch: int
    device: str
    note: str


class Problem(NamedTuple):
    """Why a worker cannot do its part, in one line."""

    text: str


class TaskResult(NamedTuple):
    """Frames that a task has written, and what the engine says of its device."""

    done: list[FrameRange]
    note: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """Ranges of output frames to compute; frame 0 is the image's frame `offset`."""

    offset: int
    ranges: list[FrameRange]
    scaling: Scaling | None
    made: Mapping[str, Any]
    """What the engines of all workers say of themselves."""


async def ask_plugin(name: str, method: str, dask_worker: Any = None) -> Any:
    """Call a method of the plugin `name` in a thread; returns its answer, or a `Problem`."""
    try:
        return await asyncio.to_thread(getattr(dask_worker.plugins[name], method))
    except (ValueError, OSError, MemoryError, ImportError) as err:
        return Problem(_on_this_host(err))


def run_task(name: str, task: Task) -> TaskResult:
    """Compute a task with the plugin `name`."""
    plugin: JobPlugin = get_worker().plugins[name]
    return plugin.run(task)


class JobPlugin(WorkerPlugin):  # type: ignore[misc]
    """One job on one worker; it is sent to every worker, also to those that come later."""

    def __init__(self, job: EnhanceJob, n_threads: int) -> None:
        if job.output is None:
            raise ValueError("a cluster needs an output file")
        self._image = job.image
        file = find_model(job.engine.model)
        self._model_path = os.path.abspath(file.path)
        self._model_label, self._model_sha256 = file.label, file.sha256
        self._options = job.engine
        self._n_threads = n_threads
        self._output = Path(os.path.abspath(job.output))
        self._source = str(job.image.provenance.get("source", ""))
        self._source_bytes = _file_bytes(self._source)

    def setup(self, worker: Any) -> None:
        """Get ready; whatever may fail waits until the job asks."""
        self._engine: Engine | None = None
        self._store: ZarrStore | None = None
        self._lock = threading.Lock()
        self._is_stopped = False
        self._running: set[int] = set()
        # one thread computes, others read and write meanwhile
        self._computing = ThreadPoolExecutor(1, "enhance", initializer=self._set_threads)

    def teardown(self, worker: Any) -> None:
        """Close the engine."""
        self._is_stopped = True
        self._computing.shutdown(wait=False, cancel_futures=True)
        if self._engine is not None:
            self._engine.close()

    def prepare(self) -> Ready:
        """Open the engine."""
        engine = self._open_engine()
        batch = engine.batch_for(self._image.frame_shape)
        return Ready(socket.gethostname(), self._made, batch, str(engine.device), engine.note)

    def check_output(self) -> None:
        """Raise ValueError or OSError where the output cannot be written."""
        self._open_store()

    def stop(self) -> list[int]:
        """Stop after the batch being computed; returns the first frames of the tasks that are running."""
        self._is_stopped = True
        return list(self._running)

    def run(self, task: Task) -> TaskResult:
        """Enhance ranges of frames into the output."""
        first_of_task = task.ranges[0].first
        self._running.add(first_of_task)
        done: list[FrameRange] = []
        try:
            if self._is_stopped:
                return TaskResult(done, "")
            engine, store = self._open_engine(), self._open_store()
            check_same(socket.gethostname(), self._made, task.made)
            with closing(read_ahead(self._image, task.offset, task.ranges)) as batches:
                for first, counts in batches:
                    if self._is_stopped:
                        break
                    frames = self._computing.submit(engine.enhance, counts, task.scaling).result()
                    store.write(first, frames)
                    done.append(FrameRange(first, first + len(frames)))
        except (ValueError, OSError) as err:
            raise ValueError(_on_this_host(err)) from None
        finally:
            self._running.discard(first_of_task)
        return TaskResult(merge_ranges(done), engine.note)

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
                self._engine = self._computing.submit(
                    lambda: Engine.from_options(replace(self._options, model=self._find_model().path))
                ).result()
                self._made = self._engine.describe()
            return self._engine

    def _find_model(self) -> ModelFile:
        for name in (self._model_path, self._model_label):
            with contextlib.suppress(ValueError, OSError):
                file = find_model(name)
                if file.sha256 == self._model_sha256:
                    return file
        raise ValueError(
            f"{self._model_path}: no such model there, nor one called {self._model_label} of the same "
            "content; put it where all workers see it"
        )

    def _open_store(self) -> ZarrStore:
        from napari_lowdose_tem.io import open_partial_zarr

        with self._lock:
            if self._store is None:
                self._store = open_partial_zarr(self._output, self._image.data.shape)
            return self._store


def check_same(host: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise ValueError unless two workers compute the same, on whatever processors."""
    for key in wanted.keys() - {"device"}:
        if found.get(key) != wanted[key]:
            remedy = "choose one with --precision" if key == "precision" else "give all the same environment"
            raise ValueError(
                f"the worker on {host} has {key} {found.get(key)}, others {wanted[key]}; {remedy}"
            )


def _on_this_host(err: BaseException) -> str:
    return f"on {socket.gethostname()}: {err}"


def _file_bytes(path: str) -> int | None:
    """Size of a file, 0 of a folder, None where there is neither."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return 0 if os.path.isdir(path) else None
