"""Weights from elsewhere: PyTorch files read without running what is in them, and the authors' network."""

from __future__ import annotations

import os
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.io.output import replacing
from napari_lowdose_tem.network.model_file import SUFFIX, ModelInfo, load_model, measure_sha256, save_model
from napari_lowdose_tem.network.scaling import RECIPES

if TYPE_CHECKING:
    import torch

SOURCES = {
    "paper": "Katsuno et al. 2021, arXiv:2106.01718",
    "followup": "Katsuno et al., follow-up of 2023",
}
"""Preprocessing recipes of published weights, and who published them."""

_ARCHITECTURE = {"name": "smp-unet", "encoder": "resnet18"}
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network", "params")
_PREFIXES = ("module.", "model.", "_orig_mod.")  # DataParallel, Lightning, torch.compile
_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
_TOLERANCE = 1e-6
# what torch.load was seen to raise for foreign, cut and altered files
_LOAD_ERRORS = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError,
    AttributeError, ImportError, AssertionError, ArithmeticError, MemoryError, struct.error,
)  # fmt: skip


def import_weights(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    recipe: str = "paper",
    overwrite: bool = False,
    name: str = "",
    licence: str = "MIT",
) -> Path:
    """Make a model file of the authors' published `params.pth`.

    Parameters
    ----------
    source
        State dict of `smp.Unet("resnet18", in_channels=1, classes=1)` without activation, as torch saves it;
        all versions of segmentation-models-pytorch from 0.1 on name its tensors alike.
    output
        Model file to write, in float32 so that nothing changes.
    recipe
        Preprocessing it was trained with: one of `SOURCES`.
    name, licence
        For the header; the file's stem, and the licence of the authors' repository.

    Raises
    ------
    ValueError
        When the file is not such a state dict; nothing is written then, and nothing in it is ever run.
    """
    import torch

    from napari_lowdose_tem.network.networks import build_network

    source, output = Path(source), Path(output)
    if recipe not in SOURCES:
        raise ValueError(f"recipe {recipe!r} is not one of published weights; use {' or '.join(SOURCES)}")
    if output.suffix != SUFFIX:
        raise ValueError(f"model file {output} should end in {SUFFIX}")
    if output.exists() and not overwrite:
        raise ValueError(f"{output} exists; choose another name or overwrite it")
    if source.is_file() and is_safetensors(source):
        raise ValueError(
            f"{source} is a safetensors file, not PyTorch's; a model of this program is used as it is, "
            f"with --model {source}"
        )
    weights = read_state_dict(source)
    network = build_network(_ARCHITECTURE).eval()
    network.load_state_dict(fit_weights(weights, network.state_dict(), f"{source}", "the paper's U-Net"))
    sha256 = measure_sha256(source)
    info = ModelInfo(
        name=name or output.stem,
        version="1",
        architecture=_ARCHITECTURE,
        recipe=RECIPES[recipe],
        description=f"U-Net with ResNet-18 encoder of {SOURCES[recipe]}, "
        f"imported from {source.name} (SHA-256 {sha256})",
        licence=licence,
        training={"data": f"published weights, {SOURCES[recipe]}", "source_sha256": sha256},
    )
    # looked at under another name, so that only a file that works gets the final one
    frame = torch.rand((1, 1, 64, 96), generator=torch.Generator().manual_seed(1))
    with replacing(output) as trial:
        save_model(trial, network.state_dict(), info, half=False)
        with torch.inference_mode():
            difference = float((load_model(trial).network(frame) - network(frame)).abs().max())
        if not difference <= _TOLERANCE:
            raise ValueError(
                f"the network of {source} gives {difference:.1g} elsewhere after saving, "
                f"or values that are not finite; the weights are damaged"
            )
    return output


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read the named tensors of a file that torch wrote, new or old format, onto the CPU.

    A surrounding `{"state_dict": …}` and prefixes such as DataParallel's "module." are taken off.

    Raises
    ------
    ValueError
        When the file is missing, damaged, holds code or more than tensors; code in it is never run.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist or is a folder")
    with path.open("rb") as file:
        try:
            # of its warnings, on pickle protocols, those that matter end in an error
            with warnings.catch_warnings(action="ignore"):
                content = torch.load(file, map_location="cpu", weights_only=True)
        except _LOAD_ERRORS as err:
            raise ValueError(_explain(err, path)) from err
    return _strip_prefixes(_unwrap(content, path))


