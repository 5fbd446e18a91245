import numpy as np
import pytest
import torch
from torch import nn

from napari_lowdose_tem.engine.runners.quantise import EightBitConv, iter_typical_inputs, quantise
from napari_lowdose_tem.network.model_file import load_model
from napari_lowdose_tem.network.scaling import RECIPES


@pytest.fixture
def conv():
    torch.manual_seed(0)
    return nn.Conv2d(40, 33, 3, padding=1)


def test_convolution_sees_256_levels_of_its_range_and_zero_is_one_of_them(conv):
    eight = EightBitConv(conv, -1.0, 3.0)
    identity = nn.Conv2d(40, 40, 1, bias=False)
    nn.init.dirac_(identity.weight)
    eye = EightBitConv(identity, -1.0, 3.0)
    values = torch.linspace(-2, 4, 40 * 9 * 11).reshape(1, 40, 9, 11)
    with torch.inference_mode():
        seen = eye(values)
        assert eye(torch.zeros(1, 40, 2, 2)).abs().max() == 0
    assert len(seen.unique()) == 256
    inside = (values > -1) & (values < 3)
    assert float((seen - values)[inside].abs().max()) <= 0.51 * 4 / 255
    assert float(seen.min()) == pytest.approx(-1, abs=4 / 255)
    assert float(seen.max()) == pytest.approx(3, abs=4 / 255)
    assert eight.step == pytest.approx(4 / 255)


def test_weights_keep_their_own_scale_in_every_channel(conv):
    with torch.no_grad():
        conv.weight[3] *= 1e-3
    eight = EightBitConv(conv, 0.0, 1.0)
    image = torch.rand(1, 40, 12, 9)
    with torch.inference_mode():
        exact, rounded = conv(image), eight(image)
    error = (exact - rounded).abs().amax((0, 2, 3)) / conv.weight.detach().abs().sum((1, 2, 3))
    assert float(error.max()) < 0.01


def test_thin_and_fine_layers_stay_as_they_are_and_others_hold_all_they_have_seen():
    layers = nn.Conv2d(1, 16, 1), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.Conv2d(24, 8, 1)
    network = nn.Sequential(*layers)
    frames = [torch.full((1, 1, 9, 11), value) for value in (0.1, 5.0)]
    quantised = quantise(network, frames)
    assert [type(m) is EightBitConv for m in quantised] == [False, False, False, True, False]
    with torch.inference_mode():
        highest = float(network[:3](frames[1]).max())
    assert quantised[3].zero == 0
    assert quantised[3].step * 255 == pytest.approx(highest)


def test_without_frames_there_is_no_range():
    with pytest.raises(ValueError, match="no frames"):
        quantise(nn.Sequential(nn.Conv2d(32, 32, 3)), [])


def test_typical_inputs_span_what_a_network_sees():
    inputs = list(iter_typical_inputs(RECIPES["level"]))
    assert all(frame.shape == (1, 1, 256, 384) for frame in inputs)
    assert all(np.isclose(float(frame.mean()), 1, atol=0.05) for frame in inputs)
    hole = max(float(frame[..., -90:].mean()) for frame in inputs)
    assert hole > 2


def test_eight_bits_cost_less_than_half_a_percent_of_the_level():
    model = load_model("fast")
    quantised = quantise(model.network, iter_typical_inputs(model.info.recipe))
    frames = list(iter_typical_inputs(model.info.recipe))[:3]
    assert any(isinstance(module, EightBitConv) for module in quantised.modules())
    for frame in frames:
        with torch.inference_mode():
            exact, rounded = model.network(frame), quantised(frame)
        error = float((rounded - exact).square().mean().sqrt() / exact.mean())
        assert 0 < error < 0.005
