"""What Katsuno et al. 2021 report of speed (Table 3), and what a camera asks for."""

from __future__ import annotations

from typing import Any

# mean and scatter over 100 frames of 512²: calculation, and with both transfers [ms]
TABLE3: list[dict[str, Any]] = [
    {"processor": "Intel Core i9-9900X 3.50 GHz", "calc_ms": [106, 0.7], "total_ms": None},
    {"processor": "NVIDIA Quadro RTX 8000", "calc_ms": [4.4, 0.0], "total_ms": [8.0, 0.1]},
    {"processor": "Intel Core i7-9700 3.00 GHz", "calc_ms": [300, 10], "total_ms": None},
    {"processor": "NVIDIA GeForce GTX 1650", "calc_ms": [5.3, 0.6], "total_ms": [25, 0.5]},
]
"""Processors of the paper; its network, ResNet-18 U-Net, in float32."""

GOALS_MS = {"25 frames/s, a OneView in normal use": 40.0, "300 frames/s, its fastest at 512²": 3.3}
"""Time between two frames of the paper's camera [ms]; it reached the first."""
