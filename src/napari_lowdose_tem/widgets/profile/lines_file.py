"""The file of lines with the measurements kept on them (.lines.json): its reader and writer; no Qt."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_lowdose_tem.io.output import write_text
from napari_lowdose_tem.widgets.profile.kept_rows import row_from_json
from napari_lowdose_tem.widgets.shared.layers import KEY

if TYPE_CHECKING:
    from napari_lowdose_tem.widgets.shared.layers import LayerTuple

ENDING = ".lines.json"
_KIND = "napari-lowdose-tem line profiles"


def lines_to_json(data: Sequence[Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """Lines of a Shapes layer and what was measured on them, as JSON values."""
    kinds = attributes.get("shape_type") or ["line"] * len(data)
    kinds = [kinds] * len(data) if isinstance(kinds, str) else kinds
    features = attributes.get("features")
    names = [] if features is None or "name" not in features else list(features["name"])
    lines = []
    for i, (shape, kind) in enumerate(zip(data, kinds, strict=True)):
        if kind == "line":
            start, stop = np.asarray(shape, float)[[0, -1], -2:].tolist()
            name = names[i] if i < len(names) and isinstance(names[i], str) else f"Line {i + 1}"
            lines.append({"name": name, "start": start, "stop": stop})
    scale, translate = (
        list(map(float, attributes.get(key, default)))[-2:] for key, default in _PLACE.items()
    )
    units = [str(unit) for unit in attributes.get("units") or ("pixel", "pixel")][-2:]
    ours = attributes.get("metadata", {}).get(KEY, {}).get("line_profiles", {})
    place = {"units": units, "scale": scale, "translate": translate}
    return {"kind": _KIND, "version": 1, **place, "lines": lines, "rows": list(ours.get("rows", ()))}


_PLACE = {"scale": (1.0, 1.0), "translate": (0.0, 0.0)}


def write_lines(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a Shapes layer's lines with all that was measured on them."""
    text = json.dumps(lines_to_json(data, attributes), indent=1, allow_nan=False, default=float)
    return [str(write_text(Path(path), text + "\n"))]


def get_lines_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerTuple]] | None:
    """Return a reader for files of `write_lines`, or None for others."""
    paths = [path] if isinstance(path, str | Path) else path
    return read_lines if all(str(p).lower().endswith(ENDING) for p in paths) else None


def read_lines(path: str | Sequence[str]) -> list[LayerTuple]:
    """Read lines with their measurements as Shapes layers.

    Raises
    ------
    ValueError
        For files of another kind.
    """
    paths = [path] if isinstance(path, str | Path) else path
    return [_read(Path(p)) for p in paths]


def _read(path: Path) -> LayerTuple:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.get("kind") != _KIND:
            raise ValueError("it is of another kind")
        data = [np.array([line["start"], line["stop"]], float) for line in stored["lines"]]
        rows = [asdict(row_from_json(row)) for row in stored.get("rows", ())]
        names = [str(line["name"]) for line in stored["lines"]]
        if any(shape.shape != (2, 2) for shape in data):
            raise ValueError("a line needs two ends of two numbers")
        place = {key: tuple(stored[key]) for key in ("units", "scale", "translate")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"{path}: holds no lines with measurements ({text}); open one that was saved here"
        ) from error
    attributes = {
        "name": path.name.removesuffix(ENDING),
        "shape_type": ["line"] * len(data),
        "ndim": 2,
        "features": {"name": np.array(names, object)},
        "edge_color": "#ffb000",
        "face_color": "transparent",
        "metadata": {KEY: {"line_profiles": {"rows": rows}}},
        **place,
    }
    return data or None, attributes, "shapes"
