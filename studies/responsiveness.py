"""How free napari stays while the Live dock runs: how long the event loop is busy, memory, frames.

    xvfb-run -a -s "-screen 0 1600x1000x24" python studies/responsiveness.py [--seconds 60] [--bare]

A timer asks for a beat every 5 ms: the time between two beats is how long a click would have waited. It holds
the work of the GUI thread, and waiting for the screen and for a processor. `--bare` draws two layers as often
without any Live dock: what the viewer alone costs on this computer.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import Any

os.environ["NAPARI_CONFIG"] = os.path.join(tempfile.mkdtemp(), "settings.yaml")

import napari
import numpy as np
import numpy.typing as npt
import psutil
from qtpy.QtCore import QEventLoop, Qt, QTimer
from rich.console import Console
from rich.table import Table

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.network.model_file import find_model
from napari_lowdose_tem.simulate import expose, make_scene
from napari_lowdose_tem.widgets.live.control import LiveControl
from napari_lowdose_tem.widgets.live.dock import LiveDock
from napari_lowdose_tem.widgets.live.layers import LiveLayers
from napari_lowdose_tem.widgets.live.state import LAYER

BEAT_MS, LIMIT_MS = 5, 50
BARE_DRAWS_PER_S = 14
LONGEST_START_S = 120
MEMORY_EVERY_S = 10.0


class Beats:
    """Times between beats of the event loop, and how long the GUI thread itself computed in each [ms]."""

    def __init__(self) -> None:
        self.gaps_ms: list[float] = []
        self.busy_ms: list[float] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(BEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._last_s = time.perf_counter(), time.thread_time()
        self._timer.start()

    def _beat(self) -> None:
        now_s = time.perf_counter(), time.thread_time()
        self.gaps_ms.append(1000 * (now_s[0] - self._last_s[0]))
        self.busy_ms.append(1000 * (now_s[1] - self._last_s[1]))
        self._last_s = now_s

    def stop(self) -> dict[str, Any]:
        """End, and summarise."""
        self._timer.stop()
        return {"gap_ms": summarise(self.gaps_ms), "busy_ms": summarise(self.busy_ms)}


def summarise(times_ms: list[float]) -> dict[str, float]:
    """Percentiles, the longest, and how many were too long."""
    p50, p99, p999 = np.percentile(times_ms, [50, 99, 99.9]).tolist()
    over = sum(t > LIMIT_MS for t in times_ms)
    return {"n": len(times_ms), "p50": p50, "p99": p99, "p99.9": p999, "max": max(times_ms), "over_50": over}


def wait(seconds: float, until: Any = None) -> None:
    """Let the event loop run for a time, or until something holds."""
    loop, timer = QEventLoop(), QTimer()
    end_s = time.monotonic() + seconds
    timer.timeout.connect(
        lambda: loop.quit() if time.monotonic() > end_s or (until is not None and until()) else None
    )
    timer.start(100)
    loop.exec()


def measure_live(viewer: napari.Viewer, movie: npt.NDArray[Any], args: argparse.Namespace) -> dict[str, Any]:
    """Replay a movie through the Live dock."""
    dock = LiveDock(viewer)
    viewer.window.add_dock_widget(dock, name="Live", area="right")
    control: LiveControl = dock.control
    control.choose_model(str(find_model(args.model).path))
    control.choose_kind(LAYER)
    control.set_rate(args.rate)
    control.choose_device(args.device)
    viewer.layers["movie"].visible = False
    wait(2)
    start = Beats()
    control.start()
    wait(LONGEST_START_S, lambda: bool(control.state.rate_text) or not control.state.running)
    if not control.state.running:
        raise SystemExit(control.state.message)
    started = start.stop()
    wait(3)
    process = psutil.Process()
    processes = [process, *process.children(recursive=True)]
    memory: list[list[float]] = []
    begun_s, beats = time.monotonic(), Beats()
    memory_timer = QTimer()
    memory_timer.timeout.connect(
        lambda: memory.append([time.monotonic() - begun_s, *(p.memory_info().rss / 1e6 for p in processes)])
    )
    memory_timer.start(round(1000 * min(MEMORY_EVERY_S, args.seconds / 4)))
    before = control._step
    wait(args.seconds, lambda: not control.state.running)
    memory_timer.stop()
    result = {"start": started, **beats.stop(), "memory_mb": memory}
    after, seconds = control._step, time.monotonic() - begun_s
    control.stop()
    wait(60, lambda: not control.state.running)
    if control.state.is_error or before is None or after is None:
        raise SystemExit(control.state.message)
    counts = {key: getattr(after, key) - getattr(before, key) for key in ("arrived", "enhanced", "dropped")}
    return {
        **result,
        "device": after.device,
        "seconds": seconds,
        **counts,
        "latency_ms": [after.latency_ms_p50, after.latency_ms_p99],
    }


def measure_bare(viewer: napari.Viewer, movie: npt.NDArray[Any], args: argparse.Namespace) -> dict[str, Any]:
    """Draw the frames of a movie in two layers, as the Live dock does, computing nothing."""
    layers, n_drawn = LiveLayers(viewer), 0
    while not layers.show("movie", Image(movie[0]), Image(movie[0].astype(np.float32))):
        pass

    def draw() -> None:
        nonlocal n_drawn
        n_drawn += 1
        frame = movie[n_drawn % len(movie)]
        layers.show("movie", Image(frame), Image(frame.astype(np.float32)))

    wait(2)
    timer = QTimer()
    timer.timeout.connect(draw)
    timer.start(round(1000 / BARE_DRAWS_PER_S))
    beats = Beats()
    wait(args.seconds)
    timer.stop()
    return {**beats.stop(), "drawn": n_drawn}


def write_table(result: dict[str, Any]) -> Table:
    """Lay out what was measured."""
    table = Table("[ms]", "p50", "p99", "p99.9", "longest", f"over {LIMIT_MS} ms", "of")
    rows = {"gap of the event loop": result["gap_ms"], "work of its thread": result["busy_ms"]}
    if "start" in result:
        rows["gap while it starts"] = result["start"]["gap_ms"]
    for name, row in rows.items():
        numbers = [f"{row[key]:.1f}" for key in ("p50", "p99", "p99.9", "max")]
        table.add_row(name, *numbers, str(row["over_50"]), f"{row['n']:,}")
    return table


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=300.0, help="frames a second of the replay")
    parser.add_argument("--side", type=int, default=512, help="of a frame, in pixels")
    parser.add_argument("--model", default="fast")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--bare", action="store_true", help="only draw, without the Live dock")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    scene = make_scene("silicate", (args.side, args.side), rng=0)
    movie = np.stack([expose(5 * scene.transmission, rng=i) for i in range(20)]).astype(np.uint16)
    viewer = napari.Viewer()
    viewer.window.resize(1400, 900)
    if not args.bare:
        viewer.add_image(movie, name="movie")
    result = (measure_bare if args.bare else measure_live)(viewer, movie, args)
    viewer.close()
    if args.json:
        print(json.dumps(result))
        return
    console = Console()
    console.print(write_table(result))
    if args.bare:
        return
    per_s, (p50, p99) = result["enhanced"] / result["seconds"], result["latency_ms"]
    console.print(
        f"{result['arrived']:,} frames came, {result['enhanced']:,} enhanced ({per_s:.0f}/s), "
        f"{result['dropped']:,} dropped; latency {p50:.0f} ms, p99 {p99:.0f} ms; {result['device']}"
    )
    if result["memory_mb"]:
        (_, *first), (_, *last) = result["memory_mb"][0], result["memory_mb"][-1]
        changes = ", ".join(f"{a:.1f} to {b:.1f}" for a, b in zip(first, last, strict=True))
        console.print(f"memory [MB] of the viewer and of the live process: {changes}")


if __name__ == "__main__":
    main()
