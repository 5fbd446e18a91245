import pytest

from napari_lowdose_tem.live.rates import Rates


def test_rates_of_even_frames():
    rates = Rates()
    assert rates.frames_per_s(0) == 0
    for i in range(3000):
        rates.record(i * 0.02, 0.001 * (i % 100))
    assert rates.frames_per_s(2999 * 0.02) == pytest.approx(50, rel=0.01)
    assert rates.frames_per_s(2999 * 0.02 + 10) == 0
    p50, p99 = rates.latency_ms()
    assert p50 == pytest.approx(49.5)
    assert p99 == pytest.approx(98, abs=1)
