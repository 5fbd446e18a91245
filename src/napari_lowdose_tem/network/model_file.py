"""One-file models: safetensors whose JSON header says what the network is and how it was trained.

Reading a header or listing models needs no torch; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from napari_lowdose_tem.io.output import replacing
from napari_lowdose_tem.network.scaling import check_recipe

if TYPE_CHECKING:
    import torch

SUFFIX = ".safetensors"
DEFAULT_MODEL = "default"
_HEADER_KEY = "lowdose_tem"
_LONGEST_HEADER = 16 * 2**20
_BUNDLED = Path(__file__).parents[1] / "models"


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says about itself.

    Parameters
    ----------
    name, version, description, licence
        For people.
    architecture
        `{"name": …, **arguments}` as `network.build_network` takes it.
    recipe
        Preprocessing, as in `preprocess.RECIPES`.
    dose_e_per_px, gain_counts_per_e, pixel_size_nm
        Ranges (low, high) the model was trained on [e-/px, counts/e-, nm/px]; None when unknown.
    training
        How it was trained: data, loss, optimiser, steps, time, machine.
    """

    name: str
    version: str
    architecture: Mapping[str, Any]
    recipe: Mapping[str, Any]
    description: str = ""
    licence: str = "BSD-3-Clause"
    dose_e_per_px: tuple[float, float] | None = None
    gain_counts_per_e: tuple[float, float] | None = None
    pixel_size_nm: tuple[float, float] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelFile:
    """A model on disk, its header read and checked, its weights not yet."""

    path: Path
    info: ModelInfo

    @property
    def label(self) -> str:
        """The name to choose it by: the file's stem."""
        return self.path.stem

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole file."""
        return measure_sha256(self.path)


@dataclass(frozen=True, eq=False)
class Model:
    """A network in float32 on the CPU, ready for the engine, and the file it came from."""

    file: ModelFile
    network: torch.nn.Module

    @property
    def info(self) -> ModelInfo:
        """What the file says about the model."""
        return self.file.info


def measure_sha256(path: Path) -> str:
    """Hash of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_model_folder() -> Path:
    """Folder users put their own models in; LOWDOSE_TEM_MODELS names another."""
    chosen = os.environ.get("LOWDOSE_TEM_MODELS")
    return Path(chosen) if chosen else platformdirs.user_data_path("lowdose-tem", appauthor=False) / "models"


def list_models(folder: Path | None = None) -> list[ModelFile]:
    """Bundled models, the default first, then those of the user's folder; unreadable files are left out."""
    found = []
    for place in (_BUNDLED, folder or user_model_folder()):
        for path in sorted(place.glob(f"*{SUFFIX}"), key=lambda p: (p.stem != DEFAULT_MODEL, p.stem)):
            try:
                found.append(read_model_file(path))
            except (ValueError, OSError):
                continue
    return found


def find_model(name: str | os.PathLike[str] = DEFAULT_MODEL, folder: Path | None = None) -> ModelFile:
    """Find a model by path, or by name among the bundled and the user's.

    Raises
    ------
    ValueError
        When there is none, naming those there are; or when the file is not a model.
    """
    path = Path(name)
    # a bare word is a name, even where a file or folder happens to be called so
    if path.suffix == SUFFIX or len(path.parts) > 1 or (path.suffix and path.is_file()):
        if not path.is_file():
            raise ValueError(f"model file {path} does not exist")
        return read_model_file(path)
    for place in (folder or user_model_folder(), _BUNDLED):
        candidate = place / f"{name}{SUFFIX}"
        if candidate.is_file():
            return read_model_file(candidate)
    known = ", ".join(m.label for m in list_models(folder)) or "none installed"
    raise ValueError(f"no model {str(name)!r}; choose one of: {known}, or give a {SUFFIX} file")


def read_model_file(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check a model's header; costs a few kilobytes.

    Raises
    ------
    ValueError
        When the file is not a model of this program, is cut short, or names what this version does not know.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= min(_LONGEST_HEADER, size - 8):
                raise ValueError
            header = json.loads(file.read(length))
        tensors = {k: v for k, v in header.items() if k != "__metadata__"}
        end = 8 + length + max((v["data_offsets"][1] for v in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as err:
        raise ValueError(f"{path} is not a safetensors model file, or it is damaged; get it again") from err
    if end != size:
        raise ValueError(
            f"model file {path} has {size} bytes of {end}: it is cut short or damaged; get it again"
        )
    stored = (header.get("__metadata__") or {}).get(_HEADER_KEY)
    if stored is None:
        raise ValueError(
            f"{path} holds weights but does not say what network they belong to; "
            "it is not a model made by lowdose-tem"
        )
    try:
        info = ModelInfo(**json.loads(stored))
        if not (isinstance(info.recipe, dict) and isinstance(info.architecture, dict)):
            raise TypeError("recipe and architecture must be objects")
        check_recipe(info.recipe)
    except (TypeError, json.JSONDecodeError) as err:
        raise ValueError(f"model file {path} has a header this version cannot read: {err}") from err
    return ModelFile(path, info)


def load_model(name: str | os.PathLike[str] | ModelFile = DEFAULT_MODEL) -> Model:
    """Load a model by name or path: build its network, check every shape, fill in the weights.

    Raises
    ------
    ValueError
        When the weights do not fit the architecture named in the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from napari_lowdose_tem.network.networks import build_network

    file = name if isinstance(name, ModelFile) else find_model(name)
    try:
        network = build_network(dict(file.info.architecture))
    except ValueError as err:
        raise ValueError(f"model file {file.path}: {err}") from err
    try:
        weights = load_file(file.path)
    except (SafetensorError, OSError) as err:
        raise ValueError(f"model file {file.path} cannot be read: {err}") from err
    expected = network.state_dict()
    missing, foreign = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    misfit = [k for k in expected.keys() & weights.keys() if expected[k].shape != weights[k].shape]
    if missing or foreign or misfit:
        example = (missing + foreign + misfit)[0]
        raise ValueError(
            f"weights in {file.path} do not fit {dict(file.info.architecture)}: "
            f"{len(missing)} missing, {len(foreign)} foreign, {len(misfit)} misshapen (first: {example})"
        )
    if not all(bool(w.isfinite().all()) for w in weights.values()):
        raise ValueError(
            f"weights in {file.path} hold values that are not finite; train or get the model again"
        )
    network.load_state_dict(weights)  # half precision on disk becomes the network's float32
    return Model(file, network.float().eval())


def save_model(
    path: str | os.PathLike[str], weights: Mapping[str, torch.Tensor], info: ModelInfo, half: bool = True
) -> Path:
    """Write a model file, whole or not at all, in half precision unless `half` is False."""
    import torch
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"model file {path} should end in {SUFFIX}")
    dtype = torch.float16 if half else torch.float32
    tensors = {
        k: (v.detach().cpu().to(dtype) if v.is_floating_point() else v.detach().cpu()).contiguous()
        for k, v in weights.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(save(tensors, metadata={_HEADER_KEY: json.dumps(asdict(info))}))
    return path
