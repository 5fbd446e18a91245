"""What the user set in napari's Preferences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PLUGIN = "napari-lowdose-tem"


@dataclass(frozen=True)
class Settings:
    """Defaults for every dock; `tile_px` None suits the processor, `model_folder` None is the user's own."""

    device: str = "auto"
    precision: str = "auto"
    tile_px: int | None = None
    model_folder: Path | None = None


def read_settings() -> Settings:
    """Read the Preferences page; the defaults where this napari (before 0.9) has none for plugins."""
    try:
        from napari.settings import get_plugin_settings

        stored: Any = get_plugin_settings(_PLUGIN).processing
    except (ImportError, KeyError, AttributeError):
        return Settings()
    folder = stored.model_folder.strip()
    return Settings(
        stored.device, stored.precision, stored.tile_px or None, Path(folder).expanduser() if folder else None
    )
