"""What is wrong with a data set, found before hours are spent on training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import read
from napari_lowdose_tem.pairs.field import Field
from napari_lowdose_tem.pairs.find import find_fields
from napari_lowdose_tem.pairs.load import LoadedField, RegisteredPair, load_field

_FEWEST_FIELDS = 10  # below which a warning is given; the paper trains on 500
_SATURATED_SHARE = 1e-3  # of pixels at the maximum from which a frame counts as saturated
_LARGEST_DISAGREEMENT = 0.02  # of pixel sizes, relative
_DOSES_E_PER_PX = (1.0, 50.0)  # of low-dose frames; the paper's have 5 to 10
_BLANK_SHARE = 0.01  # of pixels that are not finite


@dataclass(frozen=True)
class Finding:
    """Something that speaks against a file or a data set.

    Parameters
    ----------
    severity
        "error": what it concerns cannot be used; "warning": look at it.
    path
        File, folder or list.
    what, remedy
        In words.
    """

    severity: str
    path: Path
    what: str
    remedy: str


@dataclass(frozen=True)
class CheckSummary:
    """What a data set holds; None where nothing tells.

    Parameters
    ----------
    fields
        Fields of view.
    usable, refused
        Pairs of a low-dose frame and its reference.
    median_shift_px, median_shift_nm
        Length of the shifts that could be measured.
    median_dose_e_per_px
        Mean of the low-dose frames, where their gain is known.
    ok
        Whether there is something to train on and no error.
    """

    fields: int
    usable: int
    refused: int
    median_shift_px: float | None
    median_shift_nm: float | None
    median_dose_e_per_px: float | None
    ok: bool


@dataclass(frozen=True)
class CheckProgress:
    """State after a field; `summary` comes with the last one."""

    done: int
    total: int
    findings: tuple[Finding, ...]
    summary: CheckSummary | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: findings and summary."""
        findings = [{**asdict(finding), "path": str(finding.path)} for finding in self.findings]
        return {"findings": findings, "summary": asdict(self.summary) if self.summary else None}


def iter_check(
    source: str | Path, validation: str | Path | None = None, hde_only_factor: int | None = None
) -> Iterator[CheckProgress]:
    """Check all frames of a data set, reporting after every field.

    Parameters
    ----------
    source
        As `find_fields` takes it.
    validation
        Data to validate on: looked at too, and no file may be in both.
    hde_only_factor
        As `find_fields` takes it.

    Yields
    ------
    CheckProgress
        With all findings so far. A file that cannot be read, or fields that do not fit, are findings too.
    """
    findings: list[Finding] = []
    uses: list[list[Field]] = []
    for place in (source, validation):
        if place is not None:
            try:
                uses.append(find_fields(place, hde_only_factor))
            except (ValueError, OSError) as err:
                findings.append(_from_error(Path(place), err))
    fields = [field for use in uses for field in use]
    if fields and len(fields) < _FEWEST_FIELDS:
        what = f"{len(fields)} fields of view; a network learns them by heart"
        findings.append(Finding("warning", Path(source), what, f"record {_FEWEST_FIELDS} at least"))
    findings += _find_copies(uses)
    pairs: list[RegisteredPair] = []
    doses: list[float] = []
    shifts_nm: list[float] = []
    for done, field in enumerate(fields, 1):
        try:
            loaded = load_field(field)
            findings += _check_hde(field, read(field.hde), loaded)
            for pair in loaded.pairs:
                found, dose = _check_lde(field, pair, loaded)
                findings += found
                doses += [dose] if dose is not None else []
                pairs.append(pair)
                if any(pair.shift_px) and loaded.pixel_size_nm:
                    shifts_nm.append(float(np.hypot(*np.multiply(pair.shift_px, loaded.pixel_size_nm))))
        except (ValueError, OSError) as err:
            findings.append(_from_error(field.hde, err))
        if done == len(fields) and pairs and all(pair.refused for pair in pairs):
            findings.append(
                Finding(
                    "error", Path(source), "no pair shows the same field twice", "see what is said of each"
                )
            )
        summary = None
        if done == len(fields):
            summary = _summarise(
                fields=fields, pairs=pairs, doses=doses, shifts_nm=shifts_nm, findings=findings
            )
        yield CheckProgress(done, len(fields), tuple(findings), summary)
    if not fields:
        nothing = _summarise(fields=[], pairs=[], doses=[], shifts_nm=[], findings=findings)
        yield CheckProgress(0, 0, tuple(findings), nothing)


def check(source: str | Path, **options: Any) -> CheckProgress:
    """Look at all frames of a data set; parameters as `iter_check`."""
    *_, last = iter_check(source, **options)
    return last


def _from_error(place: Path, err: Exception) -> Finding:
    what, _, remedy = str(err).removeprefix(f"{place}: ").partition("; ")
    return Finding("error", place, what, remedy)


