"""Low-dose TEM frames enhanced to high-dose clarity, measured honestly.

Source of the method: Katsuno, Kimura, Yamazaki and Takigawa, arXiv:2106.01718 (2021).
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> module; imported on first use so that `import napari_lowdose_tem` stays light
_PUBLIC = {
    "Engine": "engine.engine",
    "Image": "image",
    "enhance": "enhancement",
    "load_model": "network.model_file",
    "read": "io",
    "simulate_pair": "simulate",
    "write": "io",
}

__all__ = ["Engine", "Image", "__version__", "enhance", "load_model", "read", "simulate_pair", "write"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = globals()[name] = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
