"""Imports go one way, and heavy libraries wait until they are needed."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import napari_lowdose_tem

SOURCE = Path(napari_lowdose_tem.__file__).parent
HEAVY = {
    "torch",
    "torchvision",
    "matplotlib",
    "napari",
    "qtpy",
    "PyQt6",
    "PySide6",
    "segmentation_models_pytorch",
}


def loaded_by(*modules: str) -> set[str]:
    code = (
        f"import sys; import {', '.join(modules)}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    )
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_the_package_itself_imports_next_to_nothing():
    assert not loaded_by("napari_lowdose_tem") & {
        *HEAVY,
        "numpy",
        "scipy",
        "dask",
        "zarr",
        "tifffile",
        "typer",
    }


@pytest.mark.parametrize(
    "modules",
    [
        ("image", "io", "network.scaling", "network.model_file", "engine.options", "engine.tiling"),
        ("simulate", "camera.photon_transfer", "pairs", "measure", "particles"),
        ("enhancement", "live", "bench", "reproduce", "judge.metrics", "judge.evaluate"),
        ("cli", "engine.doctor", "demo"),
    ],
)
def test_core_needs_neither_torch_nor_a_viewer_to_be_imported(modules):
    assert not loaded_by(*(f"napari_lowdose_tem.{name}" for name in modules)) & HEAVY


def test_the_engine_works_where_there_is_no_viewer():
    loaded = loaded_by(
        "napari_lowdose_tem.engine.engine", "napari_lowdose_tem.train", "napari_lowdose_tem.engine.device"
    )
    assert not loaded & (HEAVY - {"torch"})


def test_nothing_but_the_widgets_imports_the_widgets():
    for path in SOURCE.rglob("*.py"):
        if "widgets" not in path.relative_to(SOURCE).parts:
            assert "napari_lowdose_tem.widgets" not in path.read_text()
            assert "from .widgets" not in path.read_text()


def test_public_names_stay_what_they_are():
    for name in napari_lowdose_tem.__all__:
        first = getattr(napari_lowdose_tem, name)
        assert not inspect.ismodule(first)
        assert getattr(napari_lowdose_tem, name) is first
    with pytest.raises(AttributeError):
        napari_lowdose_tem.nonesuch  # noqa: B018


def test_no_model_brings_triton():
    code = (
        "import sys; from napari_lowdose_tem.network.model_file import load_model; "
        "[load_model(name) for name in ('default', 'fast', 'paper')]; assert 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
