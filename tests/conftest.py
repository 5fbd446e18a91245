import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import tifffile
from scipy import ndimage

from napari_lowdose_tem.io import read
from napari_lowdose_tem.simulate import simulate_pair


@pytest.fixture(autouse=True)
def torch_alone(monkeypatch):
    """Automatic choice among torch's processors: OpenVINO, where installed, is tested by name."""
    import napari_lowdose_tem.engine.device

    kinds = tuple(k for k in napari_lowdose_tem.engine.device._KINDS if k != "openvino")
    monkeypatch.setattr(napari_lowdose_tem.engine.device, "_AUTOMATIC", kinds)


@pytest.fixture(autouse=True)
def no_lower_priority(monkeypatch):
    """A live process is not starved by whatever else runs on the machine."""
    import napari_lowdose_tem.live.process

    monkeypatch.setattr(napari_lowdose_tem.live.process, "_NICENESS", 0)


@pytest.fixture
def live_processes():
    """Return what lists the processes of live enhancement that this one has started."""

    def is_one(process):
        try:
            return "process_main.main(" in " ".join(process.cmdline())
        except psutil.ZombieProcess:
            return True  # ended, but nobody has looked
        except psutil.NoSuchProcess:
            return False

    def find():
        return [child for child in psutil.Process().children() if is_one(child)]

    return find


@pytest.fixture(scope="session")
def data_dir():
    """Real files of microscopes."""
    folder = Path(os.environ.get("LOWDOSE_TEM_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "formats").is_dir():
        pytest.skip(f"no real files at {folder}; set LOWDOSE_TEM_DATA to the folder that holds formats/")
    return folder


@pytest.fixture(scope="session")
def lde_pair(data_dir):
    """Two real low-dose frames of one field."""
    return tuple(read(data_dir / "lde_pair" / f"train_000{i}.tif") for i in (1, 2))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A small network with random weights, in half precision."""
    import torch

    from napari_lowdose_tem.network.model_file import ModelInfo, save_model
    from napari_lowdose_tem.network.networks import build_network
    from napari_lowdose_tem.network.scaling import RECIPES

    torch.manual_seed(4)
    architecture = {"name": "light-unet", "channels": [5, 6, 7, 8, 9]}
    network = build_network(dict(architecture))
    for parameter in network.parameters():  # the zero-initialised branches would hide most of the network
        torch.nn.init.normal_(parameter, std=0.2)
    info = ModelInfo("tiny", "1", architecture, RECIPES["level"])
    return save_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", network.state_dict(), info)


@pytest.fixture
def counts():
    """Three low-dose frames, neither square nor symmetric [counts]."""
    row, col = np.mgrid[:96, :160]
    background = 5 + 0.01 * row - 0.005 * col
    return (np.random.default_rng(7).poisson(np.stack([background] * 3)) * 44).astype(np.uint16)


@pytest.fixture
def no_op(monkeypatch):
    """An engine that returns the low-dose frame itself."""

    import napari_lowdose_tem.engine.engine

    class NoOp:
        model = SimpleNamespace(file=SimpleNamespace(label="no-op"))

        def __init__(self, model, device=None):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            pass

        def measure(self, image):
            return None

        def enhance(self, counts, scaling):
            return counts.astype(np.float32)

    monkeypatch.setattr(napari_lowdose_tem.engine.engine, "Engine", NoOp)


def render_spheres(shape, spheres, sigma=0.0, pixel=(1.0, 1.0), level=1000.0, over=6):
    """Image of blurred spheres by brute force: points on a fine grid, blurred, averaged over pixels.

    `spheres`: (row, col, diameter, T_min), lengths in the unit of `pixel`.
    """
    rows, cols = (
        ((np.arange(n * over) + 0.5) / over - 0.5) * size for n, size in zip(shape, pixel, strict=True)
    )
    exponent = np.zeros((len(rows), len(cols)))
    for row, col, diameter, t_min in spheres:
        square = 1 - ((rows[:, None] - row) ** 2 + (cols - col) ** 2) / (diameter / 2) ** 2
        exponent += np.log(t_min) * np.sqrt(np.maximum(square, 0))
    fine = ndimage.gaussian_filter(np.exp(exponent), [sigma * over / size for size in pixel], mode="nearest")
    return level * fine.reshape(shape[0], over, shape[1], over).mean((1, 3))


@pytest.fixture(scope="session")
def render():
    return render_spheres


@pytest.fixture(scope="session")
def field():
    """High dose and low dose of one simulated field [counts], on one grid, and its transmission."""
    high, low, scene = simulate_pair("FeNi", shape=(384, 512), dose_e_per_px=8.0, rng=4, n_particles=60)
    return high, low, scene


@pytest.fixture
def frames():
    """Makes frame number n: noise about a level that tells the number [counts]."""

    def make(n, shape=(40, 56)):
        return (np.random.default_rng(n).poisson(5, shape) * 44 + n).astype(np.uint16)

    return make


@pytest.fixture
def save_tiff(frames):
    """Saves frame n under its final name at once, as a camera that renames does."""

    def save(folder, n, **options):
        path = folder / f"frame_{n}.tif"
        temporary = folder / f"frame_{n}.tmp"
        tifffile.imwrite(temporary, frames(n), **options)
        temporary.rename(path)
        return path

    return save
