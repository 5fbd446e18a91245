import os
import pickle
import socket

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from napari_lowdose_tem.network import encoder_weights as module
from napari_lowdose_tem.network.encoder_weights import RANDOM_NOTE, find_encoder_weights, load_encoder
from napari_lowdose_tem.network.model_file import measure_sha256
from napari_lowdose_tem.network.networks import build_network


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(6)
    network = resnet18(weights=None)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(std=0.1)
    return network.eval()


@pytest.fixture
def network():
    torch.manual_seed(9)
    return build_network({"name": "smp-unet", "encoder": "resnet18"}).eval()


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches of torchvision and SMP, and no network."""
    import huggingface_hub

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    # read from HF_HOME when huggingface_hub is first imported
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tmp_path


@pytest.fixture
def in_torchvision(caches, classifier, monkeypatch):
    path = caches / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    torch.save(classifier.state_dict(), path)
    monkeypatch.setattr(module, "KNOWN_SHA256", {measure_sha256(path): path.name})
    return path


def put_in_smp_cache(caches, classifier, linked=True):
    """Lay a file out as huggingface_hub does, for the revision that SMP asks for."""
    from segmentation_models_pytorch.encoders import encoders

    settings = encoders["resnet18"]["pretrained_settings"]["imagenet"]
    folder = caches / "hf" / "hub" / f"models--{settings['repo_id'].replace('/', '--')}"
    path = folder / "snapshots" / settings["revision"] / "model.safetensors"
    path.parent.mkdir(parents=True)
    tensors = {k: v for k, v in classifier.state_dict().items() if not k.startswith("fc.")}
    save_file(tensors, path)
    if linked:
        blob = folder / "blobs" / measure_sha256(path)
        blob.parent.mkdir()
        os.replace(path, blob)
        path.symlink_to(os.path.relpath(blob, path.parent))
    return path


def test_names_hold_the_hash():
    assert len(module.KNOWN_SHA256) == 2
    for sha256, name in module.KNOWN_SHA256.items():
        assert len(sha256) == 64
        assert name == f"resnet18-{sha256[:8]}.pth"


def test_nothing_found_is_said_and_changes_nothing(network):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert find_encoder_weights() is None
    assert load_encoder(network, None) == RANDOM_NOTE
    assert "random weights" in RANDOM_NOTE
    assert "--encoder-weights" in RANDOM_NOTE
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_grey_image_gives_what_it_gave_in_colour(network, classifier, in_torchvision):
    found = find_encoder_weights()
    assert (found.path, found.sha256) == (in_torchvision, measure_sha256(in_torchvision))
    assert load_encoder(network, found) == "encoder: ImageNet weights resnet18-f37072fd.pth"
    grey = torch.rand((2, 1, 96, 160), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        x = classifier.maxpool(classifier.relu(classifier.bn1(classifier.conv1(grey.expand(-1, 3, -1, -1)))))
        for layer in (classifier.layer1, classifier.layer2, classifier.layer3, classifier.layer4):
            x = layer(x)
        features = network.encoder(grey)[-1]
    assert x.std() > 0.1
    torch.testing.assert_close(features, x, rtol=1e-4, atol=1e-4)
    kernel = classifier.conv1.weight
    expected = kernel[:, 0] + kernel[:, 1] + kernel[:, 2]
    torch.testing.assert_close(network.encoder.conv1.weight[:, 0], expected, rtol=0, atol=1e-6)


def test_as_smp_itself_fills_it(caches, network, classifier, monkeypatch):
    """SMP, offline with the same cache, ends with the same encoder."""
    import segmentation_models_pytorch as smp
    from segmentation_models_pytorch import encoders

    path = put_in_smp_cache(caches, classifier)
    monkeypatch.setattr(encoders, "hf_hub_download", lambda *args, **kwargs: str(path))
    theirs = smp.Unet("resnet18", encoder_weights="imagenet", in_channels=1)
    note = load_encoder(network, find_encoder_weights())
    assert note == "encoder: ImageNet weights smp-hub/resnet18.imagenet of SMP's cache"
    for name, value in theirs.encoder.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], value), name


def test_the_rest_of_the_network_stays(network, in_torchvision):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    load_encoder(network, find_encoder_weights())
    after = network.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if not k.startswith("encoder."))
    assert not torch.equal(after["encoder.layer4.1.conv2.weight"], before["encoder.layer4.1.conv2.weight"])


def test_a_file_of_2017_without_counters_in_the_old_format(network, classifier, in_torchvision, monkeypatch):
    old = {k: torch.nn.Parameter(v) for k, v in classifier.state_dict().items() if v.is_floating_point()}
    path = in_torchvision.with_name("resnet18-5c106cde.pth")
    torch.save(old, path, _use_new_zipfile_serialization=False)
    in_torchvision.unlink()
    monkeypatch.setattr(module, "KNOWN_SHA256", {measure_sha256(path): path.name})
    assert load_encoder(network, find_encoder_weights()).endswith("resnet18-5c106cde.pth")
    assert torch.equal(network.encoder.layer3[1].bn2.running_mean, classifier.layer3[1].bn2.running_mean)


def test_a_cached_file_with_another_hash_is_refused(in_torchvision):
    content = bytearray(in_torchvision.read_bytes())
    content[len(content) // 2] ^= 1
    in_torchvision.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"resnet18-f37072fd\.pth has SHA-256 .* instead of .*: damaged; delete"
    ):
        find_encoder_weights()


def test_a_damaged_file_is_passed_over_for_a_good_one(caches, in_torchvision, classifier):
    in_torchvision.write_bytes(b"no")
    good = put_in_smp_cache(caches, classifier)
    assert find_encoder_weights().path == good


def test_a_damaged_blob_is_refused(caches, classifier):
    blob = put_in_smp_cache(caches, classifier).resolve()
    blob.write_bytes(blob.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"model\.safetensors has SHA-256 .* damaged"):
        find_encoder_weights()


def test_a_cache_without_links_holds_no_hash(caches, network, classifier):
    put_in_smp_cache(caches, classifier, linked=False)
    note = load_encoder(network, find_encoder_weights())
    assert note == "encoder: ImageNet weights smp-hub/resnet18.imagenet of SMP's cache, hash not checked"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_given_file_of_unknown_hash_is_taken_and_said(
    tmp_path, network, classifier, in_torchvision, suffix
):
    path = tmp_path / f"mine{suffix}"
    state = {k: v + 1 if v.is_floating_point() else v for k, v in classifier.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    note = load_encoder(network, find_encoder_weights(path))
    assert note == f"encoder: weights mine{suffix}, unknown hash {measure_sha256(path)[:16]}…"
    assert torch.equal(network.encoder.bn1.bias, classifier.bn1.bias + 1)


def test_a_given_file_of_known_hash_is_named(tmp_path, in_torchvision):
    path = tmp_path / "renamed.pth"
    os.replace(in_torchvision, path)
    found = find_encoder_weights(path)
    assert (found.path, found.note) == (path, "encoder: ImageNet weights resnet18-f37072fd.pth")


def test_given_weights_that_do_not_fit_change_nothing(tmp_path, network, classifier):
    from torchvision.models import resnet34

    before = network.encoder.bn1.bias.clone()
    cases = {
        "deeper": (resnet34(weights=None).state_dict(), "foreign .layer1.2.*encoder resnet34"),
        "poor": (
            {k: v for k, v in classifier.state_dict().items() if k != "bn1.weight"},
            "1 missing .bn1.weight",
        ),
        "nan": (
            {**classifier.state_dict(), "bn1.bias": torch.full((64,), torch.nan)},
            "not finite .bn1.bias",
        ),
        "four": ({**classifier.state_dict(), "conv1.weight": torch.zeros(64, 4, 7, 7)}, "4 channels"),
    }
    for name, (state, said) in cases.items():
        torch.save(state, tmp_path / f"{name}.pth")
        with pytest.raises(ValueError, match=rf"{name}\.pth .*{said}"):
            load_encoder(network, find_encoder_weights(tmp_path / f"{name}.pth"))
        assert torch.equal(network.encoder.bn1.bias, before)


def test_a_missing_or_damaged_given_file(tmp_path, network, classifier, in_torchvision):
    with pytest.raises(ValueError, match=r"none\.pth do not exist"):
        find_encoder_weights(tmp_path / "none.pth")
    path = tmp_path / "cut.safetensors"
    save_file(classifier.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"cut\.safetensors cannot be read"):
        load_encoder(network, find_encoder_weights(path))


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"echo boom > '{self.path}'",)


def test_code_is_refused_and_not_run(tmp_path, network):
    bomb = Bomb(tmp_path / "boom")
    torch.save({"conv1.weight": bomb}, tmp_path / "mine.pth")
    with pytest.raises(ValueError, match=r"holds code \(\w+\.system\)"):
        load_encoder(network, find_encoder_weights(tmp_path / "mine.pth"))
    assert not (tmp_path / "boom").exists()
    pickle.loads(pickle.dumps(bomb))
    assert (tmp_path / "boom").exists()


def test_a_network_without_such_an_encoder(in_torchvision):
    with pytest.raises(ValueError, match="choose the architecture smp-unet"):
        load_encoder(build_network({"name": "light-unet"}), find_encoder_weights())
