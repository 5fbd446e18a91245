"""The rules of the house: who may import whom, and which heavy libraries wait until they are needed."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import napari_lowdose_tem

PACKAGE = "napari_lowdose_tem"
SOURCE = Path(napari_lowdose_tem.__file__).parent

# A room imports from those above it, or before it in its row; no room imports from one below.
FLOORS = """
image
io
simulate   camera     pairs
measure    particles
figures
network
engine
enhancement
live       judge      train
bench      demo       reproduce
widgets    cli
"""

# Libraries that only these rooms or modules may import at all, ...
ONLY_IN = {
    "qtpy": "widgets",
    "napari": "widgets",
    "magicgui": "widgets",
    "pyqtgraph": "widgets",
    "superqt": "widgets",
    "typer": "cli",
    "rich": "cli",
    "tifffile": "io",
    "zarr": "io",
    "rsciio": "io",
    "h5py": "io",
    "filelock": "io",
    "distributed": "enhancement",
    "openvino": "engine",
    "segmentation_models_pytorch": "network",
    "torch": "simulate network engine enhancement live train bench widgets",
}
# ... and what importing a module must not load.
QT = "qtpy PyQt6 PySide6 napari"
TORCH = "torch torchvision segmentation_models_pytorch openvino"
FILES = "numpy scipy dask zarr tifffile typer"
NOT_LOADED = {
    "": f"{FILES} {TORCH} {QT} matplotlib",
    "image io camera simulate pairs measure particles": f"{TORCH} {QT} matplotlib",
    "figures.comparison figures.profile": f"{TORCH} {QT} matplotlib",
    "network.scaling network.model_file engine.options enhancement": f"{TORCH} {QT} matplotlib",
    "live judge judge.evaluate judge.repeats cli engine.doctor demo": f"{TORCH} {QT} matplotlib",
    "engine.engine engine.device train.loop": f"{QT} matplotlib",
}


class Import(NamedTuple):
    """`name` taken from `module` (None for the module itself) by the file `by`."""

    by: str
    line: int
    module: str
    name: str | None

    def __str__(self) -> str:
        return f"{self.by}:{self.line} imports {self.name or 'it'} from {self.module}"


def iter_imports() -> Iterator[Import]:
    """All imports of the package's files, also those inside functions and for types alone."""
    for path in SOURCE.rglob("*.py"):
        by = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{by}:{node.lineno}: imports are absolute"
                yield from (Import(by, node.lineno, node.module or "", alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from (Import(by, node.lineno, alias.name, None) for alias in node.names)


IMPORTS = list(iter_imports())
OWN = [one for one in IMPORTS if one.module.split(".")[0] == PACKAGE]


def room_of(file: str) -> str:
    return Path(file).parts[0].removesuffix(".py")


def target_of(one: Import) -> str:
    """The file an import of the package's own reaches."""
    path = SOURCE.joinpath(*one.module.split(".")[1:])
    for found in (path / f"{one.name}.py", path / str(one.name) / "__init__.py", path.with_suffix(".py")):
        if found.is_file():
            return found.relative_to(SOURCE).as_posix()
    return (path / "__init__.py").relative_to(SOURCE).as_posix()


def test_every_room_stands_on_one_floor():
    rooms = {
        path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(FLOORS.split()) == sorted(rooms - {"__init__"})
    assert len(rooms) <= 20


def test_rooms_import_from_those_above_only():
    order = {room: place for place, room in enumerate(FLOORS.split())}
    wrong = []
    for one in OWN:
        room, other = room_of(one.by), room_of(target_of(one))
        if "__init__" not in (room, other) and order[other] > order[room]:
            wrong.append(str(one))
    assert not wrong


def test_docks_import_no_other_dock():
    shared = {"shared", "contributions.py", "__init__.py"}
    wrong = []
    for one in OWN:
        target = Path(target_of(one))
        if room_of(one.by) == "widgets" and target.parts[0] == "widgets":
            dock, other = Path(one.by).parts[1], target.parts[1]
            if other != dock and other not in shared and dock != "contributions.py":
                wrong.append(str(one))
    assert not wrong


def test_files_import_each_other_in_no_circle():
    arrows: dict[str, set[str]] = {}
    for one in OWN:
        if (target := target_of(one)) != one.by:
            arrows.setdefault(one.by, set()).add(target)
    done: set[str] = set()

    def visit(file: str, path: tuple[str, ...]) -> None:
        assert file not in path, " -> ".join([*path[path.index(file) :], file])
        if file not in done:
            for target in sorted(arrows.get(file, ())):
                visit(target, (*path, file))
            done.add(file)

    for file in sorted(arrows):
        visit(file, ())


def test_private_names_stay_in_their_package():
    wrong = []
    for one in OWN:
        folder, target = Path(one.by).parent, Path(target_of(one)).parent
        names = [one.name or "", *one.module.split(".")]
        if folder != target and any(n.startswith("_") and not n.startswith("__") for n in names):
            wrong.append(str(one))
    assert not wrong


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_imported_where_it_belongs(library):
    rooms = {room_of(one.by) for one in IMPORTS if one.module.split(".")[0] == library}
    assert rooms <= set(ONLY_IN[library].split())


@pytest.mark.parametrize("modules", NOT_LOADED)
def test_import_loads_nothing_heavy(modules):
    names = [f"{PACKAGE}.{name}" for name in modules.split()] or [PACKAGE]
    code = f"import sys, {', '.join(names)}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(ran.stdout.split()) & set(NOT_LOADED[modules].split())


def test_public_names_stay_what_they_are():
    for name in napari_lowdose_tem.__all__:
        first = getattr(napari_lowdose_tem, name)
        assert not inspect.ismodule(first)
        assert getattr(napari_lowdose_tem, name) is first
    with pytest.raises(AttributeError):
        napari_lowdose_tem.nonesuch  # noqa: B018


def test_no_model_brings_triton():
    code = (
        "import sys; from napari_lowdose_tem.network.model_file import load_model; "
        "[load_model(name) for name in ('default', 'fast', 'paper')]; assert 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


# ---- sizes


def test_files_and_functions_stay_short():
    wrong = []
    for path in SOURCE.rglob("*.py"):
        text = path.read_text("utf-8")
        name = path.relative_to(SOURCE).as_posix()
        if (lines := text.count("\n")) > 400:
            wrong.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (lines := node.end_lineno - node.lineno + 1) > 80:
                wrong.append(f"{name}: {node.name} of {lines} lines")
    assert not wrong
