"""The blocks of a job computed by the workers of a dask.distributed cluster, into one OME-Zarr.

This client measures the scaling, lays out the output and keeps its journal. A worker holds one engine, opens
the input itself and writes its frames, each a chunk of its own, straight into the output.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
import uuid
from collections.abc import Generator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.enhancement.blocks import Block, FrameRange
from napari_lowdose_tem.enhancement.job import EnhanceJob

try:
    from distributed import Client, Future, KilledWorker, wait
except ImportError as err:
    raise ImportError(
        "computing on a cluster needs dask.distributed; install it: pip install 'napari-lowdose-tem[cluster]'"
    ) from err

from napari_lowdose_tem.enhancement.cluster_worker import (
    JobPlugin,
    Problem,
    Ready,
    Task,
    TaskResult,
    ask_plugin,
    check_same,
    run_task,
)

if TYPE_CHECKING:
    from napari_lowdose_tem.image import Image
    from napari_lowdose_tem.network.scaling import Scaling

_CONNECT_S = 10
_POLL_S = 1.0
_TASK_PX = 16 * 512**2  # pixels a task holds at most, so that sending it costs little beside computing it
_TASKS_EACH = 8  # tasks a worker should get at least, so that all end together
_WAITING_EACH = 3  # tasks sent out per worker: what is not sent costs the scheduler nothing
_RETRIES = 2
_LARGEST_SENT_BYTES = 256_000_000


class Cluster:
    """The workers of a scheduler, a `Place`.

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
        self._running: dict[int, Future] = {}  # by the first frame of the task
        self._made: dict[str, Any] = {}
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
        """Yield what is being waited for, until the first workers are there and ready."""
        while not (threads := self._client.nthreads()):
            yield "waiting for the first worker"
            time.sleep(_POLL_S)
        yield "the workers load the network"
        self._client.register_plugin(JobPlugin(self._job, min(threads.values())), name=self._name)
        workers: list[Ready] = self._ask("prepare")
        for other in workers[1:]:
            check_same(other.host, other.made, workers[0].made)
        kinds = sorted({worker.made["device"] for worker in workers})
        self._made = {**workers[0].made, "device": ", ".join(kinds)}
        self._batch = min(worker.batch for worker in workers)
        devices = ", ".join(sorted({worker.device for worker in workers}))
        self.device = f"{len(workers)} worker{'s' * (len(workers) > 1)}: {devices}"
        self.note = "; ".join(sorted({worker.note for worker in workers} - {""}))

    def describe(self) -> dict[str, Any]:
        """Return what the provenance of an output says of its making."""
        return dict(self._made)

    def batch_for(self, frame_shape: tuple[int, int]) -> int:
        """Return how many frames the workers compute together."""
        return self._batch

    def iter_blocks(
        self, image: Image, offset: int, ranges: list[FrameRange], scaling: Scaling | None
    ) -> Generator[Block, None, None]:
        """Have ranges of output frames computed and written; yields them as they come in."""
        n_workers = len(self._ask("check_output"))
        groups = _group_ranges(ranges, n_workers, image.frame_shape)
        finished: queue.Queue[Future] = queue.Queue()
        counted_s = time.monotonic()

        def send(n_tasks: int) -> None:
            for group in islice(groups, max(0, n_tasks)):
                task = Task(offset=offset, ranges=group, scaling=scaling, made=self._made)
                key = (self._name, group[0].first)
                future = self._client.submit(run_task, self._name, task, key=key, retries=_RETRIES)
                self._running[group[0].first] = future
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
            result: TaskResult = future.result()
        except KilledWorker as err:
            raise OSError(
                f"frames from {future.key[1]} on: {err.allowed_failures + 1} workers ended while they "
                "computed them, out of memory perhaps; see their logs, start fewer on a machine, and resume"
            ) from err
        self.note = result.note or self.note
        return [Block(done.first, done.n_frames) for done in result.done]

    def _ask(self, method: str) -> list[Any]:
        """Call a method of the job on every worker; returns the answers, and raises if one is a problem."""
        answers = self._client.run(ask_plugin, self._name, method, on_error="return").values()
        for answer in answers:
            if isinstance(answer, Problem):
                raise ValueError(answer.text)
        lost = [answer for answer in answers if isinstance(answer, Exception)]
        heard = [answer for answer in answers if not isinstance(answer, Exception)]
        if not heard:  # one that ended meanwhile is no harm, unless it was the last
            raise OSError(f"{self._address}: no worker answers ({lost[0] if lost else 'all have ended'})")
        return heard


def _group_ranges(
    ranges: list[FrameRange], n_workers: int, frame_shape: tuple[int, int]
) -> Iterator[list[FrameRange]]:
    """Group batches into tasks, few enough to cost little and enough to go round."""
    n_frames = sum(r.n_frames for r in ranges)
    wanted = min(_TASK_PX // (frame_shape[0] * frame_shape[1]), n_frames // (_TASKS_EACH * n_workers))
    group: list[FrameRange] = []
    for r in ranges:
        group.append(r)
        if sum(member.n_frames for member in group) >= wanted:
            yield group
            group = []
    if group:
        yield group
