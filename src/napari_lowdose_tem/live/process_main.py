"""The other side of `apart`: a process that runs the live pipeline and sends its newest report."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
from dataclasses import replace
from typing import IO

from napari_lowdose_tem.live.latest import LatestStep
from napari_lowdose_tem.live.messages import RunEnded, pack, receive, send
from napari_lowdose_tem.live.pipeline import LiveStep, iter_live

_LAST_WORDS_S = 20.0


def main(niceness: int) -> None:
    """Take a configuration from standard input, send reports to standard output until told to stop."""
    orders = open(os.dup(0), "rb", buffering=0)
    reports = open(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is no report
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who tells us
    if hasattr(os, "nice"):
        os.nice(niceness)
    stop, newest, has_ended = threading.Event(), LatestStep(), threading.Event()
    config = receive(orders)
    threading.Thread(target=_wait_for_stop, args=(orders, stop), daemon=True).start()
    sender = threading.Thread(target=_send_newest, args=(reports, newest, has_ended))
    sender.start()
    error: Exception | None = None
    try:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() - 1))  # one core is the viewer's
        for step in iter_live(replace(config, is_stopped=stop.is_set)):
            newest.put(step)
    except Exception as err:  # noqa: BLE001 - told to the parent
        error = _portable(err)
    has_ended.set()
    sender.join()
    try:
        send(reports, pack(RunEnded(error)))
    except OSError:
        pass  # nobody listens


def _wait_for_stop(orders: IO[bytes], stop: threading.Event) -> None:
    """Stop at a word, or when the parent is gone; in any case end in time."""
    orders.read(1)
    stop.set()
    time.sleep(_LAST_WORDS_S)
    os._exit(1)


def _send_newest(reports: IO[bytes], newest: LatestStep, has_ended: threading.Event) -> None:
    """Send the newest report whenever the pipe is free; a slow viewer holds up nothing but this."""
    try:
        while True:
            is_last = has_ended.is_set()
            step: LiveStep | None = newest.take(0.0 if is_last else 0.05)
            if step is not None:
                send(reports, pack(step))
            elif is_last:
                return
    except OSError:
        return  # nobody listens


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent, with where it came from."""
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - of a kind that cannot
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(where)
    return error
