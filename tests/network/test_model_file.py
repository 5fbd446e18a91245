import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from napari_lowdose_tem.network import model_file as model
from napari_lowdose_tem.network.model_file import (
    find_model,
    list_models,
    load_model,
    read_model_file,
    save_model,
)
from napari_lowdose_tem.network.networks import build_network


def test_round_trip_in_half_precision(tiny_model):
    loaded = load_model(tiny_model)
    assert loaded.info.architecture == {"name": "light-unet", "channels": [5, 6, 7, 8, 9]}
    assert not loaded.network.training
    assert {p.dtype for p in loaded.network.parameters()} == {torch.float32}
    torch.manual_seed(4)
    network = build_network(dict(loaded.info.architecture))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], value.half().float())


def test_shipped_models_load_and_say_what_they_are():
    shipped = [m for m in list_models() if m.path.parent == model._BUNDLED]
    assert shipped[0].label == "default"
    for file in shipped:
        loaded = load_model(file)
        assert loaded.info.training["data"]
        assert loaded.info.licence == "BSD-3-Clause"
        assert loaded.info.dose_e_per_px[0] < 5 < loaded.info.dose_e_per_px[1]
        assert file.path.stat().st_size < 32e6


def test_paper_network_is_the_published_one():
    network = build_network({"name": "smp-unet", "encoder": "resnet18"})
    names = network.state_dict().keys()
    assert {"encoder.conv1.weight", "decoder.blocks.0.conv1.0.weight", "segmentation_head.0.weight"} <= names
    assert network.encoder.conv1.weight.shape == (64, 1, 7, 7)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(14.3e6, rel=0.01)


def test_user_models_are_found_by_name(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("LOWDOSE_TEM_MODELS", str(tmp_path))
    (tmp_path / "mine.safetensors").write_bytes(tiny_model.read_bytes())
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    assert find_model("mine").info.name == "tiny"
    assert [m.label for m in list_models()][-1] == "mine"
    with pytest.raises(ValueError, match=r"no model 'theirs'; choose one of: default.*mine"):
        find_model("theirs")


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, 0.999])
def test_a_file_cut_short_is_named(tiny_model, tmp_path, keep):
    whole = tiny_model.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(whole[: keep if keep == 0 or keep >= 1 else int(keep * len(whole))])
    with pytest.raises(ValueError, match=r"cut\.safetensors.*get it again"):
        load_model(path)


@pytest.mark.parametrize("content", [b"II*\0" * 100, pickle.dumps({"a": 1}), b"\xff" * 64, b"{}" * 40])
def test_foreign_files_are_refused_unread(tmp_path, content):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a safetensors model file"):
        read_model_file(path)


def test_weights_without_a_header_are_refused(tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="does not say what network"):
        load_model(tmp_path / "bare.safetensors")


def test_wrong_architecture_is_refused(tiny_model, tmp_path):
    loaded = load_model(tiny_model)
    wider = replace(loaded.info, architecture={"name": "light-unet", "channels": [5, 6, 7, 8, 10]})
    path = save_model(tmp_path / "wide.safetensors", loaded.network.state_dict(), wider)
    with pytest.raises(ValueError, match="do not fit"):
        load_model(path)
    unknown = replace(loaded.info, architecture={"name": "transformer"})
    path = save_model(tmp_path / "unknown.safetensors", loaded.network.state_dict(), unknown)
    with pytest.raises(ValueError, match="unknown architecture 'transformer'"):
        load_model(path)
    odd = replace(loaded.info, architecture={"name": "light-unet", "depth": 4})
    path = save_model(tmp_path / "odd.safetensors", loaded.network.state_dict(), odd)
    with pytest.raises(ValueError, match="does not take"):
        load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "level"},
        {"architecture": "light-unet"},
        {"architecture": {"name": ["light-unet"]}},
        {"architecture": {"name": "light-unet", "channels": [-4, 8]}},
        {"architecture": {"name": "light-unet", "channels": "wide"}},
    ],
)
def test_a_nonsensical_header_is_refused_with_the_file_named(tiny_model, tmp_path, change):
    loaded = load_model(tiny_model)
    path = save_model(
        tmp_path / "odd.safetensors", loaded.network.state_dict(), replace(loaded.info, **change)
    )
    with pytest.raises(ValueError, match=r"odd\.safetensors"):
        load_model(path)


def test_a_folder_of_the_models_name_is_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()
    assert find_model("default").path.parent == model._BUNDLED


def test_weights_that_are_not_finite_are_refused(tiny_model, tmp_path):
    loaded = load_model(tiny_model)
    weights = loaded.network.state_dict()
    weights["stem.bias"] = torch.full_like(weights["stem.bias"], torch.nan)
    path = save_model(tmp_path / "nan.safetensors", weights, loaded.info)
    with pytest.raises(ValueError, match="not finite"):
        load_model(path)


def test_unknown_recipe_is_refused(tiny_model, tmp_path):
    loaded = load_model(tiny_model)
    info = replace(loaded.info, recipe={"name": "wavelets", "per": "frame"})
    path = save_model(tmp_path / "recipe.safetensors", loaded.network.state_dict(), info)
    with pytest.raises(ValueError, match="unknown preprocessing recipe"):
        load_model(path)


def test_a_header_of_a_later_version_is_named(tiny_model, tmp_path):
    from safetensors import safe_open

    with safe_open(tiny_model, "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}
        header = json.loads(file.metadata()["lowdose_tem"])
    path = tmp_path / "later.safetensors"
    save_file(tensors, path, metadata={"lowdose_tem": json.dumps({**header, "colour": 1})})
    with pytest.raises(ValueError, match="header this version cannot read"):
        load_model(path)


def test_saving_leaves_no_partial_file(tiny_model, tmp_path):
    loaded = load_model(tiny_model)
    save_model(tmp_path / "new" / "a.safetensors", loaded.network.state_dict(), loaded.info)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.safetensors"]
    with pytest.raises(ValueError, match="should end in"):
        save_model(tmp_path / "a.pth", loaded.network.state_dict(), loaded.info)
