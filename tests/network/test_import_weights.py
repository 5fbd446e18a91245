import json
import os
import pickle
import shutil

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read, write
from napari_lowdose_tem.network import import_weights as module
from napari_lowdose_tem.network.import_weights import fit_weights, import_weights, read_state_dict
from napari_lowdose_tem.network.model_file import load_model
from napari_lowdose_tem.network.scaling import RECIPES


class Bomb:
    """Makes a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"echo boom > '{self.path}'",)


@pytest.fixture(scope="module")
def authors():
    """The authors' network as they build it, with weights and statistics of its own."""
    torch.manual_seed(3)
    network = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=1, activation=None)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(std=0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def params(authors, tmp_path_factory):
    path = tmp_path_factory.mktemp("authors") / "params.pth"
    torch.save(authors.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def imported(params, tmp_path_factory):
    return import_weights(params, tmp_path_factory.mktemp("new") / "models" / "authors.safetensors")


def changed(authors, **values):
    state = {k: v.clone() for k, v in authors.state_dict().items()}
    state.update({k.replace("__", "."): v for k, v in values.items()})
    return state


def forward(network):
    frame = torch.rand((2, 1, 96, 160), generator=torch.Generator().manual_seed(8))
    with torch.inference_mode():
        return network(frame)


def test_the_model_file_is_the_authors_network(authors, params, imported):
    loaded = load_model(imported)
    torch.testing.assert_close(forward(loaded.network), forward(authors), rtol=0, atol=1e-6)
    for name, value in authors.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value), name
    info = loaded.info
    assert (info.name, info.licence) == ("authors", "MIT")
    assert info.architecture == {"name": "smp-unet", "encoder": "resnet18"}
    assert info.recipe == RECIPES["paper"]
    assert "Katsuno et al. 2021" in info.description
    assert module.measure_sha256(params) in info.description
    assert [p.name for p in imported.parent.iterdir()] == ["authors.safetensors"]


def test_name_licence_and_recipe_of_the_follow_up(params, tmp_path):
    path = import_weights(params, tmp_path / "a.safetensors", "followup", name="second", licence="CC0-1.0")
    info = load_model(path).info
    assert (info.name, info.licence, info.recipe) == ("second", "CC0-1.0", RECIPES["followup"])
    assert "2023" in info.description
    with pytest.raises(ValueError, match=r"'level' is not one of published weights; use paper or followup"):
        import_weights(params, tmp_path / "b.safetensors", "level")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 900},
        lambda s: {"model": s, "optimizer": {"lr": 1e-4}},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"model.module.{k}": v for k, v in s.items()}},
        lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
        lambda s: {k: torch.nn.Parameter(v, v.is_floating_point()) for k, v in s.items()},
    ],
    ids=["state_dict", "model", "DataParallel", "Lightning", "no counters", "parameters"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_the_ways_such_weights_are_saved(authors, tmp_path, wrap, zipped):
    path, state = tmp_path / "params.pth", authors.state_dict()
    torch.save(wrap(dict(state)), path, _use_new_zipfile_serialization=zipped)
    fitted = fit_weights(read_state_dict(path), state, "it", "theirs")
    assert fitted.keys() == state.keys()
    assert all(torch.equal(fitted[name], value) for name, value in state.items())


def test_half_precision_becomes_float32(authors, tmp_path):
    half = {k: v.half() if v.is_floating_point() else v for k, v in authors.state_dict().items()}
    torch.save(half, tmp_path / "params.pth")
    loaded = load_model(import_weights(tmp_path / "params.pth", tmp_path / "out.safetensors"))
    for name, value in half.items():
        assert torch.equal(loaded.network.state_dict()[name], value.to(authors.state_dict()[name].dtype)), (
            name
        )


@pytest.mark.parametrize(
    "how", ["plain, protocol 2", "plain, protocol 4", "torch", "torch, old format", "beside weights"]
)
def test_code_is_refused_and_not_run(authors, tmp_path, how):
    bomb, path = Bomb(tmp_path / "boom"), tmp_path / "params.pth"
    said = r"params\.pth holds code \(\w+\.system\).*it was not run"
    if how.startswith("plain"):
        path.write_bytes(pickle.dumps(bomb, protocol=int(how[-1])))
        said = r"is not a file of PyTorch weights" if how[-1] == "4" else said
    elif how == "beside weights":
        torch.save({**authors.state_dict(), "extra": bomb}, path)
    else:
        torch.save({"state_dict": bomb}, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(ValueError, match=said) as caught:
        import_weights(path, tmp_path / "out.safetensors")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["params.pth"]
    pickle.loads(pickle.dumps(bomb))  # the bomb is a real one
    assert (tmp_path / "boom").exists()


def test_a_whole_pickled_network_is_refused_with_the_remedy(authors, tmp_path):
    torch.save(authors, tmp_path / "params.pth")
    with pytest.raises(ValueError, match=r"holds code \(segmentation_models_pytorch.*Unet\).*state_dict\(\)"):
        import_weights(tmp_path / "params.pth", tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"encoder_name": "resnet34"}, "encoder resnet34, not resnet18"),
        ({"encoder_name": "resnet50"}, "encoder resnet50, not resnet18"),
        ({"encoder_depth": 4, "decoder_channels": (64, 32, 16, 8)}, "of encoder depth 4, not 5"),
        ({"in_channels": 3}, "for 3 channels, not 1"),
        ({"classes": 5}, "with 5 classes, not 1"),
        ({"decoder_attention_type": "scse"}, "attention in its decoder"),
    ],
)
def test_another_network_is_named(tmp_path, kind, said):
    arguments = {"encoder_name": "resnet18", "in_channels": 1, "classes": 1, **kind}
    torch.save(smp.Unet(encoder_weights=None, **arguments).state_dict(), tmp_path / "params.pth")
    with pytest.raises(ValueError, match=f"do not fit the paper's U-Net: .*{said}"):
        import_weights(tmp_path / "params.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_missing_foreign_and_misshapen_tensors_are_named(authors, tmp_path):
    state = changed(authors, segmentation_head__0__bias=torch.zeros(2), colour=torch.zeros(3))
    del state["encoder.bn1.bias"]
    torch.save(state, tmp_path / "params.pth")
    said = (
        r"1 missing \(encoder\.bn1\.bias\), 1 foreign \(colour\), "
        r"1 misshapen \(segmentation_head\.0\.bias: \(2,\).*for \(1,\)\)"
    )
    with pytest.raises(ValueError, match=said):
        import_weights(tmp_path / "params.pth", tmp_path / "out.safetensors")


def test_whole_numbers_for_weights_are_refused(authors, tmp_path):
    torch.save(
        changed(authors, encoder__bn1__bias=torch.zeros(64, dtype=torch.int8)), tmp_path / "params.pth"
    )
    with pytest.raises(ValueError, match=r"encoder\.bn1\.bias: \(64,\) torch\.int8"):
        import_weights(tmp_path / "params.pth", tmp_path / "out.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_refused(authors, tmp_path, value):
    torch.save(
        changed(authors, encoder__bn1__bias=torch.full((64,), value, dtype=torch.float64)),
        tmp_path / "params.pth",
    )
    with pytest.raises(ValueError, match=r"not finite \(encoder\.bn1\.bias\)"):
        import_weights(tmp_path / "params.pth", tmp_path / "out.safetensors")


def test_finite_weights_with_an_output_that_is_not_are_refused(authors, tmp_path):
    torch.save(changed(authors, encoder__bn1__running_var=torch.full((64,), -1.0)), tmp_path / "params.pth")
    with pytest.raises(ValueError, match="weights are damaged"):
        import_weights(tmp_path / "params.pth", tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["params.pth"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep", [0, 1, 40, 2000, 0.5, 0.999])
def test_files_cut_short(tmp_path, keep, zipped):
    path = tmp_path / "params.pth"
    torch.save({"a": torch.rand(30, 50), "b": torch.rand(70)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else keep])
    with pytest.raises(ValueError, match=r"params\.pth is not a file of PyTorch weights, or it is damaged"):
        read_state_dict(path)


@pytest.mark.parametrize(
    "content",
    [b"II*\0" * 100, b"\x80\x02" * 50, b"no weights at all", bytes(999), b"PK\x03\x04" * 9, b"(lp0\n", b"."],
)
def test_foreign_files(tmp_path, content):
    path = tmp_path / "params.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a file of PyTorch weights"):
        read_state_dict(path)


@pytest.mark.parametrize(
    "content", [{}, [torch.zeros(3)], torch.zeros(3), 7, {"model": 3}, {5: torch.zeros(1)}]
)
def test_files_of_other_things(tmp_path, content):
    torch.save(content, tmp_path / "params.pth")
    with pytest.raises(ValueError, match=r"params\.pth holds .*torch\.save\(network\.state_dict"):
        read_state_dict(tmp_path / "params.pth")


def test_wrong_paths(params, tmp_path):
    with pytest.raises(ValueError, match=r"none\.pth does not exist"):
        import_weights(tmp_path / "none.pth", tmp_path / "out.safetensors")
    with pytest.raises(ValueError, match="is a folder"):
        import_weights(tmp_path, tmp_path / "out.safetensors")
    with pytest.raises(ValueError, match=r"should end in \.safetensors"):
        import_weights(params, tmp_path / "out.pth")


def test_a_safetensors_file_given_by_mistake(tiny_model, tmp_path):
    shutil.copy(tiny_model, tmp_path / "params.pth")  # known by its content
    for source in (tiny_model, tmp_path / "params.pth"):
        with pytest.raises(ValueError, match=r"is a safetensors file.*with --model"):
            import_weights(source, tmp_path / "out.safetensors")


def test_encoder_weights_given_by_mistake(tmp_path):
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), tmp_path / "params.pth")
    with pytest.raises(ValueError, match=r"a classifier, resnet18; .* --encoder-weights"):
        import_weights(tmp_path / "params.pth", tmp_path / "out.safetensors")


def test_an_existing_output_is_kept_unless_told(params, tmp_path):
    output = tmp_path / "out.safetensors"
    save_file({"a": torch.zeros(3)}, output)
    before = output.read_bytes()
    with pytest.raises(ValueError, match="exists"):
        import_weights(params, output)
    assert output.read_bytes() == before
    import_weights(params, output, overwrite=True)
    assert load_model(output).info.name == "out"


def test_on_the_command_line_and_then_enhance(params, authors, tmp_path, monkeypatch, counts):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write(Image(counts[0], (2.5, 1.5)), tmp_path / "frame.tif")
    runner = CliRunner()
    result = runner.invoke(app, ["import-weights", str(params), "-o", "authors.safetensors"])
    assert result.exit_code == 0, result.output
    assert "--model authors.safetensors" in result.output
    words = ["enhance", "frame.tif", "-o", "out.tif", "--model", "authors.safetensors", "--device", "cpu"]
    result = runner.invoke(app, [*words, "--precision", "float32"])
    assert result.exit_code == 0, result.output
    output = read(tmp_path / "out.tif")
    assert output.provenance["enhanced"]["model"] == "authors"
    assert output.pixel_size_nm == (2.5, 1.5)
    # by hand: percentiles 1 and 80 to 0…1, the authors' network, and a straight line back to counts
    low, high = np.percentile(counts[0].astype(np.float32), [1, 80])
    scaled = np.clip((counts[0] - low) / (high - low), 0, 1).astype(np.float32)
    with torch.inference_mode():
        expected = authors(torch.from_numpy(scaled)[None, None])[0, 0].numpy().ravel()
    line = np.polyfit(expected, output.data.ravel(), 1)
    left = output.data.ravel() - np.polyval(line, expected)
    assert np.abs(left).max() < 1e-3 * np.ptp(output.data)


def test_the_command_line_refuses_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    torch.save({"a": Bomb(tmp_path / "boom")}, "params.pth")
    result = CliRunner().invoke(app, ["import-weights", "params.pth", "-o", "authors.safetensors"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: params.pth holds code")
    assert result.stderr.count("\n") == 1
    assert sorted(os.listdir()) == ["params.pth"]


def test_the_header_is_plain_json(params, imported):
    from safetensors import safe_open

    with safe_open(imported, "pt") as file:
        header = json.loads(file.metadata()["lowdose_tem"])
        assert file.get_tensor("encoder.conv1.weight").dtype == torch.float32
    assert header["training"]["source_sha256"] == module.measure_sha256(params)
