"""The runner of NVIDIA cards on queues that a CPU plays, in every order a card may take."""

import gc
import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_lowdose_tem.engine.device import Device
from napari_lowdose_tem.engine.runners import cuda
from napari_lowdose_tem.engine.runners.cuda import N_SLOTS, CudaRunner
from napari_lowdose_tem.network.scaling import Scaling

CPU = Device("cpu", "CPU", "float32")
SCALING = Scaling(10.0, 200.0, -4.0, 16.0, 180.0, 3.0)


class Network(torch.nn.Module):
    """Something simple that is not the identity and mixes no frames."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Conv2d(1, 1, 3, padding=1)
        with torch.no_grad():
            self.head.weight.copy_(torch.linspace(-0.5, 1, 9).view(1, 1, 3, 3))

    def forward(self, x):
        return self.head(x)


@pytest.fixture
def network():
    return Network()


@pytest.fixture
def runner_on(network):
    return lambda streams: CudaRunner(network, CPU, streams)


def draw(seed, shape=(2, 24, 40), dtype=np.uint16):
    return np.random.default_rng(seed).poisson(200, shape).astype(dtype)


def enhance(network, counts, scaling=SCALING):
    with torch.no_grad():
        outputs = [network(torch.from_numpy(scaling.normalise(c))[None, None])[0, 0].numpy() for c in counts]
    return np.stack([scaling.to_counts(output) for output in outputs])


def check(result, network, counts, scaling=SCALING):
    np.testing.assert_allclose(result, enhance(network, counts, scaling), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("seed", range(40))
def test_results_are_right_and_in_order_whatever_order_the_card_takes(lazy_streams, runner_on, network, seed):
    runner = runner_on(lazy_streams(seed))
    movie = [draw(i) for i in range(9)]
    waiting, results = [], []
    for counts in movie:
        waiting.append(runner.submit(counts, [SCALING] * 2))
        if len(waiting) == N_SLOTS:
            results.append(waiting.pop(0)())
    results += [ticket() for ticket in waiting]
    for counts, result in zip(movie, results, strict=True):
        check(result, network, counts)


@pytest.mark.parametrize("seed", range(20))
def test_more_than_the_slots_at_once_are_fetched_for_later(lazy_streams, runner_on, network, seed):
    runner = runner_on(lazy_streams(seed))
    movie = [draw(i) for i in range(8)]
    tickets = [runner.submit(counts, [SCALING] * 2) for counts in movie]
    for i in np.random.default_rng(seed).permutation(8):
        check(tickets[i](), network, movie[i])
        assert tickets[i]() is tickets[i]()


@pytest.mark.parametrize("seed", range(10))
def test_results_nobody_takes_stop_nothing(lazy_streams, runner_on, network, seed):
    runner = runner_on(lazy_streams(seed))
    for i in range(7):
        runner.submit(draw(i), [SCALING] * 2)
    gc.collect()
    check(runner.submit(draw(9), [SCALING] * 2)(), network, draw(9))


@pytest.mark.parametrize("seed", range(20))
def test_shapes_and_number_formats_in_turn(lazy_streams, runner_on, network, seed):
    runner = runner_on(lazy_streams(seed))
    movie = [
        draw(0),
        draw(1, (1, 48, 32)),
        draw(2, (3, 16, 24), np.float32),
        draw(3, (1, 64, 72), ">u2"),
        draw(4, (2, 24, 40), np.int32),
        draw(5, (1, 8, 16), np.float64),
        draw(6),
    ]
    tickets = [runner.submit(counts, [SCALING] * len(counts)) for counts in movie]
    for counts, ticket in zip(movie, tickets, strict=True):
        check(ticket(), network, counts)


def test_every_frame_has_a_scaling_of_its_own(lazy_streams, runner_on, network):
    scalings = [SCALING, replace(SCALING, offset=-50, scale=90, output_scale=1, output_offset=0)]
    counts = draw(1)
    result = runner_on(lazy_streams()).submit(counts, scalings)()
    for i in range(2):
        check(result[i : i + 1], network, counts[i : i + 1], scalings[i])


def test_results_are_the_callers_own(lazy_streams, runner_on):
    runner = runner_on(lazy_streams())
    first = runner.submit(draw(1), [SCALING] * 2)()
    kept = first.copy()
    for i in range(6):
        runner.submit(draw(i), [SCALING] * 2)()
    np.testing.assert_array_equal(first, kept)
    assert first.flags.writeable
    assert first.dtype == np.float32


def test_a_shape_is_recorded_once(lazy_streams, runner_on):
    streams = lazy_streams()
    runner = runner_on(streams)
    for _ in range(3):
        runner.submit(draw(1), [SCALING] * 2)()
        runner.submit(draw(1, (1, 24, 40)), [SCALING])()
    assert streams.n_recorded == 2
    assert not runner.note


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(RuntimeError("operation not permitted\nwhen capturing"), "not permitted"), (5.0, "does not give")],
)
def test_what_cannot_be_recorded_is_computed_plainly_and_said_once(
    lazy_streams, runner_on, network, broken, reason
):
    streams = lazy_streams()
    streams.broken_record = broken
    runner = runner_on(streams)
    for i in range(3):
        for shape in ((2, 24, 40), (1, 48, 32)):
            counts = draw(i, shape)
            check(runner.submit(counts, [SCALING] * len(counts))(), network, counts)
    assert streams.n_recorded == 1
    assert reason in runner.note
    assert "\n" not in runner.note


def test_large_frames_are_not_recorded(lazy_streams, runner_on, network, monkeypatch):
    monkeypatch.setattr("napari_lowdose_tem.engine.runners.cuda._LARGEST_GRAPH_PX", 900)
    streams = lazy_streams()
    counts = draw(1, (1, 24, 40))
    check(runner_on(streams).submit(counts, [SCALING])(), network, counts)
    assert streams.n_recorded == 0


def test_old_graphs_make_room_and_are_not_recorded_again_and_again(
    lazy_streams, runner_on, network, monkeypatch
):
    monkeypatch.setattr("napari_lowdose_tem.engine.runners.cuda._KEPT_GRAPHS_PX", 2 * 24 * 40 + 100)
    streams = lazy_streams()
    runner = runner_on(streams)
    shapes = [(1, 24, 40), (1, 40, 24), (1, 30, 32)]
    for i in range(4):
        tickets = [(draw(i, shape), runner.submit(draw(i, shape), [SCALING])) for shape in shapes]
        for counts, ticket in tickets:
            check(ticket(), network, counts)
    assert streams.n_recorded == 3
    assert streams.n_given_back == 1


@pytest.mark.parametrize("where", ["host", "card", "up", "compute", "down"])
def test_an_error_frees_the_slot_and_harms_no_other_frame(lazy_streams, runner_on, network, where):
    streams = lazy_streams(3)
    runner = runner_on(streams)
    before = runner.submit(draw(1), [SCALING] * 2)
    streams.fail_in[where] = RuntimeError("unlucky")
    with pytest.raises(RuntimeError, match="unlucky"):
        runner.submit(draw(2, (2, 48, 40)), [SCALING] * 2)
    after = [runner.submit(draw(i, (2, 48, 40)), [SCALING] * 2) for i in range(5)]
    check(before(), network, draw(1))
    for i, ticket in enumerate(after):
        check(ticket(), network, draw(i, (2, 48, 40)))


def test_an_error_on_the_card_reaches_whoever_waits_for_the_frame(
    lazy_streams, runner_on, network, monkeypatch
):
    runner = runner_on(lazy_streams())
    runner.submit(draw(1), [SCALING] * 2)()
    with monkeypatch.context() as broken:
        graph = next(iter(runner._graphs.values()))
        broken.setattr(graph, "_replay", lambda: (_ for _ in ()).throw(RuntimeError("an illegal access")))
        lost = runner.submit(draw(2), [SCALING] * 2)
        runner._streams.wait_all()
    check(runner.submit(draw(3), [SCALING] * 2)(), network, draw(3))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="illegal access"):
            lost()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_memory_that_runs_out_takes_the_graphs_first_and_is_then_told(
    lazy_streams, runner_on, network, error
):
    streams = lazy_streams()
    runner = runner_on(streams)
    runner.submit(draw(1), [SCALING] * 2)()
    streams.fail_in["card"] = error
    counts = draw(2, (2, 48, 40))
    check(runner.submit(counts, [SCALING] * 2)(), network, counts)
    assert streams.n_given_back == 1
    runner.submit(draw(1), [SCALING] * 2)()
    assert streams.n_recorded == 3  # again, when there is memory again
    streams.fail_in["card"] = error
    runner._drop_graphs()
    with pytest.raises(type(error), match=re.escape(str(error))):
        runner.submit(draw(2, (2, 96, 40)), [SCALING] * 2)


def test_memory_too_short_to_record_one_shape_leaves_the_others_theirs(lazy_streams, runner_on, network):
    streams = lazy_streams()
    runner = runner_on(streams)
    streams.broken_record = torch.OutOfMemoryError("CUDA out of memory")
    for _ in range(2):
        check(runner.submit(draw(1), [SCALING] * 2)(), network, draw(1))
    assert streams.n_recorded == 1
    assert "out of memory" in runner.note
    streams.broken_record = None
    counts = draw(2, (1, 24, 40))
    check(runner.submit(counts, [SCALING])(), network, counts)
    assert [frames.shape for frames in runner._graphs] == [(1, 24, 40)]


def test_settings_of_two_threads_are_not_mixed_up():
    flags = torch.backends.cudnn
    before = flags.deterministic, flags.benchmark, flags.allow_tf32

    def compute(autotune):
        for _ in range(300):
            with cuda._same_sums(autotune, allow_tf32=autotune):
                time.sleep(0)
                seen.add((autotune, flags.benchmark, flags.allow_tf32))

    seen = set()
    threads = [threading.Thread(target=compute, args=(autotune,)) for autotune in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {(False, False, False), (True, True, True)}
    assert (flags.deterministic, flags.benchmark, flags.allow_tf32) == before


@pytest.mark.parametrize("seed", range(5))
def test_closing_fetches_what_is_still_to_come(lazy_streams, runner_on, network, seed):
    streams = lazy_streams(seed)
    runner = runner_on(streams)
    tickets = [runner.submit(draw(i), [SCALING] * 2) for i in range(2)]
    runner.close()
    for i, ticket in enumerate(tickets):
        check(ticket(), network, draw(i))
    assert not runner._graphs
    assert streams.n_given_back == 1
    with pytest.raises(ValueError, match="closed"):
        runner.submit(draw(1), [SCALING] * 2)
    runner.close()


def test_prepared_frames_run_on_the_card_without_copies(lazy_streams, runner_on):
    streams = lazy_streams()
    run = runner_on(streams).prepare(draw(1), [SCALING] * 2)
    streams.log.clear()
    run()
    run()
    assert streams.log == ["compute", "compute"]
