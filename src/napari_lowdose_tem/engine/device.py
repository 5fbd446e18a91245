"""Which processor runs the network, in which precision, and why not a faster one."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OPENVINO = "openvino"
"""The CPU, by OpenVINO instead of torch."""
EIGHT_BITS = "int8"
"""Precision of OpenVINO alone: most layers on eight bits, the others in float32."""

_EIGHT_BIT_FEATURES = ("avx512_vnni", "avx_vnni", "amx_int8")  # multiply eight bits four times as fast
# largest error of the self-test's convolution, relative to its range
_TOLERANCE = {"float32": 5e-3, "bfloat16": 5e-2, "float16": 1e-2}


@dataclass(frozen=True)
class Device:
    """A processor that passed its self-test.

    `note` says in plain words why a faster one was not taken, or is empty.
    """

    kind: str
    name: str
    precision: str
    note: str = ""

    @property
    def on_cpu(self) -> bool:
        """Whether it is the CPU, by torch or OpenVINO."""
        return self.kind in ("cpu", OPENVINO)

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device("cpu" if self.on_cpu else self.kind)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the network's inner layers, of those not on eight bits."""
        return PRECISIONS.get(self.precision, torch.float32)

    def __str__(self) -> str:
        """Return `NVIDIA H200 (cuda, float16)`."""
        return f"{self.name} ({self.kind}, {self.precision})"


@dataclass(frozen=True)
class DeviceCheck:
    """What is known of one kind of processor: its device when it works, else why it does not."""

    kind: str
    device: Device | None
    reason: str
    present: bool = True


def choose_device(wanted: str = "auto", precision: str = "auto", *, training: bool = False) -> Device:
    """Choose a processor: the first that works of CUDA, MPS, XPU, OpenVINO, CPU, or the one asked for.

    Parameters
    ----------
    wanted
        "auto", "cuda", "cuda:1", "mps", "xpu", "openvino" (the CPU, by OpenVINO) or "cpu".
    precision
        "auto" (half precision, by OpenVINO eight bits, where the processor computes in it), "float32",
        "bfloat16", "float16" or "int8" (OpenVINO alone).
    training
        Leave out what cannot train.

    Raises
    ------
    ValueError
        When the one asked for is unknown or does not work, with the reason.
    """
    if precision not in ("auto", *PRECISIONS, EIGHT_BITS):
        known = ", ".join((*PRECISIONS, EIGHT_BITS))
        raise ValueError(f"unknown precision {precision!r}; choose auto, {known}")
    kinds = tuple(kind for kind in _KINDS if not (training and kind == OPENVINO))
    if precision == EIGHT_BITS and wanted == "auto":
        wanted = OPENVINO
    if wanted != "auto":
        if wanted.split(":")[0] not in kinds:
            raise ValueError(f"unknown device {wanted!r}; choose auto, {', '.join(kinds)}")
        check = check_device(wanted, precision)
        if check.device is None:
            raise ValueError(f"device {wanted} cannot be used: {check.reason}; choose another, or auto")
        return check.device
    absent: list[tuple[str, str]] = []
    failed: list[tuple[str, str]] = []
    for kind in (kind for kind in _AUTOMATIC if kind in kinds):
        check = check_device(kind, precision)
        if check.device is None:
            (failed if check.present else absent).append((kind, check.reason))
            continue
        # that a Mac has no NVIDIA card is no news; that no accelerator was found is
        missing = [
            (k, why) for k, why in absent if check.device.on_cpu and k == _native_kind() and not failed
        ]
        note = "; ".join(f"{k}: {why}" for k, why in (*failed, *missing))
        return replace(check.device, note=note)
    raise ValueError("no processor passed its self-test: " + "; ".join(f"{k}: {why}" for k, why in failed))


def check_devices() -> list[DeviceCheck]:
    """Check every kind of processor this torch can know of."""
    kinds = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cuda"]
    return [check_device(kind) for kind in (*kinds, *_KINDS[1:])]


