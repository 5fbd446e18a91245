"""Two workers on this machine must do what one process does, whatever happens to them."""

import os
import signal
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.enhancement import EnhanceJob, iter_enhance
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read, write

distributed = pytest.importorskip("distributed")

from napari_lowdose_tem.enhancement.blocks import FrameRange, merge_ranges  # noqa: E402
from napari_lowdose_tem.enhancement.cluster import _group_ranges  # noqa: E402
from napari_lowdose_tem.enhancement.cluster_worker import check_same  # noqa: E402

N_FRAMES = 14

pytestmark = [
    # a worker killed on purpose leaves its socket to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def scheduler():
    """Address of a cluster of two worker processes, each computing in one thread."""
    import dask

    # an ended worker is started again at once; its process may need a while to end on a busy machine
    with (
        dask.config.set({"distributed.worker.daemon": True, "distributed.comm.timeouts.connect": "60s"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0
        ) as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """Frames of which one fills a block, in a file."""
    counts = np.random.default_rng(1).poisson(50.0, (N_FRAMES, 400, 560)).astype(np.uint16)
    return write(Image(counts, (2.5, 1.5)), tmp_path_factory.mktemp("movie") / "movie.tif")


@pytest.fixture(scope="module")
def alone(movie, tiny_model, tmp_path_factory):
    """What one process makes of the movie."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        output = tmp_path_factory.mktemp("alone") / "out.ome.zarr"
        *_, last = iter_enhance(
            EnhanceJob(read(movie), engine=EngineOptions(model=tiny_model, device="cpu"), output=output)
        )
    finally:
        torch.set_num_threads(n_threads)
    return last.result


def assert_same(result, alone):
    np.testing.assert_array_equal(result.frames(0, N_FRAMES), alone.frames(0, N_FRAMES))
    assert result.pixel_size_nm == alone.pixel_size_nm
    assert result.provenance["enhanced"] == alone.provenance["enhanced"]


def chunks(partial):
    """The chunks of an unfinished output, with what would change if one were written again."""
    return {
        str(p): (p.stat().st_ino, p.stat().st_mtime_ns)
        for p in (partial / "0").glob("[0-9]*/0/0")
        if p.is_file()
    }


def test_two_workers_make_what_one_process_makes(scheduler, movie, alone, tiny_model, tmp_path):
    output = tmp_path / "out.ome.zarr"
    words = ["enhance", movie, "-o", output, "-m", tiny_model, "--device", "cpu", "--scheduler", scheduler]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert_same(read(output), alone)
    assert [p.name for p in tmp_path.iterdir()] == ["out.ome.zarr"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_worker_costs_nothing_but_time(scheduler, movie, alone, tiny_model, tmp_path):
    job = EnhanceJob(
        read(movie),
        engine=EngineOptions(model=tiny_model, device="cpu"),
        output=tmp_path / "out.ome.zarr",
        scheduler=scheduler,
    )
    steps = iter_enhance(job)
    step = next(step for step in steps if step.done)
    assert step.done < step.total
    with distributed.Client(scheduler, set_as_default=False) as client:
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
    *_, last = steps
    assert last.done == last.total == N_FRAMES
    assert_same(last.result, alone)


def test_an_interrupted_client_resumes_and_computes_nothing_twice_that_it_has_heard_of(
    scheduler, movie, alone, tiny_model, tmp_path
):
    output = tmp_path / "out.ome.zarr"
    job = EnhanceJob(
        read(movie), engine=EngineOptions(model=tiny_model, device="cpu"), output=output, scheduler=scheduler
    )
    steps = iter_enhance(job)
    next(step for step in steps if step.done)
    steps.close()
    assert not output.exists()
    kept = chunks(tmp_path / "out.ome.zarr.partial")
    assert 0 < len(kept) < N_FRAMES
    resumed = iter_enhance(
        EnhanceJob(
            read(movie),
            engine=EngineOptions(model=tiny_model, device="cpu"),
            output=output,
            scheduler=scheduler,
            resume=True,
        )
    )
    step = next(step for step in resumed if step.done)
    n_heard = N_FRAMES - step.total
    # each of the two workers may write one more in the moment the client leaves
    assert max(1, len(kept) - 2) <= n_heard <= len(kept)
    *_, last = resumed
    assert_same(last.result, alone)
    final = {(p.stat().st_ino, p.stat().st_mtime_ns) for p in output.glob("0/*/0/0")}
    assert len(set(kept.values()) & final) >= n_heard  # not written again to the end


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs a path that differs between processes")
def test_a_worker_that_does_not_see_the_file_is_named(scheduler, movie, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(movie.parent)
    job = EnhanceJob(
        read("/proc/self/cwd/movie.tif"),
        engine=EngineOptions(model=tiny_model, device="cpu"),
        output=tmp_path / "o.zarr",
        scheduler=scheduler,
    )
    with pytest.raises(
        ValueError, match=rf"on {socket.gethostname()}: /proc/self/cwd/movie.tif: no such file"
    ):
        list(iter_enhance(job))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs a path that differs between processes")
def test_a_worker_that_does_not_see_the_output_is_named(scheduler, movie, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = Path("/proc/self/cwd/o.zarr")
    job = EnhanceJob(
        read(movie), engine=EngineOptions(model=tiny_model, device="cpu"), output=output, scheduler=scheduler
    )
    with pytest.raises(ValueError, match=rf"on {socket.gethostname()}: {output}.partial: cannot be written"):
        list(iter_enhance(job))


def test_a_damaged_frame_ends_the_job_and_keeps_the_others(scheduler, movie, tiny_model, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(4):
        write(Image(read(movie).frames(i, i + 1)[0]), folder / f"{i}.tif")
    image = read(folder)
    data = (folder / "2.tif").read_bytes()
    (folder / "2.tif").write_bytes(data[: len(data) // 2])
    output = tmp_path / "out.ome.zarr"
    job = EnhanceJob(
        image,
        engine=EngineOptions(model=tiny_model, device="cpu"),
        output=output,
        first=1,
        scheduler=scheduler,
    )
    with pytest.raises(ValueError, match=r"2\.tif"):
        list(iter_enhance(job))
    assert not output.exists()


def test_an_address_without_scheduler_is_said_at_once(movie, tiny_model, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        words = ["enhance", str(movie), "-o", str(tmp_path / "o.zarr"), "-m", str(tiny_model)]
        import napari_lowdose_tem.enhancement.cluster as cluster

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "_CONNECT_S", 1)
            result = CliRunner().invoke(app, [*words, "--scheduler", address])
            other = CliRunner().invoke(app, [*words, "--scheduler", "nonsense://x"])
    for bad in (result, other):
        assert bad.exit_code == 2
        assert "no dask scheduler answers there" in bad.stderr
    assert not list(tmp_path.iterdir())


def test_outputs_of_one_file_are_refused_with_the_reason(movie, tiny_model, tmp_path):
    words = ["enhance", str(movie), "-m", str(tiny_model), "--scheduler", "tcp://nowhere:1"]
    result = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "out.tif")])
    assert result.exit_code == 2
    assert "only a Zarr allows" in " ".join(result.stderr.split())
    with pytest.raises(ValueError, match="only a Zarr"):
        list(
            iter_enhance(
                EnhanceJob(read(movie), engine=EngineOptions(model=tiny_model), scheduler="tcp://nowhere:1")
            )
        )


def test_blocks_are_grouped_into_tasks_that_go_round():
    ranges = [FrameRange(first, first + 3) for first in range(0, 30, 3)]
    assert [r for group in _group_ranges(ranges, 2, (40, 56)) for r in group] == ranges
    assert max(map(len, _group_ranges(ranges, 2, (40, 56)))) == 1
    long = [FrameRange(first, first + 1) for first in range(100_000)]
    groups = _group_ranges(long, 2, (512, 500))
    assert {len(next(groups)) for _ in range(5)} == {16}
    assert len(next(_group_ranges(long, 2, (4096, 4000)))) == 1


def test_finished_blocks_are_merged():
    assert merge_ranges(FrameRange(*r) for r in [(0, 2), (2, 4), (6, 8), (8, 9)]) == [(0, 4), (6, 9)]
    assert merge_ranges([]) == []


def test_workers_that_would_compute_otherwise_are_refused():
    made = {"precision": "float16", "torch": "2.9", "device": "A100"}
    check_same("node3", {**made, "device": "H200"}, made)
    with pytest.raises(ValueError, match=r"node3 has precision float32, others float16; .*--precision"):
        check_same("node3", {**made, "precision": "float32"}, made)
