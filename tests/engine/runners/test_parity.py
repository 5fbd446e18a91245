"""What happens with a processor that computes wrongly."""

import re

import numpy as np
import pytest
import torch

from napari_lowdose_tem.engine import engine as engine_module
from napari_lowdose_tem.engine.device import Device
from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.engine.runners import TorchRunner, compare_runner
from napari_lowdose_tem.engine.runners.fold import fold_batch_norm
from napari_lowdose_tem.network.model_file import load_model

LIAR = Device("mps", "Apple GPU", "float16")


class LyingRunner(TorchRunner):
    """Torch on the CPU, its result changed."""

    closed = 0

    def __init__(self, model, change):
        super().__init__(fold_batch_norm(model.network), Device("cpu", "CPU", "float32"))
        self._change = change

    def submit(self, counts, scalings):
        frames = super().submit(counts, scalings)()
        return lambda: self._change(frames)

    def close(self):
        LyingRunner.closed += 1


def add_ripple(share):
    def change(frames):
        wave = np.sin(np.arange(frames.shape[-1])) * np.sqrt(2) * share
        return frames + wave.astype(np.float32) * np.ptp(frames)

    return change


def lose_a_pixel(frames):
    lost = frames.copy()
    lost[:, 7, 11] = np.nan
    return lost


def fail(frames):
    raise RuntimeError("kernel not found for this chip\nsee the manual")


@pytest.fixture
def lie(monkeypatch):
    """Make an accelerator that is chosen first and changes its output."""

    def begin(change):
        LyingRunner.closed = 0
        choose, open_plain = engine_module.choose_device, engine_module.open_runner
        monkeypatch.setattr(
            engine_module,
            "choose_device",
            lambda wanted="auto", precision="auto": (
                LIAR if wanted in ("auto", "mps") else choose(wanted, precision)
            ),
        )
        monkeypatch.setattr(
            engine_module,
            "open_runner",
            lambda model, device: LyingRunner(model, change) if device is LIAR else open_plain(model, device),
        )

    return begin


LIES = [
    (add_ripple(0.05), r"differs from float32 by 5\.0%"),
    (np.zeros_like, "differs from float32"),
    (lose_a_pixel, "differs from float32"),
    (lambda frames: frames[..., ::-1], "differs from float32"),
    (fail, "cannot run this network: kernel not found"),
]


@pytest.mark.parametrize(("change", "reason"), LIES)
def test_auto_takes_the_cpu_instead_and_says_why(lie, tiny_model, counts, change, reason):
    expected = Engine(tiny_model, "cpu").enhance(counts)
    lie(change)
    with Engine(tiny_model, "auto") as engine:
        assert engine.device.kind == "cpu"
        assert engine.parity.is_close
        assert re.search(reason, engine.note)
        assert "Apple GPU" in engine.note
        assert "\n" not in engine.note
        np.testing.assert_array_equal(engine.enhance(counts), expected)


@pytest.mark.parametrize(("change", "reason"), LIES)
def test_one_asked_for_is_refused_with_the_reason(lie, tiny_model, change, reason):
    lie(change)
    with pytest.raises(ValueError, match=reason) as refusal:
        Engine(tiny_model, "mps")
    assert "choose another device" in str(refusal.value)
    assert LyingRunner.closed == 1


def test_rounding_within_the_precision_is_accepted(lie, tiny_model):
    lie(add_ripple(0.005))
    with Engine(tiny_model, "mps") as engine:
        assert engine.device is LIAR
        assert engine.parity.rms == pytest.approx(0.005, rel=0.05)


def test_parity_is_a_share_of_the_range(tiny_model):
    model = load_model(tiny_model)
    for share in (0.001, 0.02):
        runner = LyingRunner(model, add_ripple(share))
        parity = compare_runner(runner, model.network, model.info.recipe, "float16")
        assert parity.rms == pytest.approx(share, rel=0.05)
        assert parity.largest == pytest.approx(share * np.sqrt(2), rel=0.05)
        assert parity.is_close == (share < 0.01)


def test_a_network_of_another_shape_is_not_taken(tiny_model):
    model = load_model(tiny_model)
    with torch.no_grad():
        next(iter(model.network.parameters())).mul_(1.5)
    original = load_model(tiny_model)
    runner = TorchRunner(fold_batch_norm(model.network), Device("cpu", "CPU", "float32"))
    assert not compare_runner(runner, original.network, original.info.recipe, "float32").is_close
