"""The processors to choose from."""

DEVICES = {
    "auto": "Automatic",
    "cuda": "NVIDIA GPU (CUDA)",
    "mps": "Apple GPU (MPS)",
    "xpu": "Intel GPU (XPU)",
    "openvino": "CPU (OpenVINO)",
    "cpu": "CPU",
}
TRAINING_DEVICES = {kind: name for kind, name in DEVICES.items() if kind != "openvino"}
