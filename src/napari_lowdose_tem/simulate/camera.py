"""The camera: from electrons that should arrive to the counts a detector reports.

counts = clip(round(gain · (PSF ∗ Σ gamma(k, 1/k) over N ~ Poisson(electrons) + read + streaks + row offset)))

Fitted to repeated OneView frames at 200 kV. Streaks along the read-out rows are correlated noise that an
enhancement blind to them turns into edges, so they are part of every draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_lowdose_tem.image import F32

if TYPE_CHECKING:
    import torch

ArrayT = TypeVar("ArrayT")


@dataclass(frozen=True)
class Camera:
    """Detector parameters; the defaults are the measured camera.

    Parameters
    ----------
    gain
        Counts per electron [counts/e-].
    gamma_shape
        Shape k of the gamma spread of a single electron's signal; inf for an ideal counting camera.
    read_e
        White read noise [e- r.m.s.].
    streak_e, streak_length_px, streaks_along_columns
        Noise with correlation exp(-lag/length) along the read-out direction [e- r.m.s., px].
    row_e
        Offset of each whole read-out line [e- r.m.s.].
    psf_px
        Gaussian σ of the light shared with neighbours [px]; acts on the light only.
    dark_counts
        Level added before clipping [counts]; 0 for dark-subtracted frames.
    clip
        Clip to 0…65535 as a camera storing unsigned integers does.
    outlier_rate
        Share of pixels hit by X-rays or hot, each adding 10–100 times an electron's signal.
    """

    gain: float = 44.0
    gamma_shape: float = 3.0
    read_e: float = 3.1
    streak_e: float = 0.85
    streak_length_px: float = 16.0
    streaks_along_columns: bool = False
    row_e: float = 0.2
    psf_px: float = 0.43
    dark_counts: float = 0.0
    clip: bool = True
    outlier_rate: float = 0.0

    def __post_init__(self) -> None:
        """Refuse parameters no detector can have."""
        if not (self.gain > 0 and self.gamma_shape > 0 and self.streak_length_px > 0):
            raise ValueError(f"gain, gamma_shape and streak_length_px must be positive, got {self}")
        if min(self.read_e, self.streak_e, self.row_e, self.psf_px, self.outlier_rate) < 0:
            raise ValueError(f"noise levels must not be negative, got {self}")


MEASURED = Camera()
"""OneView at 200 kV, binned to 512², as in the authors' low-dose frames."""

IDEAL = Camera(gain=1.0, gamma_shape=math.inf, read_e=0.0, streak_e=0.0, row_e=0.0, psf_px=0.0)
"""Counts every electron exactly once: pure Poisson noise."""


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera from the range met in practice, for training."""
    counting = rng.random() < 0.05
    return Camera(
        gain=float(np.exp(rng.uniform(0, np.log(200)))),
        gamma_shape=math.inf if counting else float(np.exp(rng.uniform(np.log(1.5), np.log(10)))),
        read_e=0.0 if counting else float(rng.uniform(0, 3.5)),
        streak_e=0.0 if rng.random() < 0.1 else float(rng.uniform(0, 1.6)),
        streak_length_px=float(np.exp(rng.uniform(np.log(4), np.log(40)))),
        streaks_along_columns=bool(rng.random() < 0.1),
        row_e=float(rng.uniform(0, 0.7)),
        psf_px=float(rng.uniform(0.2, 0.6)),
        clip=bool(rng.random() < 0.7),
        outlier_rate=0.0 if rng.random() < 0.8 else float(np.exp(rng.uniform(np.log(1e-6), np.log(1e-4)))),
    )


def draw_measured(rng: np.random.Generator) -> Camera:
    """Draw a camera like the measured one, as far off as its fit and another day leave open."""
    gamma_shape = float(np.exp(rng.uniform(np.log(2), np.log(5))))
    return replace(
        MEASURED,
        gamma_shape=gamma_shape,
        # more spread of single electrons goes with less read noise: both widen the counts
        read_e=2.9 + 0.4 * math.log(gamma_shape / 2) / math.log(2.5) + float(rng.uniform(-0.2, 0.2)),
        streak_e=float(rng.uniform(0.6, 1.2)),
        streak_length_px=float(rng.uniform(10, 24)),
        row_e=float(rng.uniform(0.1, 0.4)),
        psf_px=float(rng.uniform(0.38, 0.48)),
        outlier_rate=0.0 if rng.random() < 0.7 else 1e-5,
    )


class _Draw(Protocol[ArrayT]):
    """The random and linear primitives the camera formula needs, per array library."""

    def poisson(self, mean: ArrayT) -> ArrayT: ...
    def gamma(self, shape: ArrayT) -> ArrayT: ...
    def normal(self, shape: Sequence[int]) -> ArrayT: ...
    def uniform(self, shape: Sequence[int]) -> ArrayT: ...
    def correlate(self, white: ArrayT, decay: float) -> ArrayT: ...
    def blur(self, light: ArrayT, sigma_px: float) -> ArrayT: ...
    def round_clip(self, counts: ArrayT, clip: bool) -> ArrayT: ...


def expose(
    electrons: npt.ArrayLike, camera: Camera = MEASURED, rng: np.random.Generator | int | None = None
) -> F32:
    """Draw camera frames of an expected electron map.

    Parameters
    ----------
    electrons
        Expected electrons per pixel (dose · transmission · illumination) [e-/px], shape (..., rows, columns).
    camera
        Detector.
    rng
        Generator or seed.

    Returns
    -------
    Counts, float32, the same shape, whole numbers.
    """
    draw = _NumpyDraw(np.random.default_rng(rng))
    return cast("F32", _expose(np.asarray(electrons, np.float32), camera, draw))


def expose_torch(
    electrons: torch.Tensor, camera: Camera = MEASURED, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Draw camera frames on the device of `electrons`; the same formula as `expose`."""
    return cast("torch.Tensor", _expose(electrons, camera, _TorchDraw(electrons.device, generator)))


