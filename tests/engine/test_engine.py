import numpy as np
import pytest
import torch

from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.enhancement import EnhanceJob, enhance, iter_enhance
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read
from napari_lowdose_tem.network.model_file import ModelInfo, load_model, save_model
from napari_lowdose_tem.network.networks import build_network
from napari_lowdose_tem.network.scaling import RECIPES
from napari_lowdose_tem.simulate import MEASURED, draw_specimen, expose, render


@pytest.fixture
def engine(tiny_model):
    with Engine(tiny_model, "cpu", precision="float32") as engine:
        yield engine


def run_plainly(engine, counts):
    """The network on the whole frame, by hand: level, reflection to multiples of 32, back to counts."""
    rows, cols = counts.shape
    level = counts.mean()
    padded = np.pad(counts / level, ((0, -rows % 32), (0, -cols % 32)), mode="reflect").astype(np.float32)
    with torch.inference_mode():
        return engine.model.network(torch.from_numpy(padded)[None, None])[0, 0].numpy()[:rows, :cols] * level


def assert_close(result, expected, share_of_range):
    """Largest difference within a share of the expected range (1 for a constant)."""
    assert np.abs(result - expected).max() <= share_of_range * (np.ptp(expected) or 1.0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (31, 517), (64, 96), (100, 133), (512, 500)])
def test_any_size_equals_the_plain_network(engine, shape):
    counts = np.random.default_rng(1).poisson(5.0, shape) * 44.0 + 10
    assert_close(engine.enhance(counts), run_plainly(engine, counts), 1e-4)


@pytest.mark.parametrize("shape", [(31, 1317), (1000, 1333)])
def test_tiled_equals_untiled(tiny_model, engine, shape):
    counts = np.random.default_rng(2).poisson(5.0, shape) * 44
    whole = engine.enhance(counts)
    with Engine(tiny_model, "cpu", precision="float32", tile_px=1056) as tiled:
        result = tiled.enhance(counts)
    assert_close(result, whole, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["default", "fast", "paper"])
@pytest.mark.parametrize("shape", [(1, 1), (31, 517), (512, 512), (1000, 1333), (2048, 2048)])
def test_shipped_models_in_the_smallest_tiles_equal_the_whole(model, shape):
    field_nm = (3.0 * max(shape), 3.0 * max(shape))
    specimen = draw_specimen("silicate", field_nm, 8, n_particles=150)
    scene = render(specimen, (max(shape), max(shape))).transmission[: shape[0], : shape[1]]
    counts = expose(5 * scene, MEASURED, 1)
    with Engine(model, "cpu", precision="float32", tile_px=8192) as whole:
        expected = whole.enhance(counts + 10)
    with Engine(model, "cpu", precision="float32", tile_px=640) as tiled:
        result = tiled.enhance(counts + 10)
    assert_close(result, expected, 1e-3)


def test_half_precision_agrees_within_its_digits(tiny_model, engine, counts):
    with Engine(tiny_model, "cpu", precision="bfloat16") as half:
        rounded, exact = half.enhance(counts), engine.enhance(counts)
    assert not np.array_equal(rounded, exact)
    assert_close(rounded, exact, 0.02)


def test_one_level_for_a_stack_keeps_its_brightness_steps(engine):
    frame = np.random.default_rng(3).poisson(200.0, (64, 96))
    stack = Image(np.stack([frame, 2 * frame, 4 * frame]))
    scaling = engine.measure(stack)
    assert scaling.scale == pytest.approx(frame.mean() * 7 / 3)
    together = engine.enhance(stack.frames(0, 3), scaling)
    alone = engine.enhance(frame, scaling)
    assert_close(together[0], alone, 1e-5)


def test_dead_pixels_are_filled_and_harm_nothing_far_away(engine, counts):
    holed = counts.astype(np.float32)
    holed[:, 5, 7] = np.nan
    holed[:, 6, 7] = np.inf
    output = engine.enhance(holed)
    assert np.isfinite(output).all()


def test_big_endian_and_signed_counts_are_read_right(engine, counts):
    expected = engine.enhance(counts)
    for dtype in (">u2", "<i4", ">f4", "float64"):
        assert_close(engine.enhance(counts.astype(dtype)), expected, 1e-5)


@pytest.mark.parametrize("value", [0, -3])
def test_frames_without_signal_are_refused(engine, value):
    with pytest.raises(ValueError, match=r"blank.*no signal"):
        engine.measure(Image(np.full((2, 8, 9), value), name="blank"))


def test_empty_frames_within_a_stack_become_dark(engine):
    rng = np.random.default_rng(5)
    stack = np.stack([rng.poisson(200.0, (64, 96)), np.zeros((64, 96)), rng.poisson(200.0, (64, 96))])
    scaling = engine.measure(Image(stack))
    assert scaling.scale == pytest.approx(200, rel=0.01)
    assert np.isfinite(engine.enhance(stack, scaling)).all()


@pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError])
def test_out_of_memory_halves_batch_then_tile(engine, monkeypatch, kind):
    counts = np.random.default_rng(0).poisson(50.0, (3, 64, 1472))
    expected = engine.enhance(counts)
    submit, sizes = engine.runner.submit, []

    def run_in_little_memory(counts, scalings):
        sizes.append(counts.shape)
        if counts.size > 64 * 800:
            raise kind("CUDA out of memory. Tried to allocate 2 GiB")
        return submit(counts, scalings)

    monkeypatch.setattr(engine.runner, "submit", run_in_little_memory)
    output = engine.enhance(counts)
    assert [s for s in sizes if s[-1] == 1472] == [(3, 64, 1472), (1, 64, 1472)]
    assert max(s[-1] for s in sizes[2:]) <= 736
    assert "out of memory" in engine.note
    assert_close(output, expected, 2e-3)


