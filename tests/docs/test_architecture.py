"""The map in docs/architecture.md names what is there."""

import re
from pathlib import Path

import napari_lowdose_tem

ROOT = Path(__file__).parents[2]
SOURCE = Path(napari_lowdose_tem.__file__).parent
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_every_room_is_on_the_map():
    table = "".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert set(re.findall(r"`(\w+)`", table)) == rooms - {"__init__", "__pycache__"}


def test_files_and_functions_on_the_map_are_there():
    files = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py")}
    named = {
        name for name in re.findall(r"`([\w/]+\.py)`", PAGE) if not name.startswith(("tests/", "studies/"))
    }
    assert len(named) > 30
    missing = [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)]
    assert not missing
    text = "".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    for file, name in re.findall(r"`([\w/]+\.py)` `(\w+)`", PAGE):
        assert re.search(rf"^(def|class) {name}\b", text, re.M), f"{name} of {file}"
