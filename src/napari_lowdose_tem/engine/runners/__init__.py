"""Where a network runs: `open_runner` gives the fastest way on a device, `compare_runner` checks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_lowdose_tem.engine.runners.parity import Parity, compare_runner
from napari_lowdose_tem.engine.runners.runner import Runner, TorchRunner

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.device import Device
    from napari_lowdose_tem.network.model_file import Model

__all__ = ["Parity", "Runner", "TorchRunner", "compare_runner", "open_runner"]


def open_runner(model: Model, device: Device) -> Runner:
    """Place a model's network on a device.

    Raises
    ------
    RuntimeError
        When the device or OpenVINO refuses the network.
    """
    from napari_lowdose_tem.engine.device import EIGHT_BITS, OPENVINO
    from napari_lowdose_tem.engine.runners.fold import fold_batch_norm

    network = fold_batch_norm(model.network)
    if device.torch_device.type == "cuda":
        from napari_lowdose_tem.engine.runners.cuda import CudaRunner

        return CudaRunner(network, device)
    if device.kind != OPENVINO:
        return TorchRunner(network, device)
    from napari_lowdose_tem.engine.runners.openvino import OpenVinoRunner
    from napari_lowdose_tem.engine.runners.quantise import iter_typical_inputs, quantise

    if device.precision == EIGHT_BITS:
        network = quantise(network, iter_typical_inputs(model.info.recipe))
    return OpenVinoRunner(network)
