"""ImageNet weights for the paper's encoder: found on this machine, checked by hash, never downloaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.network.import_weights import fit_weights, is_safetensors, read_state_dict
from napari_lowdose_tem.network.model_file import measure_sha256

if TYPE_CHECKING:
    import torch

# torchvision's two files of the same weights; the name holds the first eight digits of the hash
KNOWN_SHA256 = {
    "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec": "resnet18-f37072fd.pth",
    "5c106cde386e87d4033832f2996f5493238eda96ccf559d1d62760c4de0613f8": "resnet18-5c106cde.pth",
}
RANDOM_NOTE = (
    "encoder starts from random weights: no ImageNet ResNet-18 in torchvision's or SMP's cache; "
    "give one with --encoder-weights"
)


@dataclass(frozen=True)
class EncoderWeights:
    """A file of ResNet-18 weights, its hash known or not.

    Parameters
    ----------
    path, sha256
        The file and its hash.
    note
        What to tell the user about it.
    """

    path: Path
    sha256: str
    note: str


def find_encoder_weights(given: str | os.PathLike[str] | None = None) -> EncoderWeights | None:
    """Find the ImageNet-trained ResNet-18: the given file, else torchvision's cache, else SMP's.

    Parameters
    ----------
    given
        File of the user's, .pth or .safetensors; it may be one whose hash is not known, which the note says.

    Returns
    -------
    The weights, or None when there are none on this machine.

    Raises
    ------
    ValueError
        When the given file does not exist, or the only ones found do not have the hash they should have.
    """
    if given is not None:
        return _look_at_given(Path(given))
    refused = []
    for path, sha256, label in (*_find_torchvision(), *_find_smp()):
        found = measure_sha256(path)
        if sha256 is None:
            return EncoderWeights(path, found, f"encoder: ImageNet weights {label}, hash not checked")
        if found == sha256:
            return EncoderWeights(path, found, f"encoder: ImageNet weights {label}")
        refused.append(f"{path} has SHA-256 {found[:16]}… instead of {sha256[:16]}…")
    if refused:
        raise ValueError(f"{refused[0]}: damaged; delete it, or give another with --encoder-weights")
    return None


def load_encoder(network: torch.nn.Module, weights: EncoderWeights | None) -> str:
    """Fill the encoder of the paper's network; without weights it stays as it is.

    The first convolution is summed over the three colours: a grey image then gives what it gave in colour.

    Returns
    -------
    A sentence for the user: what the encoder starts from.

    Raises
    ------
    ValueError
        When the network has no ResNet-18 encoder or the weights do not fit it; nothing is changed then.
    """
    encoder: Any = getattr(network, "encoder", None)
    if getattr(encoder, "conv1", None) is None:
        raise ValueError("the network has no ResNet-18 encoder to fill; choose the architecture smp-unet")
    if weights is None:
        return RANDOM_NOTE
    tensors = _read(weights.path)
    for key in ("fc.weight", "fc.bias"):
        tensors.pop(key, None)
    expected = encoder.state_dict()
    first = tensors.get("conv1.weight")
    if (
        first is not None
        and first.ndim == 4
        and first.shape[1] == 3
        and expected["conv1.weight"].shape[1] == 1
    ):
        tensors["conv1.weight"] = first.float().sum(dim=1, keepdim=True)
    encoder.load_state_dict(fit_weights(tensors, expected, f"{weights.path}", "a ResNet-18 encoder"))
    return weights.note


def _look_at_given(path: Path) -> EncoderWeights:
    if not path.is_file():
        raise ValueError(f"encoder weights {path} do not exist; give a .pth or .safetensors file")
    sha256 = measure_sha256(path)
    known = KNOWN_SHA256.get(sha256)
    note = f"ImageNet weights {known}" if known else f"weights {path.name}, unknown hash {sha256[:16]}…"
    return EncoderWeights(path, sha256, f"encoder: {note}")


def _find_torchvision() -> list[tuple[Path, str | None, str]]:
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    found: list[tuple[Path, str | None, str]] = []
    for sha256, name in KNOWN_SHA256.items():
        if (folder / name).is_file():
            found.append((folder / name, sha256, name))
    return found


def _find_smp() -> list[tuple[Path, str | None, str]]:
    from huggingface_hub import try_to_load_from_cache
    from segmentation_models_pytorch.encoders import encoders

    settings = encoders["resnet18"]["pretrained_settings"]["imagenet"]
    # looks at the disk only, for the very revision this SMP would load
    cached = try_to_load_from_cache(settings["repo_id"], "model.safetensors", revision=settings["revision"])
    if not isinstance(cached, str):
        return []
    blob = Path(cached).resolve()
    # the cache names a file by its hash; where there are no symbolic links (Windows) it keeps no hash at all
    sha256 = blob.name if blob.parent.name == "blobs" else None
    return [(Path(cached), sha256, f"{settings['repo_id']} of SMP's cache")]


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not is_safetensors(path):
        return read_state_dict(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as err:
        raise ValueError(f"{path} cannot be read: {err}; get it again") from err
