"""Frame rate and latency of the last frames, in memory of fixed size."""

from __future__ import annotations

from collections import deque

import numpy as np

_KEPT = 1000
_RATE_OVER_S = 3.0


class Rates:
    """Frame rate over the last 3 s, and latency of the last 1,000 frames."""

    def __init__(self) -> None:
        self._ended_s: deque[float] = deque(maxlen=_KEPT)
        self._latency_ms = np.zeros(_KEPT)
        self._count = 0

    def record(self, now_s: float, latency_s: float) -> None:
        """Record a frame enhanced now, `latency_s` after it arrived."""
        self._ended_s.append(now_s)
        self._latency_ms[self._count % _KEPT] = 1000 * latency_s
        self._count += 1

    def frames_per_s(self, now_s: float) -> float:
        """Give the rate over the last seconds; it falls to 0 when no frames come."""
        recent = [s for s in self._ended_s if s >= now_s - _RATE_OVER_S]
        if len(recent) < 2:
            return 0.0
        # from the first to the last of them, so that the start is not diluted, plus a pause since the last
        step_s = (recent[-1] - recent[0]) / (len(recent) - 1)
        span_s = max(now_s - recent[0], 1e-9) if now_s - recent[-1] > 2 * step_s else recent[-1] - recent[0]
        return (len(recent) - 1) / max(span_s, 1e-9)

    def latency_ms(self) -> tuple[float, float]:
        """Give the 50th and 99th percentile [ms]; NaN before the first frame."""
        if not self._count:
            return float("nan"), float("nan")
        p50, p99 = np.percentile(self._latency_ms[: min(self._count, _KEPT)], [50, 99])
        return float(p50), float(p99)
