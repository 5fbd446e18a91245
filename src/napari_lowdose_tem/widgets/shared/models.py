"""The models to choose from."""

from __future__ import annotations

from napari_lowdose_tem.network.model_file import DEFAULT_MODEL, ModelFile


def describe_model(file: ModelFile) -> str:
    """Say what a model is for, and the doses it was trained on."""
    info = file.info
    text = info.description or info.name
    if info.dose_e_per_px:
        low, high = info.dose_e_per_px
        text = f"{text.rstrip('.')}. For {low:g}–{high:g} e⁻/px."
    return text


def model_label(file: ModelFile) -> str:
    """Name of a model in the list."""
    if file.label != DEFAULT_MODEL:
        return file.label
    return "Default" if file.info.name == DEFAULT_MODEL else f"Default ({file.info.name})"
