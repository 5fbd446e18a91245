import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed")

from napari_lowdose_tem.engine import device
from napari_lowdose_tem.engine.device import check_device, choose_device
from napari_lowdose_tem.engine.engine import Engine
from napari_lowdose_tem.simulate import MEASURED, draw_specimen, expose, render


@pytest.fixture(scope="module")
def frame():
    """A simulated low-dose frame of SiC particles, neither square nor a multiple of 32 [counts]."""
    specimen = draw_specimen("SiC", (600.0, 900.0), 3)
    return expose(6 * render(specimen, (200, 300)).transmission, MEASURED, 3)


# of the range: root mean square, largest
@pytest.mark.parametrize(("precision", "rms", "largest"), [("float32", 1e-5, 1e-4), ("int8", 0.01, 0.1)])
@pytest.mark.parametrize("model", ["fast", "paper"])
def test_result_is_torchs(frame, model, precision, rms, largest):
    with Engine(model, "cpu", precision="float32") as engine:
        expected = engine.enhance(frame)
    with Engine(model, "openvino", precision=precision) as engine:
        result, again = engine.enhance(frame), engine.enhance(frame)
        assert engine.parity.is_close
    error = np.abs(result - expected) / np.ptp(expected)
    assert np.sqrt(np.mean(error**2)) < rms
    assert error.max() < largest
    np.testing.assert_array_equal(result, again)
    if precision != "float32":
        assert error.max() > 1e-4  # it did compute in fewer digits


def test_batches_and_shapes_one_after_another(frame):
    with Engine("fast", "openvino", precision="float32") as engine:
        alone = engine.enhance(frame)
        engine.enhance(frame[:70, :90])
        together = engine.enhance(np.stack([frame, frame[::-1]]))
        for rows in range(40, 240, 40):  # more shapes than are kept
            assert engine.enhance(frame[:rows]).shape == (rows, 300)
        np.testing.assert_allclose(together[0], alone, rtol=1e-4)
        np.testing.assert_allclose(engine.enhance(frame), alone, rtol=1e-6)


def test_it_is_taken_before_torch_on_the_cpu_but_not_to_train(monkeypatch):
    monkeypatch.setattr(device, "_AUTOMATIC", ("openvino", "cpu"))
    assert choose_device().kind == "openvino"
    assert choose_device(training=True).kind == "cpu"
    with pytest.raises(ValueError, match="unknown device 'openvino'"):
        choose_device("openvino", training=True)


@pytest.mark.parametrize(
    ("features", "precision"),
    [({"avx512_vnni": True}, "int8"), ({"amx_int8": True}, "int8"), ({"avx512_bf16": True}, "float32")],
)
def test_eight_bits_where_the_processor_has_instructions_for_them(monkeypatch, features, precision):
    monkeypatch.setattr(device, "_cpu_features", lambda: features)
    assert check_device("openvino").device.precision == precision


def test_eight_bits_are_openvinos_alone():
    assert choose_device("auto", "int8").kind == "openvino"
    with pytest.raises(ValueError, match="only OpenVINO"):
        choose_device("cpu", "int8")
    with pytest.raises(ValueError, match="float32 or int8"):
        choose_device("openvino", "bfloat16")


def test_flat_film_comes_out_without_steps():
    film = expose(np.full((128, 224), 8.0), MEASURED, 3)
    with Engine("default", "cpu", precision="float32") as engine:
        expected = engine.enhance(film)
    with Engine("default", "openvino", precision="int8") as engine:
        result = engine.enhance(film)
    assert len(np.unique(result)) > 0.9 * len(np.unique(expected))
    assert np.std(result - expected) < 0.003 * expected.mean()


def test_without_openvino_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install .*openvino"):
        choose_device("openvino")


def test_its_use_is_reported_to_nobody():
    code = (
        "import sys; from napari_lowdose_tem.engine.runners.openvino import _import_openvino; "
        "_import_openvino(); "
        "from openvino.tools.ovc import telemetry_utils; "
        "assert 'stub' in telemetry_utils.tm.__name__, telemetry_utils.tm; "
        "assert not [m for m in sys.modules if m.startswith('openvino_telemetry')]"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
