import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from napari_lowdose_tem.train.config import TRAIN_RECIPES, TrainConfig
from napari_lowdose_tem.widgets.train import run


def test_a_resumed_training_is_told_what_it_was_told_first(tmp_path):
    from napari_lowdose_tem.train.record import save_state

    recipe = replace(TRAIN_RECIPES["paper"], batch=3)
    begun = TrainConfig("some/data", tmp_path / "x.safetensors", recipe, start="paper", hde_factor=4, seed=9)
    save_state(tmp_path / "x.state", begun, step=3)
    wanted = TrainConfig("simulator", tmp_path / "x.safetensors", device="cpu", resume=True)
    assert run.read_saved_config(wanted) == replace(begun, device="cpu", resume=True)
    with pytest.raises(ValueError, match="gone"):
        run.read_saved_config(replace(wanted, output=tmp_path / "y.safetensors"))
    (tmp_path / "x.state").write_bytes(b"PK\3\4 cut short")
    with pytest.raises(ValueError, match="damaged"):
        run.read_saved_config(wanted)


def test_triton_is_kept_out_of_napari(monkeypatch):
    """Its LLVM crashes beside the one napari may draw with, and torch's optimisers would import it."""
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    steps = run.iter_steps(TrainConfig("simulator", Path("x.safetensors")))
    steps.close()
    assert sys.modules["triton"] is None
    assert find_spec("triton") is None