def fit_weights(
    weights: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    source: str,
    network: str,
) -> dict[str, torch.Tensor]:
    """Check weights against a network's own and return them in its types.

    Counters of batch normalisation, which old files lack, are filled with the network's.

    Raises
    ------
    ValueError
        Naming what is missing, foreign, misshapen or not finite in `source`.
    """
    counters = {k: v for k, v in expected.items() if k.endswith(".num_batches_tracked")}
    missing = sorted(expected.keys() - weights.keys() - counters.keys())
    foreign = sorted(weights.keys() - expected.keys())
    misfit = sorted(
        k
        for k in expected.keys() & weights.keys() - counters.keys()
        if expected[k].shape != weights[k].shape or not weights[k].is_floating_point()
    )
    if missing or foreign or misfit:
        parts = []
        if missing:
            parts.append(f"{len(missing)} missing ({missing[0]})")
        if foreign:
            parts.append(f"{len(foreign)} foreign ({foreign[0]})")
        if misfit:
            key = misfit[0]
            parts.append(
                f"{len(misfit)} misshapen ({key}: {tuple(weights[key].shape)} {weights[key].dtype} "
                f"for {tuple(expected[key].shape)})"
            )
        raise ValueError(
            f"weights in {source} do not fit {network}: {', '.join(parts)}{_guess_network(weights)}"
        )
    fitted = {
        k: v.clone() if k in counters else weights[k].to(v.dtype).contiguous() for k, v in expected.items()
    }
    bad = sorted(k for k, v in fitted.items() if not bool(v.isfinite().all()))
    if bad:
        raise ValueError(f"weights in {source} hold values that are not finite ({bad[0]}); get them again")
    return fitted


def is_safetensors(path: Path) -> bool:
    """Tell by its first bytes whether a file is of the safetensors format."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] < path.stat().st_size


def _explain(err: Exception, path: Path) -> str:
    # torch names what it met: "Unsupported global: GLOBAL posix.system was not an allowed global"
    code = re.search(r"(?:GLOBAL|class|function) ([\w.]+\.\w+)", str(err))
    if isinstance(err, pickle.UnpicklingError) and code:
        return (
            f"{path} holds code ({code[1]}), not weights alone; it was not run. "
            "Get the file from its authors, or save it anew with torch.save(network.state_dict(), …)"
        )
    return f"{path} is not a file of PyTorch weights, or it is damaged; get it again"


def _unwrap(content: Any, path: Path) -> dict[str, torch.Tensor]:
    import torch

    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"{path} holds no dictionary of weights; save it with torch.save(network.state_dict(), …)"
        )
    for key, value in content.items():
        plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized
        if not isinstance(key, str) or not plain or value.device.type != "cpu":
            raise ValueError(
                f"{path} holds {type(value).__name__} at {key!r}, not a plain tensor; "
                "save it with torch.save(network.state_dict(), …)"
            )
    return {key: value.detach() for key, value in content.items()}


def _strip_prefixes(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for _ in _PREFIXES:
        for prefix in _PREFIXES:
            if all(key.startswith(prefix) for key in weights):
                weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _guess_network(weights: Mapping[str, torch.Tensor]) -> str:
    """Say what network weights seem to belong to: a clause for an error, or nothing."""
    inside = "encoder." if any(k.startswith("encoder.") for k in weights) else ""
    blocks = tuple(
        len({k.split(".")[bool(inside) + 1] for k in weights if k.startswith(f"{inside}layer{i}.")})
        for i in range(1, 5)
    )
    encoder = _RESNETS.get((blocks, f"{inside}layer1.0.conv3.weight" in weights))
    depth = len({k.split(".")[2] for k in weights if k.startswith("decoder.blocks.")})
    first, head = weights.get(f"{inside}conv1.weight"), weights.get("segmentation_head.0.weight")
    if "fc.weight" in weights:
        guess = f"a classifier, {encoder or 'not a ResNet'}; as a start for training it is --encoder-weights"
    elif any(k.startswith("decoder.layer1.") for k in weights):
        guess = "a network of segmentation-models-pytorch before 0.1"
    elif encoder and encoder != "resnet18":
        guess = f"a network with encoder {encoder}, not resnet18"
    elif depth not in (0, 5):
        guess = f"a network of encoder depth {depth}, not 5"
    elif any(".attention" in k for k in weights):
        guess = "a network with attention in its decoder"
    elif first is not None and first.ndim == 4 and first.shape[1] != 1:
        guess = f"a network for {first.shape[1]} channels, not 1"
    elif head is not None and head.ndim == 4 and head.shape[0] != 1:
        guess = f"a network with {head.shape[0]} classes, not 1"
    else:
        return ""
    return f"; they seem to be of {guess}"
