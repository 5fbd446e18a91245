"""Spheres in two dimensions: on any frame by least squares, on raw counts by the likelihood of the electrons.

A line that misses a particle's centre by b shows a diameter too small by √(1 - (b/r)²), and does not show that it
does. These fits find the centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_lowdose_tem.measure import start as guess
from napari_lowdose_tem.measure.errors import NETWORK_FACTOR, bound_sphere
from napari_lowdose_tem.measure.fit import fit_profile
from napari_lowdose_tem.measure.profile import Line, Profile, sample_line
from napari_lowdose_tem.measure.result import FitOptions
from napari_lowdose_tem.measure.sphere import model_disc
from napari_lowdose_tem.measure.streaks import WHITE, Streaks, measure_streaks

Floats = npt.NDArray[np.float64]

BLUR_PX = 1.1
"""Gaussian σ of the optics, the measured camera and its pixel, for raw frames in which no blur can be seen."""

_REACH = 1.6  # radii
_MARGIN_PX = 5
_LEAST_SIGNIFICANCE = 4.0
_MOST_ERROR = 0.4  # of the diameter
_OUTLIER = 4.0  # scatters below the fit, beyond the particle: a neighbour
_BLOCK_PX = 4
_ROUNDS = 40
_FREE = np.array([0, 1, 2, 3, 5, 6, 7])  # of the parameters, without the blur


@dataclass(frozen=True)
class SphereFit:
    """A sphere on a frame, or the reason why there is none.

    Parameters
    ----------
    unit
        "nm", or "px" for a frame without calibration.
    row_px, col_px
        Centre [px].
    off_line
        Distance of the centre from the line [unit]; positive to the right of its direction.
    diameter, diameter_se, diameter_ci95
        [unit].
    t_min, sigma
        Transmission at the centre; Gaussian blur [unit].
    bound
        Cramér–Rao bound of the diameter for the electrons of the background, each counted once [unit]; None
        where their number is not known.
    significance
        Of the dip, over its error.
    refused
        Empty, or why there is no number.
    """

    unit: str
    row_px: float = math.nan
    col_px: float = math.nan
    off_line: float = math.nan
    diameter: float = math.nan
    diameter_se: float = math.nan
    diameter_ci95: tuple[float, float] = (math.nan, math.nan)
    t_min: float = math.nan
    sigma: float = math.nan
    bound: float | None = None
    significance: float = 0.0
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; keys of lengths end in the unit."""
        u = self.unit
        known = not self.refused
        return {
            "unit": u,
            "row_px": self.row_px if known else None,
            "col_px": self.col_px if known else None,
            f"off_line_{u}": self.off_line if known else None,
            f"diameter_{u}": self.diameter if known else None,
            f"diameter_se_{u}": self.diameter_se if known else None,
            f"diameter_ci95_{u}": list(self.diameter_ci95) if known else None,
            f"diameter_bound_{u}": self.bound,
            f"edge_sigma_{u}": self.sigma if known else None,
            "t_min": self.t_min if known else None,
            "significance": self.significance,
            "refused": self.refused or None,
        }


def fit_sphere(
    pixels: npt.NDArray[Any],
    line: Line,
    pixel_size_nm: tuple[float, float] | None = None,
    *,
    is_enhanced: bool = False,
    raw_noise: float | None = None,
) -> SphereFit:
    """Fit a blurred sphere to the frame around a line, by least squares.

    Parameters
    ----------
    pixels
        Frame (rows, columns) without offset.
    line
        Across the particle; its middle need not be the particle's.
    pixel_size_nm
        (row, column) [nm/px]; None gives lengths in px.
    is_enhanced, raw_noise
        As in `FitOptions` and `fit_profile`.

    Raises
    ------
    ValueError
        As `sample_line`.
    """
    profile = sample_line(pixels, line, pixel_size_nm)
    first = _start(profile, FitOptions(particles=1, is_enhanced=is_enhanced))
    if isinstance(first, str):
        return SphereFit(profile.unit, refused=first)
    window = _Window.around(pixels, profile, first)
    values = _fit_squares(window, first)
    neighbours = window.find_neighbours(values)
    if neighbours.any():
        values = _fit_squares(replace(window, kept=window.kept & ~neighbours), values)
        window = replace(window, kept=window.kept & ~neighbours)
    else:
        window = window.moved(pixels, profile, values)
        values = _fit_squares(window, values)
    misfit = (window.pixels - window.model(values))[window.kept]
    noise = math.sqrt(float(misfit @ misfit) / max(len(misfit) - 8, 1)) * window.inflation(values)
    slope = window.slope(values)[:, window.kept.ravel()]
    covariance = _invert(slope @ slope.T) * noise**2
    network = None
    if is_enhanced and raw_noise is not None:
        try:
            network = bound_sphere(values[2], values[3], values[4], profile.pixel, raw_noise).diameter
        except np.linalg.LinAlgError:
            network = math.inf
    elif is_enhanced:
        covariance = 4 * covariance
    variance = 4 * covariance[2, 2] + (0.0 if network is None else (NETWORK_FACTOR * network) ** 2)
    dip = window.dip(values)[window.kept]
    return _conclude(profile, window, values, variance, float(np.linalg.norm(dip)) / max(noise, 1e-300), None)


