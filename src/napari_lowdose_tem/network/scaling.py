"""Counts to network input and back, by the recipes a model file names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.camera.level import is_short, measure_level
from napari_lowdose_tem.image import F32, Image

RECIPES: dict[str, dict[str, Any]] = {
    # One mean for a whole stack: means scatter by 0.1 % from frame to frame, maxima by 5 %.
    "level": {"name": "level", "clip": [-4.0, 16.0], "per": "stack", "output": "counts"},
    # Katsuno et al. 2021 as their code does it: min–max, then percentiles 1…80 stretched to 0…1.
    "paper": {"name": "percentiles", "low": 1.0, "high": 80.0, "per": "frame", "output": "unit"},
    # Their 2023 follow-up.
    "followup": {"name": "percentiles", "low": 0.1, "high": 99.9, "per": "frame", "output": "unit"},
}
"""Recipes as plain data, stored in the model file and applied exactly as in training."""

_STACK_SAMPLE = 16  # frames of a stack its common scaling is measured on


@dataclass(frozen=True)
class Scaling:
    """Affine map from counts to network input, with clipping, and from network output back to counts.

    input = clip((counts - offset) / scale, low, high); counts = output · output_scale + output_offset.
    """

    offset: float
    scale: float
    low: float
    high: float
    output_scale: float
    output_offset: float

    @property
    def has_signal(self) -> bool:
        """Whether there was anything to scale by."""
        return self.output_scale > 0

    @property
    def level_counts(self) -> float:
        """What counts are divided by, as it is recorded."""
        return round(self.scale, 6)

    def normalise(self, counts: npt.NDArray[Any]) -> F32:
        """Return float32 network input; pixels that are not finite become the background level."""
        scaled = (np.asarray(counts, np.float32) - np.float32(self.offset)) / np.float32(self.scale)
        # NaN marks dead pixels: a neutral value keeps them from spreading through the network
        scaled = np.nan_to_num(scaled, nan=1.0, posinf=self.high, neginf=self.low)
        return np.asarray(np.clip(scaled, self.low, self.high), np.float32)

    def to_counts(self, output: npt.NDArray[Any]) -> F32:
        """Return network output in counts, float32."""
        counts = np.asarray(output, np.float32) * np.float32(self.output_scale)
        return counts + np.float32(self.output_offset)


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raise ValueError unless `recipe` is one this version can apply."""
    if recipe.get("name") not in ("level", "percentiles") or recipe.get("per") not in ("frame", "stack"):
        raise ValueError(f"unknown preprocessing recipe {dict(recipe)}; a newer version may know it")
    keys = ("clip",) if recipe["name"] == "level" else ("low", "high")
    for key in (*keys, "output"):
        if key not in recipe:
            raise ValueError(f"preprocessing recipe {dict(recipe)} lacks {key!r}")


def measure_scaling(recipe: Mapping[str, Any], counts: npt.NDArray[Any]) -> Scaling:
    """Measure the scaling of a recipe on a frame or on a sample of a stack's frames.

    Parameters
    ----------
    recipe
        One of `RECIPES` or a model file's.
    counts
        Frames, shape (..., rows, columns) [counts].

    Returns
    -------
    For frames without any signal (all equal or not finite) a scaling that maps them to a constant.
    """
    check_recipe(recipe)
    if recipe["name"] == "level" and is_short(counts):
        finite = counts
    else:
        finite = np.asarray(counts, np.float32)
        if counts.dtype.kind not in "biu" and not np.isfinite(finite).all():
            finite = finite[np.isfinite(finite)]
    if recipe["name"] == "level":
        level = measure_level(finite)
        low, high = recipe["clip"]
        return Scaling(0.0, level if level > 0 else 1.0, low, high, max(level, 0.0), 0.0)
    low, high = np.percentile(finite, [recipe["low"], recipe["high"]]) if finite.size else (0.0, 1.0)
    spread = float(high - low)
    return Scaling(float(low), spread or 1.0, 0.0, 1.0, output_scale=spread, output_offset=float(low))


def measure_stack(
    recipe: Mapping[str, Any], image: Image, first: int = 0, last: int | None = None
) -> Scaling | None:
    """Measure the one scaling of a whole stack on frames spread over it; None for per-frame recipes.

    Raises
    ------
    ValueError
        When the frames hold no signal.
    """
    if recipe["per"] != "stack":
        return None
    last = image.n_frames if last is None else last
    picked = np.unique(np.linspace(first, last - 1, min(_STACK_SAMPLE, last - first)).round().astype(int))
    measured = []
    for index in picked.tolist():
        scaling = measure_scaling(recipe, image.frames(index, index + 1))
        if scaling.has_signal:
            measured.append(scaling)
    if not measured:
        raise ValueError(
            f"{image.name}: no signal (the mean of the counts is zero or negative); "
            "check the dark reference and that the file is the right one"
        )
    means = {f.name: float(np.mean([getattr(m, f.name) for m in measured])) for f in fields(Scaling)}
    return Scaling(**means)


def fit_output(
    scaling: Scaling, counts: npt.NDArray[Any], output: npt.NDArray[Any], block_px: int = 16
) -> Scaling:
    """Scale a 0…1 output to counts: the least-squares line through block means of both.

    A network trained on min–max scaled references cannot know the counts of its output; the frame itself can.
    Falls back to the input's own scaling where the output has no contrast to fit.
    """
    rows, cols = (max(1, min(block_px, n)) for n in counts.shape[-2:])
    x, y = (_block_mean(np.asarray(a, np.float64), rows, cols).ravel() for a in (output, counts))
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    spread = float(x.var()) if x.size > 2 else 0.0
    if spread < 1e-8:
        return scaling
    slope = float(np.mean((x - x.mean()) * (y - y.mean())) / spread)
    if slope <= 0:
        return scaling
    return replace(scaling, output_scale=slope, output_offset=float(y.mean() - slope * x.mean()))


def _block_mean(image: npt.NDArray[Any], rows: int, cols: int) -> npt.NDArray[Any]:
    height, width = (image.shape[-2] // rows) * rows, (image.shape[-1] // cols) * cols
    blocks = image[..., :height, :width].reshape(*image.shape[:-2], height // rows, rows, width // cols, cols)
    return np.asarray(blocks.mean(axis=(-3, -1)))
