"""What an engine is opened with. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_lowdose_tem.network.model_file import DEFAULT_MODEL


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The model, and how it is run; `Engine.from_options` opens the engine.

    Parameters
    ----------
    model
        Name of a model, or path of a model file.
    device
        "auto" (the fastest that works), "cuda", "cuda:1", "mps", "xpu", "openvino" (the CPU through
        OpenVINO) or "cpu".
    precision
        "auto" (the fastest the device computes well), "float32", "bfloat16", "float16", or with OpenVINO
        "int8".
    tile_px
        Longest side processed at once, halo included [px]; None to suit the device's memory.
    """

    model: str | Path = DEFAULT_MODEL
    device: str = "auto"
    precision: str = "auto"
    tile_px: int | None = None