def fit_counts(
    counts: npt.NDArray[Any],
    line: Line,
    pixel_size_nm: tuple[float, float] | None = None,
    counts_per_electron: float | None = None,
    *,
    start: SphereFit | None = None,
    blur_px: float = BLUR_PX,
) -> SphereFit:
    """Fit a sphere to raw counts around a line by Poisson maximum likelihood.

    The errors do not rely on Poisson's law: they follow from the scatter seen, in blocks of 4 px, so that they
    hold for cameras whose noise is larger and correlated. Then it is a quasi-likelihood (Wedderburn 1974).

    Parameters
    ----------
    counts
        Raw frame (rows, columns) [counts], dark level subtracted.
    line
        Across the particle.
    pixel_size_nm
        (row, column) [nm/px]; None gives lengths in px.
    counts_per_electron
        Detector gain, for the bound; None leaves that out.
    start
        A fit to begin at, as of the enhanced frame; found on the counts by themselves otherwise.
    blur_px
        Gaussian σ of the image [px], held fixed: a few electrons do not show it.

    Raises
    ------
    ValueError
        As `sample_line`, and for a gain or blur that is not positive.
    """
    for name, value in (("counts_per_electron", counts_per_electron), ("blur_px", blur_px)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} {value}; give more than 0")
    profile = sample_line(counts, line, pixel_size_nm)
    sigma = blur_px * profile.pixel
    if start is not None and not start.refused:
        row, col = (start.row_px * profile.pixel_size[0], start.col_px * profile.pixel_size[1])
        candidates = [np.array([row, col, start.diameter / 2, -math.log(start.t_min), sigma, np.nan, 0, 0])]
    else:
        wide = sample_line(
            counts, replace(line, width_px=max(line.width_px, line.length_px / 4)), pixel_size_nm
        )
        found = _start(wide, FitOptions(particles=1), guess_only=True)
        if isinstance(found, str):
            return SphereFit(profile.unit, refused=found)
        candidates = [found * np.where(np.arange(8) == 2, factor, 1.0) for factor in (0.7, 1.0, 1.4)]
    largest = max(candidates, key=lambda v: float(v[2]))
    largest[4] = sigma
    streaks = measure_streaks(counts)
    if streaks.along_columns:  # the window's rows are read-out lines
        return _transposed(counts, line, pixel_size_nm, counts_per_electron, start, blur_px)
    window = _Window.around(counts, profile, largest, scale=counts_per_electron or 1.0)
    if not (window.kept.any() and float(window.pixels[window.kept].mean()) > 0):
        return SphereFit(profile.unit, refused="no counts above zero around the line; is the frame raw?")
    for candidate in candidates:
        candidate[4:6] = sigma, np.mean(window.pixels[window.kept])
    whiten = streaks.invert(window.pixels.shape[1])
    _, values = min(
        (_fit_likelihood(window, candidate, whiten) for candidate in candidates), key=lambda fit: fit[0]
    )
    weight = window.weigh(values)
    slope = window.slope(values)[_FREE].reshape(len(_FREE), *weight.shape) * weight
    information = np.tensordot(slope @ whiten, slope, ((1, 2), (1, 2)))
    misfit = (window.pixels - window.model(values)) * weight
    dispersion = float(np.sum(misfit * (misfit @ whiten))) / max(int(window.kept.sum()) - len(_FREE), 1)
    dispersion *= window.inflation(values, streaks) ** 2
    bound = None
    if counts_per_electron:
        ideal = slope.reshape(len(_FREE), -1)
        bound = 2 * math.sqrt(max(_invert(ideal @ ideal.T)[2, 2], 0))
    dip = window.dip(values) * weight
    significance = math.sqrt(max(float(np.sum(dip * (dip @ whiten))), 0) / dispersion)
    return _conclude(
        profile, window, values, 4 * _invert(information)[2, 2] * dispersion, significance, bound
    )


