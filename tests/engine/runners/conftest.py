import random
from collections import deque

import pytest
import torch

from napari_lowdose_tem.engine.runners.streams import COMPUTE, DOWN, UP


class LazyStreams:
    """Queues on the CPU that do nothing until they are waited for, and then as much as they like.

    Work of one queue is done in order, of different ones in an order drawn by `seed` that keeps to the
    events: what is overwritten too early in some order a card may take is wrong here in some seed.
    """

    def __init__(self, seed=0):
        self._draw = random.Random(seed)
        self._queues = {queue: deque() for queue in (UP, COMPUTE, DOWN)}
        self.log, self.fail_in, self.broken_record = [], {}, None
        self.n_recorded = self.n_given_back = 0

    def empty(self, n, dtype, *, on_host=False):
        if error := self.fail_in.pop("host" if on_host else "card", None):
            raise error
        return torch.empty(n * dtype.itemsize, dtype=torch.uint8).fill_(0xA5).view(dtype)

    def run(self, queue, work, after=None):
        if error := self.fail_in.pop(queue, None):
            raise error
        event = {"queue": queue, "happened": False, "error": None}
        self._queues[queue].append((work, after, event))
        for _ in range(self._draw.randrange(4)):
            self._step()
        return event

    def wait(self, event):
        while not event["happened"]:
            assert self._step(), "waits for ever"
        if event["error"]:
            raise event["error"]

    def wait_all(self):
        while self._step():
            pass
        assert not any(self._queues.values()), "waits for ever"

    def warm_up(self, work):
        return work()

    def record(self, work):
        self.n_recorded += 1
        if isinstance(self.broken_record, Exception):
            raise self.broken_record
        output = torch.full_like(work(), torch.nan)
        change = 0.0 if self.broken_record is None else self.broken_record
        return lambda: output.copy_(work() + change), output

    def give_back(self):
        self.n_given_back += 1

    def _step(self):
        ready = [q for q in self._queues.values() if q and (q[0][1] is None or q[0][1]["happened"])]
        if not ready:
            return False
        work, after, event = self._draw.choice(ready).popleft()
        if after is not None:
            event["error"] = after["error"]
        if event["error"] is None:
            try:
                work()
            except RuntimeError as err:
                event["error"] = err
        event["happened"] = True
        self.log.append(event["queue"])
        return True


@pytest.fixture
def lazy_streams():
    return LazyStreams
