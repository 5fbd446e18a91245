"""Which image is the high dose, which the low dose, and which the output."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.pairs.grid import LARGEST_EXTENT_RATIO

# Words are matched in a name's tokens joined by blanks (`_tokenise`), so "flow" is not "low".
_OTHER_QUANTITIES = (
    "angle|contrast|defocus|density|energy|flow|frequency|freq|k v|kv|loss|mag|magn|magnification|noise|pass|"
    "power|pressure|quality|rate|res|resolution|speed|temp|temperature|tension|tilt|vacuum|voltage"
)
_NOT_THE_DOSE = re.compile(
    rf"\b(?:high|hi|low|lo) (?:{_OTHER_QUANTITIES})\b"
    rf"|\b(?:{_OTHER_QUANTITIES}) (?:high|hi|low|lo)\b(?! (?:dose|exposure))"
)
_HIGH = re.compile(
    r"\b(?:hde|highdose|high|hi|ground truth|groundtruth|reference|truth|hochdosis|hohe dosis|referenz)\b"
    r"|高線量|高 ?dose|高ドーズ|ハイドーズ|参照"
)
_LOW = re.compile(
    r"\b(?:lde|lowdose|low|lo|noisy|niedrigdosis|niedrige dosis|geringe dosis|verrauscht)\b"
    r"|低線量|低 ?dose|低ドーズ|ロードーズ"
)
# "filtered" alone is said of energy-filtered frames, which are raw
_ENHANCED = re.compile(
    r"\b(?:(?:bandpass|lowpass|low pass|gauss|gaussian|median|wiener)(?: filter(?:ed)?)?|denoised?|"
    r"enhanced(?: preview)?|output|restored|smoothed|entrauscht)\b|ノイズ除去|デノイズ"
)
# These tell doses apart only where nothing else does.
_PERHAPS_HIGH = re.compile(
    r"\b(?:average|averaged|avg|gt|hd|integrated|long exposure|mean|ref|sum|summed|"
    r"gemittelt|mittelwert|summe)\b|積算|平均"
)
_PERHAPS_LOW = re.compile(r"\b(?:ld|raw|short exposure|roh|rohbild|rohdaten)\b|生データ")
_MAGNIFICATION = re.compile(r"\b(high|hi|low|lo) ?mag(?:n|nification)?\b")

_FINER = 1.5  # ratio of pixel numbers or pixel sizes (along a side) that tells two images apart
_QUIETER = 2.0  # ratio of the relative noise: four times the dose
_NOISE_SIDE_PX = 512  # part of the first frame in which noise is measured


@dataclass(frozen=True)
class Roles:
    """Names of the high-dose image, the low-dose image and the output; None where there is none."""

    hde: str | None = None
    lde: str | None = None
    output: str | None = None


def find_roles(images: Mapping[str, Image]) -> Roles:
    """Find the high-dose image, the low-dose image and the output among some images.

    What the provenance says comes first: outputs, and what they were made from. Then names: "HDE", "low
    dose", "denoised" and the like as whole words, where high or low is not said of something else ("low
    mag"). Then pixels: the high dose has more or finer pixels, or less noise. Where nothing decides, the
    topmost image is the low dose.

    Parameters
    ----------
    images
        By name, the topmost last; of several outputs, the topmost counts.

    Returns
    -------
    Roles
        What could be found. An image called HDE is not taken for the low dose unless the output was made from
        it, and one called LDE never for the high dose.
    """
    described = {name: _Described(name, image) for name, image in images.items()}
    made = [name for name, image in images.items() if "enhanced" in image.provenance]
    named = [name for name, d in described.items() if d.is_called_enhanced and name not in made]
    raw = [d for name, d in described.items() if name not in made and name not in named]
    output = next(iter([*made[::-1], *named[::-1]]), None)
    lde = _find_source(described[output], raw) if output is not None else None
    lde = lde or _find_low_dose(raw)
    hde = _find_high_dose(raw, lde)
    return Roles(hde.name if hde else None, lde.name if lde else None, output)


class _Described:
    """An image and what its name says of it."""

    def __init__(self, name: str, image: Image) -> None:
        self.name, self.image = name, image
        text = _tokenise(name)
        self.magnification = next((found[1][0] for found in _MAGNIFICATION.finditer(text)), "")
        is_enhanced = bool(_ENHANCED.search(text))
        self.rest_of_output = _ENHANCED.sub(" ", text).split()
        text = _NOT_THE_DOSE.sub(" ", text)
        self.dose = bool(_HIGH.search(text)) - bool(_LOW.search(text))
        self.perhaps = bool(_PERHAPS_HIGH.search(text)) - bool(_PERHAPS_LOW.search(text))
        self.is_called_enhanced = is_enhanced and self.dose <= 0  # a denoised HDE is still the HDE
        for words in (_HIGH, _LOW, _PERHAPS_HIGH, _PERHAPS_LOW):
            text = words.sub(" ", text)
        self.rest = [word for word in text.split() if word not in ("dose", "dosis", "exposure")]


def _tokenise(name: str) -> str:
    """Split a name at punctuation, digits, changes of script and camelCase; lower case, joined by blanks."""
    text = unicodedata.normalize("NFKC", name)
    text = re.sub(r"(?<![A-Za-z])(HDE|LDE)(?=[a-z])", r"\1 ", text)
    text = re.sub(r"(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])|(?<=[A-ZÀ-Þ])(?=[A-ZÀ-Þ][a-zß-ÿ])", " ", text)
    return " ".join(re.findall(r"\d+|[a-zß-ÿ]+|[^\W\da-zß-ÿ_]+", text.lower()))


def _find_source(output: _Described, raw: list[_Described]) -> _Described | None:
    """Find what an output was made from: by its provenance, by its name, or as the only one of its shape."""
    shape = output.image.frame_shape
    made = output.image.provenance.get("enhanced")
    source = made.get("source") if isinstance(made, Mapping) else None
    if source is not None:
        known = (
            d for d in raw if str(source) in (str(d.image.provenance.get("source")), d.image.name, d.name)
        )
        # of a simulated pair both have the simulation as their source
        if found := sorted(known, key=lambda d: d.dose):
            return found[0] if found[0].image.frame_shape == shape else None
    alike = [d for d in raw if d.image.frame_shape == shape and d.dose <= 0]
    same_name = [d for d in alike if d.rest_of_output == output.rest_of_output]
    if same_name:
        return same_name[-1]
    return alike[0] if len(alike) == 1 else None


def _find_low_dose(raw: list[_Described]) -> _Described | None:
    """Find the low dose: one called so, else one that another is higher than, else any; the topmost each.

    A sum or mean is taken only where there is no other.
    """
    eligible = sorted((d for d in reversed(raw) if d.dose <= 0), key=lambda d: d.perhaps > 0)
    called = [d for d in eligible if d.dose < 0]
    lower = (d for d in called or eligible if any(_is_higher(other, d) for other in raw if other is not d))
    return next(lower, next(iter(called or eligible), None))


def _find_high_dose(raw: list[_Described], lde: _Described | None) -> _Described | None:
    """Find the high dose: one called so first, then the one most alike by name, then the next below."""
    if lde is None:
        return next((d for d in reversed(raw) if d.dose > 0), None)
    order = {d.name: i for i, d in enumerate(raw)}
    higher = [d for d in raw if d is not lde and _is_higher(d, lde)]
    return max(
        higher,
        key=lambda d: (d.dose, _count_shared(d, lde), order[d.name] < order[lde.name], order[d.name]),
        default=None,
    )


def _is_higher(one: _Described, other: _Described) -> bool:
    """Whether one image is of a higher dose than another."""
    if one.dose != other.dose:
        return one.dose > other.dose
    if one.dose or not _may_be_one_field(one, other):
        return False
    a, b = one.image, other.image
    ratios = [math.prod(a.frame_shape) / math.prod(b.frame_shape)]
    if a.pixel_size_nm and b.pixel_size_nm:
        ratios.append(math.prod(b.pixel_size_nm) / math.prod(a.pixel_size_nm))
    for ratio in ratios:
        if not 1 / _FINER < math.sqrt(ratio) < _FINER:
            return ratio > 1
    if one.perhaps != other.perhaps:
        return one.perhaps > other.perhaps
    return _measure_noise(a) * _QUIETER < _measure_noise(b)


def _may_be_one_field(one: _Described, other: _Described) -> bool:
    """Whether magnifications and extents allow that two images show one field."""
    if one.magnification and other.magnification and one.magnification != other.magnification:
        return False
    a, b = one.image, other.image
    if a.pixel_size_nm is None or b.pixel_size_nm is None:
        return True
    sides = zip(a.frame_shape, a.pixel_size_nm, b.frame_shape, b.pixel_size_nm, strict=True)
    ratios = [n * size / (m * other_size) for n, size, m, other_size in sides]
    return all(1 / LARGEST_EXTENT_RATIO <= ratio <= LARGEST_EXTENT_RATIO for ratio in ratios)


def _measure_noise(image: Image) -> float:
    """Scatter of neighbouring pixels of the first frame over their mean; infinite without signal."""
    try:
        frame = np.asarray(image.frames(0, 1)[0][:_NOISE_SIDE_PX, :_NOISE_SIDE_PX], np.float64)
    except (OSError, ValueError, RuntimeError, KeyError):
        return math.inf  # a file that went away
    twist = frame[:-1, :-1] - frame[1:, :-1] - frame[:-1, 1:] + frame[1:, 1:]
    twist, known = twist[np.isfinite(twist)], frame[np.isfinite(frame)]
    mean = float(known.mean()) if known.size else 0.0
    return float(np.sqrt(np.mean(twist**2))) / 2 / mean if mean > 0 and twist.size else math.inf


def _count_shared(one: _Described, other: _Described) -> int:
    """Count the words that two names begin with alike, apart from what they say of the dose."""
    pairs = list(zip(one.rest, other.rest, strict=False))
    return next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