def _transposed(
    counts: npt.NDArray[Any],
    line: Line,
    pixel_size_nm: tuple[float, float] | None,
    counts_per_electron: float | None,
    start: SphereFit | None,
    blur_px: float,
) -> SphereFit:
    """Fit the frame with rows and columns exchanged."""
    turned = Line(line.start[::-1], line.stop[::-1], line.width_px)
    size = None if pixel_size_nm is None else (pixel_size_nm[1], pixel_size_nm[0])
    if start is not None:
        start = replace(start, row_px=start.col_px, col_px=start.row_px)
    found = fit_counts(counts.T, turned, size, counts_per_electron, start=start, blur_px=blur_px)
    return replace(found, row_px=found.col_px, col_px=found.row_px, off_line=-found.off_line)


def snap_to_center(
    pixels: npt.NDArray[Any], line: Line, pixel_size_nm: tuple[float, float] | None = None
) -> Line:
    """Move a line across itself onto the centre of its particle.

    Raises
    ------
    ValueError
        Where there is no single particle to measure, with the reason; as `sample_line`.
    """
    found = fit_sphere(pixels, line, pixel_size_nm)
    if found.refused:
        raise ValueError(f"no particle to snap to: {found.refused}")
    size = np.asarray(pixel_size_nm or (1.0, 1.0))
    along = (np.asarray(line.stop) - line.start) * size
    along /= np.linalg.norm(along)
    offset = np.array([found.row_px - line.start[0], found.col_px - line.start[1]]) * size
    across = (offset - (offset @ along) * along) / size
    moved = line.shifted(float(across[0]), float(across[1]))
    sample_line(pixels, moved, pixel_size_nm)  # refuses a line that would leave the frame
    return moved


def _start(profile: Profile, options: FitOptions, guess_only: bool = False) -> Floats | str:
    """Row, column, radius, K, blur [units], background and its slopes; or a reason why not."""
    if not guess_only:
        found = fit_profile(profile, options)
        if not found.refused:
            particle = found.particles[0]
            row, col = profile.locate(particle.center)
            level = found.background.level if found.background else math.nan
            return np.array(
                [row * profile.pixel_size[0], col * profile.pixel_size[1], particle.diameter / 2,
                 -math.log(particle.t_min or 0.5), particle.edge_sigma or profile.pixel, level, 0, 0]
            )  # fmt: skip
    if not np.isfinite(profile.intensity).all():
        return "pixels without a value on the line; draw it beside them"
    base = guess.guess_background(profile)
    if not (base > 0).all():
        return "the background is not above zero; subtract the dark level"
    start = guess.find_starts(profile, base, 1)[0]
    if not start.contrasts[0] > 0:
        return "no dip below the background; draw the line across a particle"
    row, col = profile.locate(float(start.centers[0]))
    radius, contrast = float(start.radii[0]), float(np.clip(start.contrasts[0], 0.05, 3.0))
    place = row * profile.pixel_size[0], col * profile.pixel_size[1]
    return np.array([*place, radius, contrast, BLUR_PX * profile.pixel, float(base.mean()), 0, 0])


