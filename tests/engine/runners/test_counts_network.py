import numpy as np
import pytest
import torch
from torch.nn import functional

from napari_lowdose_tem.engine.runners.counts_network import CountsNetwork, FastDoubling, double, list_numbers
from napari_lowdose_tem.network.networks import build_network
from napari_lowdose_tem.network.scaling import Scaling

SCALINGS = [Scaling(13.7, 211.3, -4.0, 16.0, 197.1, 2.9), Scaling(0.0, 3.1, 0.0, 1.0, 1.0, -7.3)]


def draw(dtype):
    counts = np.random.default_rng(0).poisson(220, (2, 24, 40)).astype(dtype)
    counts[:, 3, 5] = 65535
    counts[:, 4, 5] = 0
    if np.issubdtype(dtype, np.floating):
        counts[:, 5, 7], counts[:, 6, 7], counts[:, 7, 7] = np.nan, np.inf, -np.inf
    return counts


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_scaling_is_that_of_the_recipe_bit_for_bit(dtype):
    counts = draw(dtype)
    seen = []

    class Network(torch.nn.Module):
        def forward(self, x):
            seen.append(x[:, 0].clone())
            return x * 1.25

    output = CountsNetwork(Network(), torch.float32)(
        torch.from_numpy(counts), torch.from_numpy(list_numbers(SCALINGS))
    )
    scaled = np.stack([s.normalise(frame) for s, frame in zip(SCALINGS, counts, strict=True)])
    np.testing.assert_array_equal(seen[0].numpy(), scaled)
    expected = [s.to_counts(frame * np.float32(1.25)) for s, frame in zip(SCALINGS, scaled, strict=True)]
    np.testing.assert_array_equal(output.numpy(), np.stack(expected))


def test_the_network_gets_its_format_with_channels_last():
    class Network(torch.nn.Module):
        def forward(self, x):
            assert x.dtype == torch.float16
            assert x.stride() == (24 * 40, 1, 40, 1)  # what cuDNN takes for channels last
            return x

    output = CountsNetwork(Network(), torch.float16)(
        torch.from_numpy(draw(np.uint16)), torch.from_numpy(list_numbers(SCALINGS))
    )
    assert output.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 32, 6, 4), (1, 3, 4, 5), (1, 1, 3, 2), (2, 6, 3, 5)])
def test_doubling_is_that_of_torch_bit_for_bit(dtype, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = functional.interpolate(x, scale_factor=2, mode="nearest")
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        result = double(given)
        assert torch.equal(result, expected)
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_only_what_doubles_is_replaced(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "napari_lowdose_tem.engine.runners.counts_network.double",
        lambda x: calls.append(x.shape) or double(x),
    )
    x = torch.randn(1, 4, 6, 5)
    cases = [
        ({"scale_factor": 2.0, "mode": "nearest"}, True),
        ({"scale_factor": 2}, True),
        ({"size": (12, 10)}, True),
        ({"size": (12, 15)}, False),
        ({"scale_factor": 3.0}, False),
        ({"scale_factor": 2.0, "mode": "bilinear"}, False),
    ]
    for arguments, is_replaced in cases:
        calls.clear()
        expected = functional.interpolate(x, **arguments)
        with FastDoubling():
            result = functional.interpolate(x, **arguments)
        assert bool(calls) == is_replaced
        assert torch.equal(result, expected)


@pytest.mark.parametrize(("architecture", "n"), [({"name": "smp-unet"}, 5), ({"name": "light-unet"}, 4)])
def test_the_networks_double_by_what_is_replaced(monkeypatch, architecture, n):
    calls = []
    monkeypatch.setattr(
        "napari_lowdose_tem.engine.runners.counts_network.double",
        lambda x: calls.append(x.shape) or double(x),
    )
    torch.manual_seed(0)
    network = build_network(architecture).eval()
    x = torch.randn(1, 1, 32, 64)
    with torch.no_grad():
        expected = network(x)
        with FastDoubling():
            result = network(x)
    assert len(calls) == n
    # channels last has other sums in torch's convolutions
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
