"""Read a source in a thread of its own, into a bounded queue."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Set
from dataclasses import dataclass

from napari_lowdose_tem.live.source import Arrival, Passed, Skipped, Source, Wait

_MOST_SKIPPED = 100


@dataclass(frozen=True, kw_only=True)
class ReadCounts:
    """How many frames came, and what became of them: arrived = taken + dropped + waiting."""

    arrived: int = 0
    taken: int = 0
    dropped: int = 0
    waiting: int = 0
    n_skipped: int = 0
    skipped: tuple[Skipped, ...] = ()


class SourceReader:
    """Reads frames ahead; use it as a context manager.

    Parameters
    ----------
    source
        What to read.
    latest_only
        Keep the latest frame, and count those it replaces as dropped; otherwise reading waits while `depth`
        frames wait to be taken.
    done
        Names of frames to leave out.
    depth
        Frames read ahead.
    """

    def __init__(self, source: Source, latest_only: bool, done: Set[str], depth: int = 4) -> None:
        self._source, self._latest_only, self._done = source, latest_only, done
        self._depth = 1 if latest_only else depth
        self._queue: deque[Arrival] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._has_ended = False
        self._arrived = self._taken = self._dropped = self._n_skipped = 0
        self._skipped: deque[Skipped] = deque(maxlen=_MOST_SKIPPED)
        self._thread = threading.Thread(target=self._run, name="live-source", daemon=True)

    def __enter__(self) -> SourceReader:
        """Start reading."""
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop reading."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        with self._changed:
            return self._has_ended and not self._queue

    @property
    def counts(self) -> ReadCounts:
        """What came so far."""
        with self._changed:
            return ReadCounts(
                arrived=self._arrived,
                taken=self._taken,
                dropped=self._dropped,
                waiting=len(self._queue),
                n_skipped=self._n_skipped,
                skipped=tuple(self._skipped),
            )

    def take(self, timeout_s: float) -> Arrival | None:
        """Take the next frame; None when none comes in time.

        Raises
        ------
        ValueError, OSError
            What ended the source, after its last frame was taken.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while not (self._queue or self._has_ended):
                if (left_s := deadline_s - time.monotonic()) <= 0:
                    return None
                self._changed.wait(left_s)
            if self._queue:
                self._taken += 1
                self._changed.notify_all()
                return self._queue.popleft()
            if self._error is not None:
                raise self._error
            return None

    def refuse(self, skipped: Skipped) -> None:
        """Record that the frame taken last is not one of the series."""
        with self._changed:
            self._arrived -= 1
            self._taken -= 1
            self._skip(skipped)

    def _run(self) -> None:
        try:
            for event in self._source.iter_events(self._latest_only, self._done):
                if isinstance(event, Wait):
                    self._stop.wait(event.seconds)
                else:
                    self._record(event)
                if self._stop.is_set():
                    return
        except Exception as error:  # noqa: BLE001 - raised where the frames are taken
            self._error = error
        finally:
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()

    def _record(self, event: Arrival | Passed | Skipped) -> None:
        with self._changed:
            if isinstance(event, Skipped):
                self._skip(event)
            elif isinstance(event, Passed):
                self._arrived += event.count
                self._dropped += event.count
            else:
                self._put(event)

    def _put(self, arrival: Arrival) -> None:
        if self._latest_only:
            self._dropped += len(self._queue)
            self._queue.clear()
        while len(self._queue) >= self._depth and not self._stop.is_set():
            self._changed.wait()
        self._queue.append(arrival)
        self._arrived += 1
        self._changed.notify_all()

    def _skip(self, skipped: Skipped) -> None:
        self._skipped.append(skipped)
        self._n_skipped += 1
