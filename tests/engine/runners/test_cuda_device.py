"""On a real card. Where there is none nothing here is tested, which the skipped tests say."""

import gc
import time

import numpy as np
import pytest
import torch

from napari_lowdose_tem.engine.device import choose_device
from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.engine.runners import cuda as cuda_module
from napari_lowdose_tem.engine.runners import open_runner
from napari_lowdose_tem.engine.runners.counts_network import double
from napari_lowdose_tem.network.model_file import load_model
from napari_lowdose_tem.network.scaling import measure_scaling

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="NO NVIDIA CARD: graphs, streams, half precision and memory on the card are NOT tested here",
)
MODELS = ["default", "fast", "paper"]


def draw(shape, seed=0, dtype=np.uint16):
    return (44 * np.random.default_rng(seed).poisson(5, shape)).astype(dtype)


@pytest.fixture(params=MODELS)
def model(request):
    return load_model(request.param)


@pytest.fixture
def runner(model):
    runner = open_runner(model, choose_device("cuda"))
    yield runner
    runner.close()


def scale(model, counts):
    return [measure_scaling(model.info.recipe, frame) for frame in counts]


@pytest.mark.parametrize(("precision", "mean", "largest"), [("float32", 1e-4, 2e-3), ("float16", 3e-3, 0.05)])
def test_card_agrees_with_float32_on_the_cpu(model, precision, mean, largest):
    counts = draw((2, 320, 448))
    counts[:, :, 200:] //= 3
    with Engine(model, "cpu", precision="float32") as cpu, Engine(model, "cuda", precision=precision) as card:
        expected, result = cpu.enhance(counts), card.enhance(counts)
        assert not card.note, card.note
    error = np.abs(result - expected) / np.ptp(expected)
    print(f"\n{model.info.name} {precision}: mean error {error.mean():.2e}, largest {error.max():.2e}")
    assert error.mean() < mean
    assert error.max() < largest


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, ">u2", np.int32])
def test_graph_equals_layer_by_layer(model, dtype, monkeypatch):
    counts = draw((3, 256, 352), dtype=dtype)
    scalings = scale(model, counts)
    graphed, plain = (open_runner(model, choose_device("cuda")) for _ in range(2))
    plain._records = False
    for seed in range(4):
        counts = draw((3, 256, 352), seed, dtype)
        a, b = graphed.submit(counts, scalings)(), plain.submit(counts, scalings)()
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * np.ptp(b))
        print(f"\nlargest difference {np.abs(a - b).max():.2e} counts")
    assert not graphed.note, graphed.note
    assert len(graphed._graphs) == 1
    graphed.close()
    plain.close()


def test_many_frames_in_flight_are_not_mixed_up(runner, model):
    movie = [draw((1, 512, 512 if i % 3 else 480), i) for i in range(60)]
    scalings = scale(model, movie[0])
    alone = [runner.submit(counts, scalings)() for counts in movie]
    waiting, results = [], []
    for counts in movie:
        waiting.append(runner.submit(counts, scalings))
        if len(waiting) == runner.n_in_flight:
            results.append(waiting.pop(0)())
    results += [ticket() for ticket in waiting]
    for a, b in zip(alone, results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_run_gives_the_same_bits(model):
    counts = draw((1, 512, 544))
    results = []
    for _ in range(2):
        with Engine(model, "cuda") as engine:
            results.append(engine.enhance(counts))
    np.testing.assert_array_equal(*results)


def test_doubling_is_that_of_torch_bit_for_bit_on_the_card():
    x = torch.randn(2, 32, 40, 24, device="cuda", dtype=torch.float16)
    x = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(double(x), torch.nn.functional.interpolate(x, scale_factor=2.0))


def test_memory_is_given_back(model):
    def used():
        gc.collect()
        torch.cuda.synchronize()
        return torch.cuda.memory_reserved()

    Engine(model, "cuda").close()
    before = used()
    for _ in range(3):
        with Engine(model, "cuda") as engine:
            engine.enhance(draw((2, 1024, 1056)))
            engine.enhance(draw((8, 512, 512)))
            assert used() > before
    assert used() <= before + 2**21


def test_a_frame_too_large_for_the_memory_is_cut(model):
    _, total = torch.cuda.mem_get_info()
    with Engine(model, "cuda") as engine:
        allowed = (torch.cuda.memory_reserved() + 6e8) / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed))
        try:
            result = engine.enhance(draw((1, 4096, 4000)))
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert "out of memory" in engine.note
    assert np.isfinite(result).all()


def test_what_cannot_be_recorded_is_computed_plainly(model, monkeypatch):
    record = cuda_module.CudaStreams.record

    def fail(self, work):
        def refuse():
            work()  # what the card itself refuses may leave torch's memory in disorder for other tests
            raise RuntimeError("operation not permitted")

        return record(self, refuse)

    monkeypatch.setattr(cuda_module.CudaStreams, "record", fail)
    with Engine(model, "cuda") as engine:
        assert "without a CUDA graph" in engine.note
        assert np.isfinite(engine.enhance(draw((1, 512, 512)))).all()


def test_speed_printed_not_judged(runner, model):
    counts = draw((1, 512, 512))
    scalings = scale(model, counts)
    run = runner.prepare(counts, scalings)
    for name, work in (("calc", run), ("total", lambda: runner.submit(counts, scalings)())):
        times = []
        for _ in range(300):
            start = time.perf_counter()
            work()
            times.append(1e3 * (time.perf_counter() - start))
        p50, p99 = np.percentile(times[20:], (50, 99))
        print(f"\n{model.info.name} {name}: p50 {p50:.3f} ms, p99 {p99:.3f} ms")
