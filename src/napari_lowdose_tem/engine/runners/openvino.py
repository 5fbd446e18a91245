"""The network by OpenVINO: on a CPU up to twice as fast as torch, above all on eight bits."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_lowdose_tem.engine.runners.runner import HostRunner, normalise
from napari_lowdose_tem.image import F32
from napari_lowdose_tem.network.import_without import importing_without
from napari_lowdose_tem.network.scaling import Scaling

_KEPT_SHAPES = 4
_EXAMPLE_SHAPE = (1, 1, 64, 96)


class OpenVinoRunner(HostRunner):
    """A network compiled by OpenVINO, once for every shape it meets.

    It comes in float32 on the CPU, batch norms folded; quantised for `int8`.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        openvino = _import_openvino()
        example = torch.zeros(_EXAMPLE_SHAPE)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer warns of what the network checks of its input
            # the engine compares the outcome itself; torch's own check imports for seconds
            traced = torch.jit.trace(network.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
            self._graph = openvino.convert_model(traced, example_input=example)
        self._core = openvino.Core()
        self._settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # of all that is not on eight bits
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def prepare(self, counts: npt.NDArray[Any], scalings: Sequence[Scaling]) -> Callable[[], Any]:
        """Scale frames."""
        inputs = normalise(counts, scalings)
        return lambda: self.run(inputs)

    def run(self, inputs: F32) -> F32:
        """Run the network on scaled frames."""
        network = self._compile((len(inputs), 1, *inputs.shape[1:]))
        result: F32 = network(inputs[:, None], share_inputs=True)[0][:, 0]
        return np.asarray(result, np.float32)

    def _compile(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._compiled:
            self._graph.reshape(list(shape))
            self._compiled[shape] = self._core.compile_model(self._graph, "CPU", self._settings)
            if len(self._compiled) > _KEPT_SHAPES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(shape)
        return self._compiled[shape]

    def close(self) -> None:
        """Give the memory back."""
        self._compiled.clear()


def _import_openvino() -> Any:
    """Import OpenVINO without the module that reports its use over the network."""
    with importing_without("openvino_telemetry"):
        import openvino
        import openvino.tools.ovc  # binds its reporting, or nothing, on import
    return openvino
