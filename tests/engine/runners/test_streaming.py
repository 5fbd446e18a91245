"""Several batches on their way at once: by an engine whose card is played by the CPU."""

import numpy as np
import pytest
import torch

from napari_lowdose_tem.engine import engine as engine_module
from napari_lowdose_tem.engine.device import Device
from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.engine.runners.cuda import N_SLOTS, CudaRunner
from napari_lowdose_tem.engine.runners.fold import fold_batch_norm
from napari_lowdose_tem.engine.runners.footprint import measure_bytes_per_px
from napari_lowdose_tem.enhancement import EnhanceJob, iter_enhance
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.network.model_file import load_model
from napari_lowdose_tem.network.scaling import Scaling


class CountingRunner(CudaRunner):
    """Notes how many results are waited for, and can fail."""

    made = None

    def __init__(self, network, device, streams):
        super().__init__(network, device, streams)
        self.waiting, self.most, self.log, self.failing = 0, 0, [], {}
        CountingRunner.made = self

    def submit(self, counts, scalings):
        i = len(self.log)
        self.log.append(counts.shape)
        if error := self.failing.get((i, "submit")):
            raise error
        ticket = super().submit(counts, scalings)
        self.waiting += 1
        self.most = max(self.most, self.waiting)

        def wait():
            self.waiting -= 1
            if error := self.failing.get((i, "wait")):
                raise error
            return ticket()

        return wait


@pytest.fixture
def card(monkeypatch, lazy_streams):
    """Engines on the CPU take the runner of cards."""

    def open_runner(model, device):
        return CountingRunner(
            fold_batch_norm(model.network), Device("cpu", "CPU", "float32"), lazy_streams(5)
        )

    monkeypatch.setattr(engine_module, "open_runner", open_runner)


@pytest.fixture
def movie():
    counts = np.random.default_rng(3).poisson(200.0, (7, 60, 90)).astype(np.uint16)
    return Image(counts * np.arange(1, 8, dtype=np.uint16)[:, None, None])


@pytest.fixture
def expected(tiny_model, movie):
    with Engine(tiny_model, "cpu", precision="float32") as engine:
        scaling = engine.measure(movie)
        return np.stack([engine.enhance(frame, scaling) for frame in movie.data])


def run(job):
    """Run a job; returns its last report and the frames in the order they came."""
    blocks = []
    for step in iter_enhance(job):
        if step.result is None and step.frames is not None:
            blocks.append(step.first)
        last = step
    return last, blocks


def one_frame_a_batch(monkeypatch, failing=None):
    monkeypatch.setattr(Engine, "batch_for", lambda self, shape: 1)
    if failing:
        init = CountingRunner.__init__

        def broken(self, *arguments):
            init(self, *arguments)
            self.failing = {(i + 1, where): error for (i, where), error in failing.items()}  # after the check

        monkeypatch.setattr(CountingRunner, "__init__", broken)


