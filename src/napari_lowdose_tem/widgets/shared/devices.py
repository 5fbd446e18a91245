"""The processors to choose from."""

from __future__ import annotations

from napari_lowdose_tem.widgets.shared.settings import read_settings

DEVICES = {
    "auto": "Automatic",
    "cuda": "NVIDIA GPU (CUDA)",
    "mps": "Apple GPU (MPS)",
    "xpu": "Intel GPU (XPU)",
    "openvino": "CPU (OpenVINO)",
    "cpu": "CPU",
}
TRAINING_DEVICES = {kind: name for kind, name in DEVICES.items() if kind != "openvino"}
DEVICE_TIP = "Automatic: the fastest processor that passes its self-test"


def preferred_device(known: dict[str, str]) -> str:
    """Return the processor set in the Preferences, where it is one of those known."""
    device = read_settings().device
    return device if device in known else "auto"


def describe_device(device: str, note: str) -> str:
    """Return `Running on GPU (cuda, float16)` and the remark on it below."""
    return f"Running on {device}" + (f"\n{note}" if note else "")
