"""What napari.yaml names beside the docks: reader, writer, sample data, menu commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_lowdose_tem.widgets.shared.layers import image_from_data, layer_tuple
from napari_lowdose_tem.widgets.shared.viewer import viewer_itself

if TYPE_CHECKING:
    import napari

    from napari_lowdose_tem.widgets.enhance.dock import EnhanceDock
    from napari_lowdose_tem.widgets.shared.layers import LayerTuple

_PLUGIN_NAMES = ("Enhance low-dose TEM", "napari-lowdose-tem")  # to the menu, to `add_plugin_dock_widget`
_MOVIE_FRAMES, _MOVIE_SHAPE = 50, (256, 320)
_FRAME_TIME_S = 0.1
_MATERIAL, _SEED = "FeNi", 3


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerTuple]] | None:
    """Return a reader for files or a folder, or None when they are of another kind."""
    from napari_lowdose_tem.io import can_read
    from napari_lowdose_tem.widgets.load.read_layers import is_data_set

    paths = [path] if isinstance(path, str | Path) else path
    return _read if all(can_read(p) or is_data_set(Path(p)) for p in paths) else None


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer with its pixel size, frame time, gain and provenance.

    Raises
    ------
    OSError
        When the layer is no stack or frame of counts, or still reads from the file to be replaced.
        A ValueError would mean to napari that this is no writer for the file, and its text would be lost.
    """
    from napari_lowdose_tem.io import write

    try:
        if attributes.get("rgb"):
            raise ValueError("a colour image; colours are not counts, save it with napari's own writer")
        image = image_from_data(data, attributes)
        source = image.provenance.get("source")
        if image.is_lazy and source and Path(source) == Path(path).absolute():
            raise ValueError("the layer still reads its frames from this file; choose another name")
        return [str(write(image, path, overwrite=True))]
    except ValueError as error:
        text = str(error)
        raise OSError(text if path in text else f"{path}: {text}") from error


def sample_pair() -> list[LayerTuple]:
    """Simulate a high-dose and a low-dose image of one field; the particles' truth is in the metadata."""
    from napari_lowdose_tem.simulate import simulate_pair

    high, low, scene = simulate_pair(
        _MATERIAL, shape=(512, 512), pixel_size_nm=3.0, dose_e_per_px=5.0, rng=_SEED
    )
    truth = {"truth": scene.truth}
    return [_sample(high, "HDE sample", truth), _sample(low, "LDE sample", truth)]


def sample_movie() -> list[LayerTuple]:
    """Simulate a low-dose movie of moving particles; their truth, frame by frame, is in the metadata."""
    from napari_lowdose_tem.simulate import make_sequence

    _, movie, truth = make_sequence(
        _MATERIAL, n_frames=_MOVIE_FRAMES, shape=_MOVIE_SHAPE, pixel_size_nm=3.0, dose_e_per_px=5.0, rng=_SEED
    )
    movie = movie.with_data(movie.data, frame_time_s=_FRAME_TIME_S)
    return [_sample(movie, "LDE movie", {"truth": truth})]


def enhance_stack(viewer: napari.viewer.Viewer) -> None:
    """Open the Enhance dock on the selected layer, ready to start on the whole stack."""
    open_enhance(viewer).prepare_stack()


def open_enhance(viewer: napari.viewer.Viewer) -> EnhanceDock:
    """Bring the Enhance dock to the front, or open it as the menu does, for there to be only one."""
    from napari_lowdose_tem.widgets.enhance.dock import EnhanceDock

    window = viewer_itself(viewer).window
    names = [f"Enhance ({plugin})" for plugin in _PLUGIN_NAMES]
    dock = next((window.dock_widgets[name] for name in names if name in window.dock_widgets), None)
    if dock is None:
        dock = EnhanceDock(viewer)
        window.add_dock_widget(dock, name=names[0])
    else:
        dock.parent().show()
        dock.parent().raise_()
    return dock


def _read(paths: str | Sequence[str]) -> list[LayerTuple]:
    from napari_lowdose_tem.widgets.load.read_layers import iter_layers

    return list(iter_layers([paths] if isinstance(paths, str | Path) else paths))


def _sample(image: Any, name: str, truth: dict[str, Any]) -> LayerTuple:
    data, attributes, kind = layer_tuple(image, name)
    attributes["metadata"] |= truth
    return data, attributes, kind
