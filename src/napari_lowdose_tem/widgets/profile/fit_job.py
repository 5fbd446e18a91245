"""The job that fits profiles, and the raw counts, of the Line profile dock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from napari_lowdose_tem.measure.measurement import FitOptions, Measurement
from napari_lowdose_tem.measure.profile import Line, Profile
from napari_lowdose_tem.measure.sphere_window import SphereFit
from napari_lowdose_tem.widgets.shared.frames import same_pixels
from napari_lowdose_tem.widgets.shared.worker import error_line


@dataclass(frozen=True, eq=False)
class FitItem:
    """A profile to measure; `raw` is the raw frame of an enhanced one, else `raw_noise` its noise."""

    role: str
    profile: Profile
    options: FitOptions
    raw: npt.NDArray[Any] | None = None
    raw_noise: float | None = None


@dataclass(frozen=True, eq=False)
class CountsItem:
    """A raw frame to be fitted by its counts; `clearer` is a frame and line of the same place to begin at."""

    pixels: npt.NDArray[Any]
    line: Line
    pixel_size_nm: tuple[float, float] | None
    counts_per_electron: float | None
    clearer: tuple[npt.NDArray[Any], Line] | None = None


@dataclass(frozen=True, eq=False)
class FitRequest:
    """Profiles to measure, one after the other, and then perhaps the raw counts."""

    items: tuple[FitItem, ...]
    counts: CountsItem | None = None


class ProfileFitter:
    """Measures profiles; for one job at a time."""

    def __init__(self) -> None:
        self._noise: tuple[npt.NDArray[Any] | None, float | None] = None, None

    def iter_fits(
        self, request: FitRequest
    ) -> Iterator[tuple[FitItem, Measurement] | tuple[CountsItem, SphereFit]]:
        """Measure the profiles, then the counts."""
        from napari_lowdose_tem.measure import fit_profile

        for item in request.items:
            noise = item.raw_noise if item.raw is None else self._noise_of(item.raw)
            yield item, fit_profile(item.profile, item.options, noise)
        if request.counts is not None:
            yield request.counts, _fit_counts(request.counts)

    def _noise_of(self, raw: npt.NDArray[Any]) -> float | None:
        from napari_lowdose_tem.measure import measure_raw_noise

        if not same_pixels(raw, self._noise[0]):
            try:
                self._noise = raw, measure_raw_noise(raw)
            except ValueError:
                self._noise = raw, None
        return self._noise[1]


def _fit_counts(item: CountsItem) -> SphereFit:
    from napari_lowdose_tem.measure import fit_counts, fit_sphere

    try:
        start = None
        if item.clearer is not None:
            pixels, line = item.clearer
            start = fit_sphere(pixels, line, item.pixel_size_nm)
        return fit_counts(item.pixels, item.line, item.pixel_size_nm, item.counts_per_electron, start=start)
    except ValueError as error:
        return SphereFit("nm" if item.pixel_size_nm else "px", refused=error_line(error))