def test_out_of_memory_for_the_smallest_tile_says_what_to_do(engine, counts, monkeypatch):
    def run_out(counts, scalings):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(engine.runner, "submit", run_out)
    with pytest.raises(MemoryError, match="close other programs"):
        engine.enhance(counts)


def test_other_errors_of_the_network_are_not_taken_for_memory(engine, counts, monkeypatch):
    def fail(counts, scalings):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(engine.runner, "submit", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        engine.enhance(counts)


def test_closed_engine_gives_its_network_back(tiny_model, counts):
    engine = Engine(tiny_model, "cpu")
    engine.close()
    with pytest.raises(ValueError, match="closed"):
        engine.enhance(counts)


def test_unit_recipes_come_back_in_counts(tmp_path, counts):
    info = ModelInfo("unit", "1", {"name": "light-unet", "channels": [5, 5, 5, 5, 5]}, RECIPES["paper"])
    network = build_network(dict(info.architecture))
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    # the stem copies a 2 × 2 block into four channels, the head back: an identity on positive input
    for i in range(4):
        network.stem.weight.data[i, i, 1, 1] = 1
        network.head.weight.data[i, i, 1, 1] = 1
    path = save_model(tmp_path / "unit.safetensors", network.state_dict(), info, half=False)
    smooth = np.linspace(100, 300, 96 * 160).reshape(96, 160)
    with Engine(path, "cpu", precision="float32") as engine:
        output = engine.enhance(smooth)
    low, high = np.percentile(smooth, [1, 80])
    inside = (smooth > low) & (smooth < high)
    # the recipe clips 1 % and 20 % away; what it keeps must come back on the counts' own scale
    slope = np.polyfit(smooth[inside], output[inside], 1)[0]
    assert slope == pytest.approx(1, abs=0.25)


def test_job_keeps_calibration_and_tells_how_it_was_made(tiny_model, counts, tmp_path):
    image = Image(counts, (2.5, 1.5), 44.0, 0.04, "movie", {"source": "scope.dm4"})
    result = enhance(image, tiny_model, "cpu")
    assert result.data.shape == counts.shape
    assert result.data.dtype == np.float32
    assert (result.pixel_size_nm, result.counts_per_electron, result.frame_time_s) == ((2.5, 1.5), 44.0, 0.04)
    made = result.provenance["enhanced"]
    assert result.provenance["source"] == "scope.dm4"
    assert made["model"] == "tiny"
    assert made["model_sha256"] == load_model(tiny_model).file.sha256
    for ending in ("out.tif", "out.ome.tif", "out.ome.zarr"):
        job = EnhanceJob(
            image, engine=EngineOptions(model=tiny_model, device="cpu"), output=tmp_path / ending
        )
        *_, last = iter_enhance(job)
        np.testing.assert_array_equal(last.result.frames(0, 3), result.data)
        assert last.result.pixel_size_nm == (2.5, 1.5)
        assert last.result.provenance["enhanced"]["model"] == "tiny"
        assert read(tmp_path / ending).counts_per_electron == 44.0


def test_a_single_frame_stays_single(tiny_model, counts, tmp_path):
    *_, last = iter_enhance(
        EnhanceJob(
            Image(counts[0]),
            engine=EngineOptions(model=tiny_model, device="cpu"),
            output=tmp_path / "one.tif",
        )
    )
    assert last.result.data.shape == counts[0].shape
    one_frame_stack = enhance(Image(counts[:1]), tiny_model, "cpu")
    assert one_frame_stack.data.shape == (1, *counts[0].shape)


def test_progress_counts_frames_and_ends_at_the_total(tiny_model, tmp_path):
    stack = Image(np.random.default_rng(0).poisson(50.0, (3, 704, 896)))
    steps = list(
        iter_enhance(EnhanceJob(stack, engine=EngineOptions(model=tiny_model, device="cpu", tile_px=640)))
    )
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert done[-1] == 3 == steps[-1].total
    assert len(done) > 3 * 4  # tiles are reported, not only frames
    assert [step.first for step in steps if step.frames is not None] == [0, 1, 2]


def test_cancel_within_a_tile_and_resume_equals_an_uninterrupted_run(tiny_model, tmp_path):
    rng = np.random.default_rng(1)
    stack = Image(rng.poisson(50.0, (6, 400, 560)).astype(np.uint16), provenance={"source": "a.dm4"})
    whole, broken = tmp_path / "whole.ome.zarr", tmp_path / "broken.ome.zarr"
    *_, last = iter_enhance(
        EnhanceJob(stack, engine=EngineOptions(model=tiny_model, device="cpu"), output=whole)
    )
    expected = last.result.frames(0, 6)
    steps = iter_enhance(
        EnhanceJob(stack, engine=EngineOptions(model=tiny_model, device="cpu"), output=broken)
    )
    for step in steps:
        if step.frames is not None and step.first >= 2:
            break
    steps.close()
    assert not broken.exists()
    resumed = list(
        iter_enhance(
            EnhanceJob(
                stack, engine=EngineOptions(model=tiny_model, device="cpu"), output=broken, resume=True
            )
        )
    )
    assert resumed[-1].total == 3  # only what was missing
    np.testing.assert_array_equal(resumed[-1].result.frames(0, 6), expected)


def test_range_of_frames(tiny_model, counts):
    part = enhance(Image(counts), tiny_model, "cpu", first=1, last=3)
    assert part.data.shape == (2, *counts.shape[1:])
    assert part.provenance["enhanced"]["frames"] == [1, 3]
    with pytest.raises(ValueError, match="not within"):
        enhance(Image(counts), tiny_model, "cpu", first=2, last=9)
