"""The trainings in a folder: what was saved, what can be resumed, which names are free. No Qt."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from pathlib import Path

from napari_lowdose_tem.network.model_file import SUFFIX

STATE_SUFFIX, LAST_SUFFIX = ".state", f".last{SUFFIX}"
_CLOCK_ERROR_S = 5.0


def state_of(output: Path) -> Path:
    """State file of a training that saves to `output`."""
    return output.with_name(f"{output.name.removesuffix(SUFFIX)}{STATE_SUFFIX}")


def saved_model(output: Path, since_s: float = 0.0) -> Path | None:
    """Best model a training saved after a time [s], else its last one, else None."""
    last = output.with_name(f"{output.name.removesuffix(SUFFIX)}{LAST_SUFFIX}")
    for path in (output, last):
        # clocks of drives and computers may differ by seconds
        if path.is_file() and path.stat().st_mtime > since_s - _CLOCK_ERROR_S:
            return path
    return None


def list_stopped(folder: Path) -> tuple[tuple[str, str], ...]:
    """List trainings that can be resumed, the latest first: (path of the model, label)."""
    found = []
    try:
        for path in folder.glob(f"*{STATE_SUFFIX}"):
            found.append((path.stat().st_mtime, path))
    except OSError:
        return ()
    return tuple(
        (str(path.with_suffix(SUFFIX)), f"{path.stem}, {_when(saved_s)}")
        for saved_s, path in sorted(found, reverse=True)
    )


def exists(output: Path) -> bool:
    """Whether an earlier training would be replaced."""
    return output.exists() or state_of(output).exists()


def why_no_name(name: str, bundled: Collection[str] = ()) -> str:
    """Say why a model cannot have this name, or nothing when it can."""
    if not name:
        return "Give the model a name."
    if not re.fullmatch(r"[\w+-][\w .+-]*", name) or name.endswith((" ", ".", ".last")):
        return "Use letters, digits, spaces, - and _ in the name."
    if name in bundled:
        return f"“{name}” comes with the plugin; choose another name."
    return ""


def propose_name(data_name: str, folder: Path, bundled: Collection[str] = ()) -> str:
    """Propose a name after the data that is free."""
    stem = re.sub(r"[^\w+-]+", "-", data_name).strip("-") or "model"
    name, number = stem, 1
    while exists(folder / f"{name}{SUFFIX}") or why_no_name(name, bundled):
        number += 1
        name = f"{stem}-{number}"
    return name


def _when(saved_s: float) -> str:
    return time.strftime("%d %b %H:%M", time.localtime(saved_s))