def _expose(electrons: Any, camera: Camera, draw: _Draw[Any]) -> Any:
    light = draw.poisson(electrons)
    if math.isfinite(camera.gamma_shape):
        light = draw.gamma(light * camera.gamma_shape) / camera.gamma_shape  # a sum of N gammas is a gamma
    if camera.psf_px > 0:
        light = draw.blur(light, camera.psf_px)
    shape = electrons.shape
    if camera.read_e > 0:
        light = light + camera.read_e * draw.normal(shape)
    if camera.streak_e > 0 or camera.row_e > 0:
        rows, columns = shape[-2:]
        lines, length = (columns, rows) if camera.streaks_along_columns else (rows, columns)
        streaks = camera.row_e * draw.normal((*shape[:-2], lines, 1))
        if camera.streak_e > 0:
            white = draw.normal((*shape[:-2], lines, length))
            streaks = streaks + camera.streak_e * draw.correlate(
                white, math.exp(-1 / camera.streak_length_px)
            )
        light = light + (streaks.swapaxes(-1, -2) if camera.streaks_along_columns else streaks)
    if camera.outlier_rate > 0:
        hit = draw.uniform(shape) < camera.outlier_rate
        light = light + hit * (10 + 90 * draw.uniform(shape))
    return draw.round_clip(camera.gain * light + camera.dark_counts, camera.clip)


class _NumpyDraw:
    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def poisson(self, mean: F32) -> F32:
        return self._rng.poisson(mean).astype(np.float32)

    def gamma(self, shape: F32) -> F32:
        return self._rng.standard_gamma(shape, dtype=np.float32)

    def normal(self, shape: Sequence[int]) -> F32:
        return self._rng.standard_normal(tuple(shape), np.float32)

    def uniform(self, shape: Sequence[int]) -> F32:
        return self._rng.random(tuple(shape), np.float32)

    def correlate(self, white: F32, decay: float) -> F32:
        # AR(1) with unit variance from its first sample on; scipy.signal, which has it, imports for seconds
        driven = white * np.float32(math.sqrt(1 - decay**2))
        driven[..., 0] = white[..., 0]
        steps = np.moveaxis(driven, -1, 0).astype(np.float64, order="C")
        for before, now in pairwise(steps):
            now += decay * before
        return np.moveaxis(steps, 0, -1).astype(np.float32, order="C")

    def blur(self, light: F32, sigma_px: float) -> F32:
        sigma = (0.0,) * (light.ndim - 2) + (sigma_px, sigma_px)
        return cast("F32", ndimage.gaussian_filter(light, sigma, radius=2, mode="nearest"))

    def round_clip(self, counts: F32, clip: bool) -> F32:
        counts = np.rint(counts)
        return np.clip(counts, 0, 65535) if clip else counts


class _TorchDraw:
    def __init__(self, device: torch.device, generator: torch.Generator | None) -> None:
        self._device, self._generator = device, generator

    def poisson(self, mean: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.poisson(mean, generator=self._generator)

    def gamma(self, shape: torch.Tensor) -> torch.Tensor:
        import torch

        # torch.distributions.Gamma draws with this too, but only from the global generator
        return torch._standard_gamma(shape, generator=self._generator)

    def normal(self, shape: Sequence[int]) -> torch.Tensor:
        import torch

        return torch.randn(tuple(shape), generator=self._generator, device=self._device)

    def uniform(self, shape: Sequence[int]) -> torch.Tensor:
        import torch

        return torch.rand(tuple(shape), generator=self._generator, device=self._device)

    def correlate(self, white: torch.Tensor, decay: float) -> torch.Tensor:
        import torch

        # the AR(1) recursion as one triangular product: a scan would be a kernel launch per column
        step = torch.arange(white.shape[-1], device=self._device)
        lag = (step[:, None] - step[None, :]).float()
        response = torch.where(lag >= 0, decay ** lag.clamp(min=0), 0) * math.sqrt(1 - decay**2)
        response[:, 0] /= math.sqrt(1 - decay**2)
        return white @ response.T

    def blur(self, light: torch.Tensor, sigma_px: float) -> torch.Tensor:
        import torch
        from torch.nn import functional

        tap = torch.exp(-0.5 * (torch.arange(-2, 3, device=self._device) / sigma_px) ** 2)
        kernel = torch.outer(tap, tap) / tap.sum() ** 2
        flat = light.reshape(-1, 1, *light.shape[-2:])
        flat = functional.conv2d(functional.pad(flat, (2, 2, 2, 2), "replicate"), kernel[None, None])
        return flat.reshape(light.shape)

    def round_clip(self, counts: torch.Tensor, clip: bool) -> torch.Tensor:
        counts = counts.round()
        return counts.clamp(0, 65535) if clip else counts
