"""The whole way, with a small network."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import zarr

from napari_lowdose_tem.io import read
from napari_lowdose_tem.live import FolderSource, ReplaySource, Skipped, iter_live
from napari_lowdose_tem.live.average import RecursiveAverage

QUICK = {"poll_s": 0.01, "patience_s": 0.3}
SHAPE = (40, 56)

WRITER = """
import os, sys, time
from pathlib import Path
import numpy as np, tifffile
folder, n_frames = Path(sys.argv[1]), int(sys.argv[2])
for n in range(n_frames):
    counts = (np.random.default_rng(n).poisson(5, (40, 56)) * 44 + n).astype(np.uint16)
    path = folder / f"frame_{n}.tif"
    if n % 10 == 3:  # cut short
        tifffile.imwrite(folder / "whole", counts)
        data = (folder / "whole").read_bytes()
        path.write_bytes(data[: len(data) // 2])
        (folder / "whole").unlink()
    elif n % 10 == 5:  # foreign
        (folder / f"frame_{n}.log").write_text("exposure 33 ms")
    elif n % 2:  # renamed into place
        tifffile.imwrite(folder / f"frame_{n}.part", counts)
        os.rename(folder / f"frame_{n}.part", path)
    else:  # written in pieces
        tifffile.imwrite(folder / ".whole", counts)
        data = (folder / ".whole").read_bytes()
        with open(path, "wb", buffering=0) as file:
            for start in range(0, len(data), 2000):
                file.write(data[start : start + 2000])
                time.sleep(0.002)
    time.sleep(0.01)
"""


@pytest.fixture
def expected(tiny_model):
    """Enhances frames at the level of the first."""
    from napari_lowdose_tem.engine.engine import Engine
    from napari_lowdose_tem.network.scaling import measure_scaling

    def enhance(stack):
        with Engine(tiny_model, "cpu", precision="float32") as engine:
            scaling = measure_scaling(engine.model.info.recipe, stack[0])
            return np.concatenate([engine.enhance(frame[None], scaling) for frame in stack])

    return enhance


def outputs(steps):
    return [step for step in steps if step.output is not None]


def test_every_frame_is_enhanced_in_order_at_one_level(config, stack, expected):
    steps = list(iter_live(config))
    shown = outputs(steps)
    assert [step.name for step in shown] == [f"frame {n}" for n in range(9)]
    np.testing.assert_allclose(np.stack([s.output.data for s in shown]), expected(stack.data), rtol=1e-4)
    np.testing.assert_array_equal(shown[4].raw.data, stack.data[4])
    last, image = steps[-1], shown[-1].output
    assert (last.arrived, last.enhanced, last.dropped, last.waiting) == (9, 9, 0, 0)
    assert last.latency_ms_p99 >= last.latency_ms_p50 > 0
    assert image.pixel_size_nm == (2.0, 3.0)
    assert image.counts_per_electron == 44.0
    made = image.provenance["enhanced"]
    assert made["level_counts"] == pytest.approx(stack.data[0].mean())
    assert made["model_sha256"]


def test_newest_frame_wins_and_all_are_accounted_for(config, stack):
    slow = ReplaySource(stack, 300.0)
    steps = outputs(iter_live(replace(config, source=slow, save_all=False)))
    for step in steps:
        assert 0 <= step.arrived - step.enhanced - step.dropped - step.waiting <= 1
    last = steps[-1]
    assert last.name == "frame 8"
    assert last.arrived == 9 == last.enhanced + last.dropped


@pytest.mark.parametrize("of", ["raw", "enhanced"])
def test_average_over_time(config, stack, expected, of):
    steps = outputs(iter_live(replace(config, average_s=0.8 / 1e5, average_of=of, level="frame")))
    average = RecursiveAverage(0.8)
    inputs = [average.add(f, n) for n, f in enumerate(stack.data)] if of == "raw" else stack.data
    alone = [expected(frame[None])[0] for frame in inputs]
    average = RecursiveAverage(0.8)
    wanted = alone if of == "raw" else [average.add(frame, n) for n, frame in enumerate(alone)]
    for step, frame, raw in zip(steps, wanted, inputs, strict=True):
        np.testing.assert_allclose(step.output.data, frame, rtol=1e-3, atol=0.05)
        np.testing.assert_allclose(step.raw.data, raw, rtol=1e-4)
    assert steps[0].output.provenance["enhanced"]["average_of"] == of


def test_camera_program_writing_meanwhile(config, tmp_path, expected):
    folder, out = tmp_path / "camera", tmp_path / "out.ome.zarr"
    folder.mkdir()
    n_frames = 40
    good = [n for n in range(n_frames) if n % 10 not in (3, 5)]
    live = replace(config, source=FolderSource(folder, **QUICK), output=out, until_idle_s=20.0)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(n_frames)]) as writer:
        steps = []
        for step in iter_live(live):
            steps.append(step)
            if step.saved == len(good) and step.n_skipped == n_frames - len(good):
                break
        assert writer.wait() == 0
    assert [step.name for step in outputs(steps)] == [f"frame_{n}.tif" for n in good]
    skipped = {item.name for item in steps[-1].skipped}
    assert skipped == {f"frame_{n}.{'tif' if n % 10 == 3 else 'log'}" for n in range(n_frames)} - {
        f"frame_{n}.{end}" for n in good for end in ("tif", "log")
    } - {f"frame_{n}.log" for n in range(3, n_frames, 10)} - {
        f"frame_{n}.tif" for n in range(5, n_frames, 10)
    }
    result = read(out)
    assert result.n_frames == len(good)
    frames = [np.random.default_rng(n).poisson(5, SHAPE) * 44 + n for n in good]
    np.testing.assert_allclose(np.asarray(result.data), expected(np.stack(frames)), rtol=1e-3, atol=0.05)
    lines = (tmp_path / "out.ome.zarr.frames.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [str(i), f"frame_{n}.tif"] for i, n in enumerate(good)
    ]


@pytest.mark.parametrize("kind", ["out.ome.zarr", "out"])
def test_interrupted_output_is_readable_and_goes_on(config, stack, tmp_path, kind):
    path = tmp_path / kind
    config = replace(config, output=path)
    steps = iter_live(config)
    for step in steps:
        if step.enhanced == 4:
            break
    steps.close()
    before = read(path)
    assert 1 <= before.n_frames == step.saved or before.n_frames == 4
    n_before = before.n_frames
    with pytest.raises(ValueError, match="resume"):
        list(iter_live(config))
    with pytest.raises(ValueError, match=r"average_s was 0\.0, is 2"):
        list(iter_live(replace(config, resume=True, average_s=2)))
    last = list(iter_live(replace(config, resume=True)))[-1]
    assert last.enhanced == 9 - n_before
    whole = read(path)
    assert whole.n_frames == 9
    once = list(iter_live(replace(config, output=tmp_path / f"other-{kind}")))[-1]
    assert once.saved == 9
    np.testing.assert_array_equal(np.asarray(whole.data), np.asarray(read(tmp_path / f"other-{kind}").data))
    assert whole.pixel_size_nm == (2.0, 3.0)
    assert list(iter_live(replace(config, resume=True)))[-1].enhanced == 0


def test_killed_between_pixels_and_table(config, tmp_path):
    path = tmp_path / "out.ome.zarr"
    list(iter_live(replace(config, output=path)))
    whole = np.asarray(read(path).data)
    table = tmp_path / "out.ome.zarr.frames.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:7]) + "\n6,fra")  # the seventh frame's line is torn
    meta = path / "0" / ".zarray"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"shape": [2**31 - 1, *SHAPE]}))
    last = list(iter_live(replace(config, output=path, resume=True)))[-1]
    assert last.enhanced == 3
    np.testing.assert_array_equal(np.asarray(read(path).data), whole)
    assert zarr.open_array(path / "0").shape == (9, *SHAPE)


def test_frame_of_another_shape_is_followed_or_refused(config, tmp_path, save_tiff):
    folder = tmp_path / "camera"
    folder.mkdir()
    save_tiff(folder, 0)
    read(folder / "frame_0.tif")
    from tifffile import imwrite

    imwrite(folder / "frame_1.tif", np.full((24, 40), 7, np.uint16))
    save_tiff(folder, 2)
    live = replace(config, source=FolderSource(folder, **QUICK), until_idle_s=1.0)
    assert [step.output.data.shape for step in outputs(iter_live(live))] == [SHAPE, (24, 40), SHAPE]
    *_, last = iter_live(replace(live, output=tmp_path / "out"))
    assert last.saved == last.arrived == 2
    assert last.skipped == (Skipped("frame_1.tif", "24 × 40 px, the frames saved have 40 × 56 px"),)


def test_reports_are_thinned_out_but_nothing_is_lost(config, stack):
    steps = list(iter_live(replace(config, report_every_s=1000.0)))
    assert len(outputs(steps)) <= 2
    assert steps[-1].enhanced == 9
    assert steps[-1].name == "frame 8"


def test_closing_ends_the_reader(config, stack):
    import threading

    steps = iter_live(replace(config, source=ReplaySource(stack, 1000.0, loop=True)))
    for step in steps:
        if step.enhanced > 2:
            break
    steps.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("live-")]


def test_wrong_values_are_refused_at_once(config, tmp_path):
    for options in ({"average_of": "both"}, {"level": "last"}, {"average_s": -1.0}):
        with pytest.raises(ValueError, match=r"choose|average"):
            replace(config, **options)
    with pytest.raises(ValueError, match="zarr or to a folder"):
        list(iter_live(replace(config, output=tmp_path / "out.tif")))
    with pytest.raises(FileNotFoundError, match="create it first"):
        list(iter_live(replace(config, output=tmp_path / "none" / "out.zarr")))


def test_core_imports_neither_torch_nor_qt():
    names = ("torch", "qtpy", "napari")
    code = f"import sys, napari_lowdose_tem.live; print([m for m in {names} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
