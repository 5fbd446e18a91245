import pytest
import torch

from napari_lowdose_tem.engine import device
from napari_lowdose_tem.engine.device import check_device, choose_device


def test_cpu_always_works():
    chosen = choose_device("cpu", "float32")
    assert (chosen.kind, chosen.dtype) == ("cpu", torch.float32)
    assert chosen.name


def test_auto_says_why_there_is_no_faster_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    chosen = choose_device()
    if chosen.kind == "cpu":
        assert "driver" in chosen.note or "without CUDA" in chosen.note


@pytest.mark.parametrize(
    ("working", "system", "note"), [("mps", "Darwin", ""), ("cpu", "Darwin", "mps: absent")]
)
def test_only_what_a_user_would_expect_is_missed(monkeypatch, working, system, note):
    def check(kind, precision="auto"):
        if kind == working:
            return device.DeviceCheck(kind, device.Device(kind, "chip", "float32"), "")
        return device.DeviceCheck(kind, None, "absent", present=False)

    monkeypatch.setattr(device, "check_device", check)
    monkeypatch.setattr(device.platform, "system", lambda: system)
    assert choose_device().note == note


def test_a_failed_self_test_is_always_told(monkeypatch):
    def check(kind, precision="auto"):
        if kind == "cpu":
            return device.DeviceCheck(kind, device.Device(kind, "chip", "float32"), "")
        return device.DeviceCheck(kind, None, "broken" if kind == "xpu" else "absent", present=kind == "xpu")

    monkeypatch.setattr(device, "check_device", check)
    assert choose_device().note == "xpu: broken"


@pytest.mark.parametrize(("wanted", "precision"), [("gpu0", "auto"), ("cpu", "float8")])
def test_unknown_names_are_refused(wanted, precision):
    with pytest.raises(ValueError, match="choose auto"):
        choose_device(wanted, precision)


def test_a_missing_device_asked_for_is_an_error_with_its_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"cuda cannot be used: .*(driver|without CUDA)"):
        choose_device("cuda")


@pytest.mark.parametrize("error", [float("inf"), 0.3])
def test_a_device_that_computes_wrongly_is_not_used(monkeypatch, error):
    monkeypatch.setattr(device, "_self_test", lambda kind, dtype: error)
    check = check_device("cpu", "float32")
    assert check.device is None
    assert "off by" in check.reason


def test_a_device_that_fails_is_not_used(monkeypatch):
    def fail(kind, dtype):
        raise RuntimeError("no kernel image is available\nmore lines")

    monkeypatch.setattr(device, "_self_test", fail)
    assert check_device("cpu").reason == "its self-test failed: no kernel image is available"
    with pytest.raises(ValueError, match="no processor passed"):
        choose_device()
