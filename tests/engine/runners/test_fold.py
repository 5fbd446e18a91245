import pytest
import torch
from torch import nn

from napari_lowdose_tem.engine.device import Device
from napari_lowdose_tem.engine.runners.fold import fold_batch_norm
from napari_lowdose_tem.engine.runners.runner import place
from napari_lowdose_tem.network.model_file import load_model


@pytest.fixture
def network():
    """The paper's network with batch norms that do something."""
    torch.manual_seed(2)
    network = load_model("paper").network
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def test_folded_network_has_no_batch_norm_and_the_same_output(network):
    frame = torch.randn(1, 1, 64, 96)
    folded = fold_batch_norm(network)
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.inference_mode():
        expected = network(frame)
        torch.testing.assert_close(folded(frame), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_norms_that_follow_something_else_stay():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4))
    assert isinstance(fold_batch_norm(network)[2], nn.BatchNorm2d)


def test_last_layer_keeps_its_digits_in_half_precision(network):
    with torch.no_grad():
        network.head[0].weight.mul_(1 / 3)
    placed = place(network, Device("cpu", "CPU", "bfloat16"))
    assert torch.equal(placed.head[0].weight, network.head[0].weight)
    assert torch.equal(placed.head[0].bias, network.head[0].bias)