def _check_hde(field: Field, image: Image, loaded: LoadedField) -> list[Finding]:
    pixels = image.frames(0, 1)[0]
    findings = _check_pixels(field.hde, pixels)
    if findings or not field.ldes:
        return findings
    low = read(field.ldes[0])
    if image.pixel_size_nm and low.pixel_size_nm:
        expected = np.multiply(image.pixel_size_nm, field.factor)
        if np.abs(np.divide(low.pixel_size_nm, expected) - 1).max() > _LARGEST_DISAGREEMENT:
            what = (
                f"pixels of {expected[0]:.4g} nm once reduced {field.factor} times, but of "
                f"{low.pixel_size_nm[0]:.4g} nm in {field.ldes[0].name}: the fields of view differ"
            )
            remedy = "record both at one magnification, or correct the pixel sizes"
            findings.append(Finding("warning", field.hde, what, remedy))
    noise = _relative_noise(loaded.reference), median(_relative_noise(pair.counts) for pair in loaded.pairs)
    if noise[0] > noise[1] > 0:
        what = f"noisier ({noise[0]:.2g} of its mean) than its low-dose frames ({noise[1]:.2g})"
        findings.append(Finding("error", field.hde, what, "the order of the two is swapped; rename them"))
    return findings


def _check_lde(field: Field, pair: RegisteredPair, loaded: LoadedField) -> tuple[list[Finding], float | None]:
    findings = _check_pixels(pair.path, pair.counts)
    if findings and findings[0].severity == "error":
        return findings, None
    if pair.refused:
        what, _, remedy = pair.refused.rpartition("; ")
        what = f"{what} ({field.hde.name}); training leaves it out"
        findings.append(Finding("warning", pair.path, what, remedy))
    if loaded.counts_per_electron is None:
        findings.append(
            Finding("warning", pair.path, "no gain, so no dose", "export with the intensity in e-")
        )
        return findings, None
    dose = float(np.nanmean(pair.counts)) / loaded.counts_per_electron
    low, high = _DOSES_E_PER_PX
    if not low <= dose <= high:
        what = f"dose {dose:.3g} e-/px, not within {low:g} to {high:g}"
        findings.append(Finding("warning", pair.path, what, "is it a low-dose frame, and its gain right?"))
    return findings, dose


def _check_pixels(path: Path, pixels: npt.NDArray[Any]) -> list[Finding]:
    finite = np.isfinite(pixels)
    if not finite.any() or pixels[finite].min() == pixels[finite].max():
        return [Finding("error", path, "all pixels are equal or not finite", "leave this frame out")]
    findings = []
    if (share := 1 - float(finite.mean())) > _BLANK_SHARE:
        findings.append(Finding("warning", path, f"{share:.1%} of the pixels are not finite", "export again"))
    top = pixels[finite].max()
    if (share := float(np.mean(pixels == top))) > _SATURATED_SHARE:
        what = f"saturated: {share:.1%} of the pixels are at the maximum, {top:g} counts"
        findings.append(Finding("error", path, what, "record with a shorter exposure or spread the beam"))
    return findings


def _relative_noise(frame: npt.NDArray[Any]) -> float:
    """Noise of a pixel over the mean, from what differs between next neighbours in both directions."""
    pixels = np.asarray(frame, np.float64)
    if not np.isfinite(pixels).any():
        return 0.0
    twist = pixels[1:, 1:] - pixels[1:, :-1] - pixels[:-1, 1:] + pixels[:-1, :-1]
    mean = float(np.nanmean(pixels))
    return 1.4826 * float(np.nanmedian(np.abs(twist))) / 2 / mean if mean > 0 else 0.0


def _find_copies(uses: list[list[Field]]) -> list[Finding]:
    """Find files that are used twice or hold the same bytes; for training, a frame may have several crops."""
    users: dict[Path, list[tuple[int, Field]]] = {}
    for use, fields in enumerate(uses):
        for field in fields:
            for path in (field.hde, *field.ldes):
                users.setdefault(path.resolve(), []).append((use, field))
    findings = []
    for path, users_of_it in users.items():
        if len({use for use, _ in users_of_it}) > 1:
            what, remedy = "in training and in validation", "keep the two apart, or scores mean nothing"
            findings.append(Finding("error", path, what, remedy))
        elif len(users_of_it) > 1 and not all(field.hde_region for _, field in users_of_it):
            findings.append(Finding("error", path, f"used {len(users_of_it)} times", "list it once"))
    by_size: dict[int, list[Path]] = {}
    for path in users:
        by_size.setdefault(path.stat().st_size if path.is_file() else -1, []).append(path)
    seen: dict[bytes, Path] = {}
    for path in (path for size, paths in by_size.items() if size >= 0 and len(paths) > 1 for path in paths):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha1").digest()
        if (first := seen.setdefault(digest, path)) != path:
            findings.append(Finding("error", path, f"the same bytes as {first}", "leave one of them out"))
    return findings


def _summarise(
    *,
    fields: list[Field],
    pairs: list[RegisteredPair],
    doses: list[float],
    shifts_nm: list[float],
    findings: list[Finding],
) -> CheckSummary:
    shifts_px = [float(np.hypot(*pair.shift_px)) for pair in pairs if any(pair.shift_px)]
    refused = sum(bool(pair.refused) for pair in pairs)
    failed = any(finding.severity == "error" for finding in findings)
    return CheckSummary(
        fields=len(fields),
        usable=len(pairs) - refused,
        refused=refused,
        median_shift_px=median(shifts_px) if shifts_px else None,
        median_shift_nm=median(shifts_nm) if shifts_nm else None,
        median_dose_e_per_px=median(doses) if doses else None,
        ok=bool(fields) and not failed,
    )