@dataclass(frozen=True, eq=False)
class _Window:
    """Pixels around a particle with their places [unit]; `kept` are those that count."""

    pixels: Floats
    rows: Floats
    cols: Floats
    kept: npt.NDArray[np.bool_]
    pixel: float
    scale: float

    @classmethod
    def around(cls, frame: npt.NDArray[Any], profile: Profile, values: Floats, scale: float = 1.0) -> _Window:
        row_size, col_size = profile.pixel_size
        reach = _REACH * values[2] + _MARGIN_PX * profile.pixel
        low = [
            max(0, math.floor((v - reach) / s)) for v, s in zip(values[:2], profile.pixel_size, strict=True)
        ]
        high = [
            min(n, math.ceil((v + reach) / s) + 1)
            for v, s, n in zip(values[:2], profile.pixel_size, frame.shape, strict=True)
        ]
        part = np.asarray(frame[low[0] : high[0], low[1] : high[1]], np.float64) / scale
        rows = (np.arange(low[0], high[0]) * row_size)[:, None]
        cols = (np.arange(low[1], high[1]) * col_size)[None]
        near = np.hypot(rows - values[0], cols - values[1]) <= reach
        return cls(np.nan_to_num(part), rows, cols, near & np.isfinite(part), profile.pixel, scale)

    def moved(self, frame: npt.NDArray[Any], profile: Profile, values: Floats) -> _Window:
        return _Window.around(frame, profile, values, self.scale)

    def model(self, values: Floats) -> Floats:
        return self.background(values) * self.transmission(values)

    def background(self, values: Floats) -> Floats:
        return np.asarray(
            values[5] * (1 + values[6] * (self.rows - values[0]) + values[7] * (self.cols - values[1]))
        )

    def transmission(self, values: Floats) -> Floats:
        row, col, radius, contrast, sigma = values[:5]
        distance = np.hypot(self.rows - row, self.cols - col)
        return model_disc(distance.ravel(), radius, contrast, sigma, self.pixel).reshape(distance.shape)

    def dip(self, values: Floats) -> Floats:
        return self.background(values) * (1 - self.transmission(values))

    def steps(self, values: Floats) -> Floats:
        tilt = 1e-3 / (_REACH * values[2])
        return np.array(
            [0.02 * self.pixel, 0.02 * self.pixel, 5e-3 * values[2], 1e-2 * values[3], 1e-2 * values[4],
             1e-3 * values[5], tilt, tilt]
        )  # fmt: skip

    def slope(self, values: Floats) -> Floats:
        """Derivatives of the model by its parameters, (8, pixels)."""
        moves = np.diag(self.steps(values))
        return np.stack(
            [(self.model(values + m) - self.model(values - m)).ravel() / (2 * m.max()) for m in moves]
        )

    def find_neighbours(self, values: Floats) -> npt.NDArray[np.bool_]:
        """Pixels beyond the particle that are too dark for background."""
        misfit = np.where(self.kept, self.pixels - self.model(values), 0.0)
        smooth = ndimage.uniform_filter(misfit, 3)
        scatter = float(np.median(np.abs(smooth[self.kept]))) / 0.6745
        beyond = np.hypot(self.rows - values[0], self.cols - values[1]) > values[2] + values[4]
        dark = beyond & (smooth < -_OUTLIER * scatter) & (smooth < -0.02 * values[5])
        return np.asarray(ndimage.binary_dilation(dark, iterations=2) & beyond) if dark.any() else dark

    def weigh(self, values: Floats) -> Floats:
        """One over the root of the mean, 0 where a pixel does not count."""
        return np.where(self.kept, 1 / np.sqrt(np.maximum(self.model(values), 1e-3 * abs(values[5]))), 0.0)

    def inflation(self, values: Floats, streaks: Streaks = WHITE) -> float:
        """Noise of block means times their side over that of white pixels or of given streaks, at least 1."""
        rows, cols = (n // _BLOCK_PX * _BLOCK_PX for n in self.pixels.shape)
        if min(rows, cols) < 3 * _BLOCK_PX:
            return 1.0
        misfit = np.where(self.kept, (self.pixels - self.model(values)) * self.weigh(values), np.nan)
        blocks = misfit[:rows, :cols].reshape(rows // _BLOCK_PX, _BLOCK_PX, -1, _BLOCK_PX)
        means = blocks.mean((1, 3))
        means = means[np.isfinite(means)]
        single = float(np.nanstd(misfit[self.kept]))
        if means.size < 6 or single == 0:
            return 1.0
        shared = 0.0
        if not streaks.is_white:
            lag = np.abs(np.subtract.outer(np.arange(_BLOCK_PX), np.arange(_BLOCK_PX)))
            shared = float(streaks.correlation[lag].sum()) / _BLOCK_PX - 1
        expected = single * math.sqrt(1 + shared) / _BLOCK_PX
        return max(1.0, float(np.sqrt(np.mean(means**2))) / expected)


def _fit_squares(window: _Window, first: Floats) -> Floats:
    from scipy.optimize import least_squares

    level = float(np.median(window.pixels[window.kept])) if not first[5] > 0 else float(first[5])

    def unfold(v: Floats) -> Floats:
        return np.array(
            [v[0], v[1], math.exp(v[2]), math.exp(v[3]), math.exp(v[4]), v[5] * level, v[6], v[7]]
        )

    def misfit(v: Floats) -> Floats:
        return np.asarray((window.model(unfold(v)) - window.pixels)[window.kept] / level)

    p = window.pixel
    at = np.array([*first[:2], *np.log(first[2:5]), 1.0, first[6], first[7]])
    span = np.array(
        [first[2], first[2], math.log(3), math.log(8), math.log(6), 0.5, 0.5 / first[2], 0.5 / first[2]]
    )
    low, high = at - span, at + span
    low[4], high[4] = math.log(0.29 * p), max(math.log(8 * p), at[4] + 0.1)
    at[4] = np.clip(at[4], low[4] + 1e-6, high[4] - 1e-6)
    scale = np.array([p, p, 0.1, 0.1, 0.2, 0.01, 0.01 / first[2], 0.01 / first[2]])
    found = least_squares(misfit, at, bounds=(low, high), x_scale=scale, max_nfev=40, xtol=1e-9, ftol=1e-10)
    return unfold(found.x)


def _fit_likelihood(window: _Window, first: Floats, whiten: Floats) -> tuple[float, Floats]:
    """Fisher scoring with damping; the blur stays. Returns the weighted misfit and the parameters."""
    limits = (first[:2] - 1.5 * first[2], first[:2] + 1.5 * first[2])

    def limit(values: Floats) -> Floats:
        values = values.copy()
        values[2] = np.clip(values[2], 0.75 * window.pixel, 2.2 * first[2])
        values[3] = np.clip(values[3], 0.01, 6.0)
        values[:2] = np.clip(values[:2], *limits)
        values[5] = max(values[5], 1e-3 * first[5])
        return values

    values, damping = first.copy(), 1e-3
    for _ in range(_ROUNDS):
        weight = window.weigh(values)
        misfit = (window.pixels - window.model(values)) * weight
        score = float(np.sum(misfit * (misfit @ whiten)))
        slope = window.slope(values)[_FREE].reshape(len(_FREE), *weight.shape) * weight
        whitened = slope @ whiten
        information = np.tensordot(whitened, slope, ((1, 2), (1, 2)))
        pull = np.tensordot(whitened, misfit, ((1, 2), (0, 1)))
        gain = 0.0
        while damping < 1e6:
            step = np.zeros(8)
            step[_FREE] = np.linalg.solve(information + damping * np.diag(np.diag(information)), pull)
            trial = limit(values + step)
            # by the weights of this round: those of the trial would reward high means
            new = (window.pixels - window.model(trial)) * weight
            gain = score - float(np.sum(new * (new @ whiten)))
            if gain >= 0:
                values, damping = trial, damping / 10
                break
            damping *= 5
        if gain < 1e-6:
            break
    return score, values


def _invert(information: Floats) -> Floats:
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    normal = information / np.outer(scale, scale)
    return np.asarray(np.linalg.pinv(normal, rcond=1e-10) / np.outer(scale, scale))


def _conclude(
    profile: Profile,
    window: _Window,
    values: Floats,
    variance: float,
    significance: float,
    bound: float | None,
) -> SphereFit:
    """Judge a fit and report it."""
    row, col = values[0] / profile.pixel_size[0], values[1] / profile.pixel_size[1]
    diameter, se = 2 * float(values[2]), math.sqrt(max(variance, 0.0))
    unit = profile.unit

    def refuse(reason: str) -> SphereFit:
        return SphereFit(unit, bound=bound, significance=significance, refused=reason)

    if significance < _LEAST_SIGNIFICANCE:
        return refuse(
            f"the dip is {significance:.1f} of its errors deep, {_LEAST_SIGNIFICANCE:g} are needed; average frames"
        )
    reach = [values[2] / size for size in profile.pixel_size]
    if any(
        at - half < -1.0 or at + half > n
        for at, half, n in zip((row, col), reach, profile.shape, strict=True)
    ):
        return refuse("the particle is cut by the frame's rim; choose one that lies within")
    if diameter < 2 * profile.pixel:
        return refuse("the particle is smaller than 2 px; record it at a higher magnification")
    if not (math.isfinite(se) and se <= _MOST_ERROR * diameter):
        return refuse(f"the noise allows no diameter ({diameter:.1f} ± {se:.1f} {unit}); average frames")
    start = np.asarray(profile.line.start) * profile.pixel_size
    along = (np.asarray(profile.line.stop) * profile.pixel_size - start) / profile.length
    offset = values[:2] - start
    beside = float(along[0] * offset[1] - along[1] * offset[0])
    if abs(beside) > values[2] or not -values[2] < offset @ along < profile.length + values[2]:
        return refuse("the sphere found is not the one the line crosses; draw the line across its middle")
    return SphereFit(
        unit, float(row), float(col), beside, diameter, se, (max(0.0, diameter - 1.96 * se), diameter + 1.96 * se),
        math.exp(-values[3]), float(values[4]), bound, significance,
    )  # fmt: skip