def test_frames_come_in_order_with_several_on_their_way(tiny_model, movie, expected, card, monkeypatch):
    one_frame_a_batch(monkeypatch)
    last, blocks = run(EnhanceJob(movie, engine=EngineOptions(model=tiny_model, device="cpu")))
    assert blocks == list(range(7))
    assert CountingRunner.made.most == N_SLOTS
    np.testing.assert_allclose(last.result.data, expected, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("where", ["submit", "wait"])
@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError])
def test_a_batch_that_finds_no_memory_is_done_again(
    tiny_model, movie, expected, card, monkeypatch, where, kind
):
    one_frame_a_batch(monkeypatch, {(2, where): kind("CUDA out of memory")})
    last, blocks = run(EnhanceJob(movie, engine=EngineOptions(model=tiny_model, device="cpu")))
    assert blocks == list(range(7))
    assert len(CountingRunner.made.log) == 1 + 7 + 1
    np.testing.assert_allclose(last.result.data, expected, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("where", ["submit", "wait"])
def test_other_errors_end_the_job(tiny_model, movie, card, monkeypatch, where):
    one_frame_a_batch(monkeypatch, {(2, where): RuntimeError("an illegal memory access")})
    with pytest.raises(RuntimeError, match="illegal"):
        run(EnhanceJob(movie, engine=EngineOptions(model=tiny_model, device="cpu")))


def test_cancelled_with_frames_on_their_way(tiny_model, movie, card, monkeypatch):
    one_frame_a_batch(monkeypatch)
    steps = iter_enhance(EnhanceJob(movie, engine=EngineOptions(model=tiny_model, device="cpu")))
    while next(steps).frames is None:
        pass
    steps.close()
    assert len(CountingRunner.made.log) <= 1 + N_SLOTS + 1
    with pytest.raises(ValueError, match="closed"):
        CountingRunner.made.submit(movie.data[:1], [Scaling(0, 200, -4, 16, 200, 0)])


def test_tiles_are_on_their_way_together_and_reported_one_by_one(tiny_model, card):
    stack = Image(np.random.default_rng(0).poisson(50.0, (2, 704, 896)))
    steps = list(
        iter_enhance(EnhanceJob(stack, engine=EngineOptions(model=tiny_model, device="cpu", tile_px=640)))
    )
    assert len(steps) > 2 * 4
    assert CountingRunner.made.most == N_SLOTS
    with Engine(tiny_model, "cpu", tile_px=1024) as whole:
        expected = whole.enhance(stack.data, whole.measure(stack))
    np.testing.assert_allclose(steps[-1].result.data, expected, atol=2e-3 * np.ptp(expected))


def test_a_tile_that_finds_no_memory_is_done_again_in_smaller_ones(tiny_model, card, monkeypatch):
    one_frame_a_batch(monkeypatch, {(1, "wait"): torch.OutOfMemoryError("CUDA out of memory")})
    stack = Image(np.random.default_rng(0).poisson(50.0, (1, 704, 1664)))
    last, _ = run(EnhanceJob(stack, engine=EngineOptions(model=tiny_model, device="cpu", tile_px=1024)))
    with Engine(tiny_model, "cpu", tile_px=2048) as whole:
        expected = whole.enhance(stack.data, whole.measure(stack))
    assert "out of memory" in last.note
    np.testing.assert_allclose(last.result.data, expected, atol=2e-3 * np.ptp(expected))


def test_what_a_runner_remarks_is_told(tiny_model, card, counts):
    with Engine(tiny_model, "cpu") as engine:
        assert engine.note == engine.device.note
        CountingRunner.made.note = "computed without a CUDA graph"
        assert engine.note.endswith("computed without a CUDA graph")


def test_a_card_takes_the_largest_tile_that_fits_its_free_memory(tiny_model, monkeypatch):
    tiles = {}
    with Engine(tiny_model, "cpu") as engine:
        for name in ("paper", "default"):
            engine.model = load_model(name)
            engine.device = Device("cuda", "card", "float16")
            for free_gb in (0.3, 4, 16, 140):
                monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, gb=free_gb: (int(gb * 1e9), 0))
                tiles[name, free_gb] = engine._choose_tile()
    for name in ("paper", "default"):
        sizes = [tiles[name, free_gb] for free_gb in (0.3, 4, 16, 140)]
        assert sizes == sorted(sizes)
        assert sizes[0] == 1024
        assert sizes[2] >= 4096
        assert sizes[3] == 6144
    assert tiles["paper", 4] < tiles["default", 4]


def test_footprint_is_that_of_the_layers_alive_together():
    class Network(torch.nn.Module):
        def forward(self, x):
            wide = x.repeat(1, 7, 1, 1)  # 28 bytes a pixel
            other = wide + 1  # and 28
            del wide
            return other * 2  # while this is made, 56 again

    assert measure_bytes_per_px(Network(), torch.float32) == pytest.approx(4 + 28 + 28, abs=5)
    assert measure_bytes_per_px(Network(), torch.float16) == pytest.approx(30, abs=3)
