"""The models to choose from, and the engine options a dock and the Preferences add up to."""

from __future__ import annotations

from pathlib import Path

from napari_lowdose_tem.engine.options import EngineOptions
from napari_lowdose_tem.network.model_file import DEFAULT_MODEL, ModelFile, find_model, list_models
from napari_lowdose_tem.widgets.shared.settings import read_settings
from napari_lowdose_tem.widgets.shared.state import ModelState
from napari_lowdose_tem.widgets.shared.worker import error_line

_TRAINED = "rained on simulated particles (Ni, FeNi, SiC, silicate, alumina)"
_BUNDLED = {
    "default": ("Default", f"T{_TRAINED}"),
    "fast": ("Fast", f"Half the computing time of Default, slightly less accurate. T{_TRAINED}"),
    "paper": ("Katsuno 2021", f"The ResNet-18 U-Net of the paper, for comparison; briefly t{_TRAINED}"),
}
"""Label and description of the models that come with the plugin."""


class ModelList:
    """Model files by path: the bundled ones, those in the user's folder, and files chosen elsewhere."""

    def __init__(self) -> None:
        self._files: dict[str, ModelFile] = {}

    def __getitem__(self, path: str) -> ModelFile:
        """Return the model file at a path that is listed."""
        return self._files[path]

    @property
    def choices(self) -> tuple[tuple[str, str], ...]:
        """(path, label) of each model."""
        return tuple((path, model_label(file)) for path, file in self._files.items())

    @property
    def default(self) -> str:
        """Path of the default model, else of the first, else nothing."""
        paths = [path for path, file in self._files.items() if file.label == DEFAULT_MODEL]
        return next(iter([*paths, *self._files]), "")

    def reload(self, *, keep: str = "", with_last: bool = True) -> None:
        """List the models again, and `keep` wherever it is; those of running trainings `with_last` only."""
        kept = self._files.get(keep)
        found = list_models(read_settings().model_folder)
        self._files = {
            str(file.path): file for file in found if with_last or not file.label.endswith(".last")
        }
        if kept is not None:
            self._files.setdefault(keep, kept)

    def add(self, path: str) -> None:
        """List a model file from anywhere; raises ValueError or OSError where it cannot be read."""
        if path not in self._files:
            self._files[path] = find_model(path)

    def choose(self, path: str, state: ModelState) -> bool:
        """Make a model the one of a dock; return False, with the reason in the state, where it cannot be."""
        try:
            self.add(path)
        except (ValueError, OSError) as error:
            state.report(error_line(error), is_error=True)
            return False
        state.models = self.choices
        state.model, state.model_text = path, describe_model(self[path])
        state.report("")
        return True

    def choose_default(self, state: ModelState) -> None:
        """List the models again, and make the default the one of a dock."""
        self.reload()
        if not self.default:
            state.model_text = "No model is installed. Choose a model file."
        else:
            self.choose(self.default, state)

    def labels_outside(self, folder: Path) -> set[str]:
        """Names of the models that are not in a folder."""
        return {file.label for file in self._files.values() if file.path.parent != folder}


def engine_options(model: str, device: str) -> EngineOptions:
    """Combine the choices of a dock with the Preferences.

    Raises
    ------
    ValueError
        When no model is chosen, or its file is gone.
    """
    if not model:
        raise ValueError("Choose a model.")
    if not model_time_ns(model):
        raise ValueError(f"The model file {model} is gone. Choose another.")
    settings = read_settings()
    return EngineOptions(model=model, device=device, precision=settings.precision, tile_px=settings.tile_px)


def model_time_ns(model: str | Path) -> int:
    """Time a model file was last changed [ns], 0 when it is gone."""
    try:
        return Path(model).stat().st_mtime_ns
    except OSError:
        return 0


def describe_model(file: ModelFile) -> str:
    """Describe what a model was trained on, and for which doses."""
    info = file.info
    text = _BUNDLED[file.label][1] if _is_bundled(file) else info.description or info.name
    if info.dose_e_per_px:
        low, high = info.dose_e_per_px
        text = f"{text.rstrip('.')}. For {low:g}–{high:g} e⁻/px per frame."
    return text


def model_label(file: ModelFile) -> str:
    """Name of a model in the list."""
    if _is_bundled(file):
        return _BUNDLED[file.label][0]
    return file.label if file.label != DEFAULT_MODEL else f"Default ({file.info.name})"


def recipe_label(name: str) -> str:
    """Name of a training recipe in the list: that of the model trained by it."""
    return _BUNDLED[name][0] if name in _BUNDLED else name.capitalize()


def _is_bundled(file: ModelFile) -> bool:
    return file.label == file.info.name and file.label in _BUNDLED
