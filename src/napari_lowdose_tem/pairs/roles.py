"""Which image is the high dose, which the low dose, and which the output."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from napari_lowdose_tem.image import Image

_HIGH = re.compile(r"(?:^|[^a-z])(?:hde|high|reference|truth)(?![a-z])", re.IGNORECASE)
_LOW = re.compile(r"(?:^|[^a-z])(?:lde|low|noisy|raw)(?![a-z])", re.IGNORECASE)
_FINER = 1.5  # ratio of pixels or pixel sizes that tells two images apart
_QUIETER = 2.0  # ratio of the noise
_SIDE_PX = 512  # looked at for the noise


@dataclass(frozen=True)
class Roles:
    """Names of the high-dose image, the low-dose image and the output; None where there is none."""

    hde: str | None = None
    lde: str | None = None
    output: str | None = None


def pair_up(images: Mapping[str, Image]) -> Roles:
    """Tell high dose, low dose and output apart.

    Outputs say so in their provenance. Of the others the low-dose image is the one that the output was made
    from; the high-dose image is told by its name, else by more or finer pixels, else by less noise.

    Parameters
    ----------
    images
        By name; of several outputs the last one counts.

    Returns
    -------
    Roles
        Whatever can be told; never an error.
    """
    outputs = [name for name, image in images.items() if "enhanced" in image.provenance]
    raw = [name for name in images if name not in outputs]
    output = outputs[-1] if outputs else None
    lde = _find_source(images, raw, images[output]) if output is not None else None
    if lde is None and len(raw) == 1:
        only = raw[0]
        return Roles(only, None, output) if _rank(only) > 0 else Roles(None, only, output)
    if lde is None:
        lde = next((name for name in raw if any(_is_higher(images, other, name) for other in raw)), None)
        lde = lde or (raw[0] if raw else None)
    high = [name for name in raw if lde is not None and name != lde and _is_higher(images, name, lde)]
    if not high:
        return Roles(None, lde, output)
    best = high[0]
    for name in high[1:]:
        if _alike(name, lde or "") > _alike(best, lde or ""):
            best = name
    return Roles(best, lde, output)


def _find_source(images: Mapping[str, Image], raw: list[str], output: Image) -> str | None:
    made = output.provenance["enhanced"]
    source = made.get("source") if isinstance(made, Mapping) else None
    known = {name: (str(images[name].provenance.get("source")), images[name].name, name) for name in raw}
    made_from = [name for name in raw if source is not None and str(source) in known[name]]
    if made_from:  # of a simulated pair both have the simulation as their source
        name = min(made_from, key=_rank)
        return name if images[name].frame_shape == output.frame_shape else None
    alike = [name for name in raw if images[name].frame_shape == output.frame_shape and _rank(name) <= 0]
    return alike[0] if len(alike) == 1 else None


def _is_higher(images: Mapping[str, Image], name: str, other: str) -> bool:
    """Whether one image is of a higher dose than another."""
    if _rank(name) != _rank(other):
        return _rank(name) > _rank(other)
    a, b = images[name], images[other]
    size = math.sqrt(math.prod(a.frame_shape) / math.prod(b.frame_shape))
    if not 1 / _FINER < size < _FINER:
        return size > 1
    if a.pixel_size_nm and b.pixel_size_nm:
        fine = math.sqrt(math.prod(b.pixel_size_nm) / math.prod(a.pixel_size_nm))
        if not 1 / _FINER < fine < _FINER:
            return fine > 1
    noise, noise_of_other = _measure_noise(a), _measure_noise(b)
    return noise * _QUIETER < noise_of_other


def _rank(name: str) -> int:
    return bool(_HIGH.search(name)) - bool(_LOW.search(name))


def _measure_noise(image: Image) -> float:
    """Scatter of neighbouring pixels of the first frame over their mean; infinite without signal."""
    try:
        frame = np.asarray(image.frames(0, 1)[0][:_SIDE_PX, :_SIDE_PX], np.float64)
    except (OSError, ValueError, RuntimeError, KeyError):
        return math.inf  # a file that went away
    bends = frame[:-1, :-1] - frame[1:, :-1] - frame[:-1, 1:] + frame[1:, 1:]
    bends, known = bends[np.isfinite(bends)], frame[np.isfinite(frame)]
    mean = float(known.mean()) if known.size else 0.0
    return float(np.sqrt(np.mean(bends**2))) / 2 / mean if mean > 0 and bends.size else math.inf


def _alike(name: str, other: str) -> int:
    """Length of the start that two names share, without what tells their dose."""
    a, b = (_LOW.sub("", _HIGH.sub("", text)).strip(" _-.").casefold() for text in (name, other))
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
