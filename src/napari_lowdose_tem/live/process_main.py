"""The process started by `process`: it runs the live pipeline and sends its latest report."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
from dataclasses import replace
from typing import IO

from napari_lowdose_tem.live.messages import RunEnded, pack, receive, send
from napari_lowdose_tem.live.pipeline import iter_live
from napari_lowdose_tem.live.step import LatestStep, LiveStep

_END_TIMEOUT_S = 20.0


def main(niceness: int) -> None:
    """Read a configuration from standard input, write reports to standard output until told to stop."""
    orders = open(os.dup(0), "rb", buffering=0)
    reports = open(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print must not mix with reports
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops this process
    if hasattr(os, "nice"):
        os.nice(niceness)
    stop, latest, has_ended = threading.Event(), LatestStep(), threading.Event()
    config = receive(orders)
    threading.Thread(target=_wait_for_stop, args=(orders, stop), daemon=True).start()
    sender = threading.Thread(target=_send_latest, args=(reports, latest, has_ended))
    sender.start()
    error: Exception | None = None
    try:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() - 1))  # leaves a core to the viewer
        for step in iter_live(replace(config, is_stopped=stop.is_set)):
            latest.put(step)
    except Exception as err:  # noqa: BLE001 - raised in the parent
        error = _portable(err)
    has_ended.set()
    sender.join()
    try:
        send(reports, pack(RunEnded(error)))
    except OSError:
        pass  # the parent is gone


def _wait_for_stop(orders: IO[bytes], stop: threading.Event) -> None:
    """Stop when told to or when the parent is gone, and end the process in any case."""
    orders.read(1)
    stop.set()
    time.sleep(_END_TIMEOUT_S)
    os._exit(1)


def _send_latest(reports: IO[bytes], latest: LatestStep, has_ended: threading.Event) -> None:
    """Send the latest report whenever the pipe is free; a slow viewer delays only this thread."""
    try:
        while True:
            is_last = has_ended.is_set()
            step: LiveStep | None = latest.take(0.0 if is_last else 0.05)
            if step is not None:
                send(reports, pack(step))
            elif is_last:
                return
    except OSError:
        return  # the parent is gone


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent, with its traceback as a note."""
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - of a class that cannot be pickled
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(where)
    return error
