"""What is installed, what works, and what to do about what does not."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from napari_lowdose_tem import __version__

_PACKAGES = (
    "napari",
    "torch",
    "torchvision",
    "segmentation-models-pytorch",
    "numpy",
    "dask",
    "zarr",
    "tifffile",
    "imagecodecs",
    "rosettasciio",
)


def examine() -> dict[str, Any]:
    """Return versions, processors with their self-tests, models, and advice, as JSON values."""
    packages = {name: _version(name) for name in _PACKAGES}
    report: dict[str, Any] = {
        "napari-lowdose-tem": __version__,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "packages": packages,
        "devices": [],
        "chosen": None,
        "models": [],
        "advice": [],
    }
    advice: list[str] = report["advice"]
    if packages["napari"] is None:
        advice.append('napari is not installed: pip install "napari-lowdose-tem[all]" for the viewer')
    _examine_devices(report, advice)
    _examine_models(report, advice)
    return report


def _examine_devices(report: dict[str, Any], advice: list[str]) -> None:
    try:
        from napari_lowdose_tem.engine.device import check_devices, choose_device
    except (ImportError, OSError) as err:
        advice.append(f"torch cannot be imported ({err}): pip install --force-reinstall torch torchvision")
        return
    for check in check_devices():
        device = check.device
        report["devices"].append(
            {
                "kind": check.kind,
                "works": device is not None,
                "name": device.name if device else None,
                "precision": device.precision if device else None,
                "reason": check.reason,
            }
        )
    chosen = choose_device()
    report["chosen"] = str(chosen)
    if chosen.on_cpu:
        advice.append(f"frames are enhanced on the CPU ({chosen.note or 'the only processor found'})")
    if chosen.kind == "cpu":
        advice.append('twice as fast on most CPUs: pip install "napari-lowdose-tem[openvino]"')


def _examine_models(report: dict[str, Any], advice: list[str]) -> None:
    from napari_lowdose_tem.network.model_file import (
        DEFAULT_MODEL,
        list_models,
        load_model,
        user_model_folder,
    )

    models = list_models()
    report["models"] = [
        {"name": m.label, "path": str(m.path), "architecture": m.info.architecture.get("name")}
        for m in models
    ]
    report["model_folder"] = str(user_model_folder())
    if not any(m.label == DEFAULT_MODEL for m in models):
        advice.append("the default model is missing or damaged: reinstall napari-lowdose-tem")
        return
    for model in models:
        try:
            load_model(model)
        except (ImportError, ValueError) as err:
            advice.append(str(err))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
