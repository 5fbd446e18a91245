"""The most memory that was in use, where the system tells."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_lowdose_tem.engine.device import Device

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak(device: Device) -> None:
    """Start to watch anew."""
    if device.kind.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device.torch_device)
    elif device.on_cpu:
        with contextlib.suppress(OSError):
            _FORGET.write_text("5")  # Linux alone


def measure_peak_mib(device: Device) -> float | None:
    """Return the most memory since `forget_peak` [MiB]: of the card, or of this process on a CPU."""
    if device.kind.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_reserved(device.torch_device) / 2**20
    if not device.on_cpu:
        return None
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return None