def check_device(kind: str, precision: str = "auto") -> DeviceCheck:
    """Run the self-test: one convolution, compared with the CPU's float32 result."""
    reason = _why_absent(kind)
    if reason:
        return DeviceCheck(kind, None, reason, present=False)
    chosen = _best_precision(kind) if precision == "auto" else precision
    if chosen == EIGHT_BITS and kind != OPENVINO:
        return DeviceCheck(kind, None, f"only OpenVINO computes in {EIGHT_BITS}")
    if chosen in ("float16", "bfloat16") and kind == OPENVINO:
        # it would round the last layer, too, in steps that show on flat film
        return DeviceCheck(kind, None, f"OpenVINO computes in float32 or {EIGHT_BITS} here")
    # what OpenVINO makes of a network is compared with torch when it is made
    tested = ("cpu", "float32") if kind == OPENVINO else (kind, chosen)
    try:
        error = _self_test(tested[0], PRECISIONS[tested[1]])
        name = _device_name(kind)
    except (RuntimeError, ValueError) as err:
        # a driver too old, memory taken, no kernel for this card
        return DeviceCheck(kind, None, f"its self-test failed: {str(err).splitlines()[0]}")
    if error > _TOLERANCE[tested[1]]:
        return DeviceCheck(kind, None, f"its self-test is off by {error:.1e} in {chosen}")
    return DeviceCheck(kind, Device(kind, name, chosen), "")


def _self_test(kind: str, dtype: torch.dtype) -> float:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 8, 48, 64, generator=generator)
    kernel = torch.randn(8, 8, 3, 3, generator=generator) / 8
    expected = functional.conv2d(image, kernel, padding=1)
    result = functional.conv2d(image.to(kind, dtype), kernel.to(kind, dtype), padding=1).float().cpu()
    return float((result - expected).abs().max() / expected.abs().max())


def _why_absent(kind: str) -> str:
    family, _, index = kind.partition(":")
    if family == "cuda":
        if torch.version.cuda is None and torch.version.hip is None:
            return "this torch was installed without CUDA; reinstall torch with CUDA to use an NVIDIA card"
        if not torch.cuda.is_available():
            return "no NVIDIA card, or its driver is missing or too old for this torch"
        if index and int(index) >= torch.cuda.device_count():
            return f"there are {torch.cuda.device_count()} cards, counted from 0"
    if family == "mps" and not torch.backends.mps.is_available():
        return "only on Apple silicon with macOS 14 or later"
    if family == "xpu" and not (hasattr(torch, "xpu") and torch.xpu.is_available()):
        return "no Intel GPU, or this torch was installed without XPU"
    if family == OPENVINO and importlib.util.find_spec("openvino") is None:
        return 'OpenVINO is not installed: pip install "napari-lowdose-tem[openvino]"'
    return ""


def _best_precision(kind: str) -> str:
    if kind.startswith("cuda") and torch.cuda.get_device_capability(torch.device(kind)) >= (7, 0):
        return "float16"
    features = _cpu_features()
    if kind == OPENVINO and any(features.get(name) for name in _EIGHT_BIT_FEATURES):
        return EIGHT_BITS
    if kind == "cpu" and (features.get("avx512_bf16") or features.get("amx_bf16")):
        return "bfloat16"
    return "float32"


def _device_name(kind: str) -> str:
    if kind.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(kind))
    if kind.startswith("xpu"):
        return str(torch.xpu.get_device_name(torch.device(kind)))
    if kind == "mps":
        return "Apple GPU"
    return str(_cpu_features().get("cpu_name") or platform.processor() or platform.machine())


def _cpu_features() -> dict[str, Any]:
    # public from torch 2.9 on; without it nothing is known, and float32 is right everywhere
    return dict(torch.cpu.get_capabilities()) if hasattr(torch.cpu, "get_capabilities") else {}


def _native_kind() -> str:
    """Return the accelerator a user of this system would expect beside CUDA."""
    return "mps" if platform.system() == "Darwin" else "cuda"


_KINDS = ("cuda", "mps", "xpu", OPENVINO, "cpu")
_AUTOMATIC = _KINDS  # the fastest first
