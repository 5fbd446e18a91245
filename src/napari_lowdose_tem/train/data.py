"""Where batches come from: recorded pairs, high-dose frames exposed anew, simulated specimens.

Every frame drawn is a function of the seed and its number alone, so that a resumed training sees what an
uninterrupted one would have seen, and several processes see together what one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from napari_lowdose_tem.image import F32
from napari_lowdose_tem.network.networks import STRIDE
from napari_lowdose_tem.network.scaling import RECIPES, measure_scaling
from napari_lowdose_tem.pairs import LoadedField, find_fields, load_field
from napari_lowdose_tem.simulate.camera import draw_camera, draw_measured, expose_torch
from napari_lowdose_tem.train.config import Recipe
from napari_lowdose_tem.train.scenes import PARTICLES, ScenePool, draw_dose

_LIKE_MEASURED = 0.5  # share of the exposures by cameras like the measured one; the rest by any


@dataclass(frozen=True)
class Pairs:
    """Frames in memory: (low-dose counts, reference on its grid) and references to expose anew."""

    recorded: list[tuple[npt.NDArray[Any], F32]] = field(default_factory=list)
    references: list[F32] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def iter_load(source: str, hde_factor: int | None = None) -> Iterator[tuple[int, int, LoadedField]]:
    """Load all fields of a data set, reporting (done, total, field); sources as `find_fields` takes them."""
    fields = find_fields(source, hde_only_factor=hde_factor)
    for done, entry in enumerate(fields, 1):
        yield done, len(fields), load_field(entry)


def gather(fields: Sequence[LoadedField]) -> Pairs:
    """Put the usable frames of loaded fields together; refused pairs become notes."""
    recorded, notes = [], []
    for entry in fields:
        for pair in entry.pairs:
            if pair.refused:
                notes.append(f"{pair.path.name} left out: {pair.refused}")
            else:
                recorded.append((pair.counts, pair.reference))
    if alone := sum(not f.pairs for f in fields):
        notes.append(f"{alone} high-dose frames alone: their low-dose frames are drawn by the camera model")
    references = [f.reference for f in fields if not f.pairs or any(not p.refused for p in f.pairs)]
    return Pairs(recorded, references, tuple(notes))


def split(fields: Sequence[LoadedField], seed: int, share: float = 0.1) -> tuple[list[Any], list[Any]]:
    """Split off fields to validate on; frames of one field stay together.

    Raises
    ------
    ValueError
        For a single field.
    """
    if len(fields) < 2:
        raise ValueError(
            "one field cannot be both trained and validated on; add fields, or name validation data"
        )
    order = np.random.default_rng(seed).permutation(len(fields))
    held_out = set(order[: max(1, round(share * len(fields)))].tolist())
    kept = [f for i, f in enumerate(fields) if i not in held_out]
    return kept, [f for i, f in enumerate(fields) if i in held_out]


class Batches:
    """Draws batches for one process.

    Parameters
    ----------
    recipe
        Batch size, crops, share of fresh noise, preprocessing.
    pairs
        Frames of the data set; None for simulated specimens alone.
    seed, rank, ranks
        Of the training, of this process, and how many processes there are.
    device
        Where noise is drawn and batches are put.
    workers
        Processes drawing scenes ahead.
    """

    def __init__(
        self,
        recipe: Recipe,
        pairs: Pairs | None,
        seed: int,
        device: torch.device,
        rank: int = 0,
        ranks: int = 1,
        workers: int = 0,
    ) -> None:
        if pairs is not None and not pairs.references:
            raise ValueError("no usable pair is left to train on; see what is said about each")
        if not recipe.fresh_noise and not (pairs and pairs.recorded):
            raise ValueError(
                f"recipe {recipe.name!r} learns from recorded low-dose frames, and there are none; "
                "choose the default recipe, which draws them from high-dose frames"
            )
        if recipe.particles not in PARTICLES:
            raise ValueError(f"unknown particles {recipe.particles!r}; choose {', '.join(PARTICLES)}")
        self._recipe, self._pairs, self._seed, self._device = recipe, pairs, seed, device
        self._rank, self._ranks = rank, ranks
        self._generator = torch.Generator(device)
        side_px = 512
        if recipe.crop_px is not None:
            side_px = recipe.crop_px * (4 if recipe.large_crops else 3) // 2
        self._pool = ScenePool(side_px, (seed, 1), workers=workers, particles=recipe.particles)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch: the recipe's, or once through the recorded pairs."""
        recorded = len(self._pairs.recorded) if self._pairs else 0
        together = self._recipe.batch * self._ranks
        return self._recipe.steps_per_epoch or max(1, -(-recorded // together))

    def draw(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw input and target of a step, (n, 1, rows, columns), NaN where the target is unknown."""
        recipe, pairs = self._recipe, self._pairs
        together = recipe.batch * self._ranks
        numbers = range(step * together + self._rank, (step + 1) * together, self._ranks)
        crop_px, drawn = recipe.crop_px, []
        large = np.random.default_rng([self._seed, 4, step]).random() < recipe.large_crops
        if large and crop_px is not None:
            numbers, crop_px = numbers[: max(1, recipe.batch // 4)], 2 * crop_px
        if recipe.fresh_noise == 0 and pairs is not None:
            for number, index in zip(numbers, self._order(step), strict=False):
                drawn.append(self._prepare(*pairs.recorded[index], crop_px, self._seeded(number)))
        else:
            drawn = [self._draw_one(number, crop_px, self._seeded(number)) for number in numbers]
        return _stack(drawn, self._device)

    def _seeded(self, number: int) -> np.random.Generator:
        rng = np.random.default_rng([self._seed, 2, number])
        self._generator.manual_seed(int(rng.integers(2**62)))
        return rng

    def _order(self, step: int) -> list[int]:
        """Return the pairs of a step, every pair once an epoch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        recorded = len(self._pairs.recorded) if self._pairs else 0
        order = np.random.default_rng([self._seed, 3, epoch]).permutation(recorded)
        together = self._recipe.batch * self._ranks
        mine = order[place * together : (place + 1) * together][self._rank :: self._ranks]
        return [int(i) for i in (mine if len(mine) else order[:1])]

    def _draw_one(
        self, drawn: int, crop_px: int | None, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pairs = self._pairs
        if pairs is not None and pairs.recorded and rng.random() > self._recipe.fresh_noise:
            return self._prepare(*pairs.recorded[rng.integers(len(pairs.recorded))], crop_px, rng)
        if pairs is not None and rng.random() < 0.5:
            reference = pairs.references[rng.integers(len(pairs.references))]
        else:
            reference = self._pool.choose(drawn, rng)
        (reference,) = _augment((reference,), crop_px, rng)
        light = torch.from_numpy(reference).to(self._device)
        # where the reference is unknown the input shows bare film
        electrons = torch.nan_to_num(light / light.nanmean(), nan=1.0).clamp(min=0) * draw_dose(rng)
        camera = draw_measured(rng) if rng.random() < _LIKE_MEASURED else draw_camera(rng)
        return self._normalise(expose_torch(electrons, camera, self._generator), light, rng)

    def _prepare(
        self, counts: npt.NDArray[Any], reference: F32, crop_px: int | None, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        counts, reference = _augment((counts, reference), crop_px, rng)
        drawn = torch.from_numpy(counts.astype(np.float32)).to(self._device)
        return self._normalise(drawn, torch.from_numpy(reference).to(self._device), rng)

    def _normalise(
        self, counts: torch.Tensor, reference: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # a stack shares one level, so single frames (and crops) lie off it by some per cent
        per_stack = RECIPES[self._recipe.preprocessing]["per"] == "stack"
        jitter = float(np.exp(0.1 * rng.standard_normal())) if per_stack else 1.0
        pair = normalise_pair(RECIPES[self._recipe.preprocessing], counts, reference, jitter)
        return _cut_rim(*pair, rng) if rng.random() < self._recipe.rims else pair

    def close(self) -> None:
        """Stop the processes drawing scenes."""
        self._pool.close()


def normalise_pair(
    recipe: Mapping[str, Any], counts: torch.Tensor, reference: torch.Tensor, jitter: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring low-dose counts and their reference (rows, columns) to what a recipe's network maps.

    `level`: both in units of their mean, times 1/jitter. Percentiles: input as the recipe says; the reference
    stretched from minimum to maximum (Katsuno et al. 2021), or between the recipe's percentiles where those
    are symmetric, as in the follow-up.
    """
    scaling = measure_scaling(recipe, counts.cpu().numpy())
    if recipe["name"] == "level":
        inputs = (counts / (scaling.scale * jitter)).clamp(scaling.low, scaling.high)
        return torch.nan_to_num(inputs, nan=1.0), reference / (reference.nanmean() * jitter)
    inputs = torch.nan_to_num((counts - scaling.offset) / scaling.scale).clamp(0, 1)
    known = reference[reference.isfinite()].cpu().numpy()
    ends = (recipe["low"], recipe["high"]) if recipe["low"] + recipe["high"] == 100 else (0, 100)
    low, high = (float(v) for v in np.percentile(known, ends))
    target = (reference - low) / ((high - low) or 1.0)
    return inputs, target if ends == (0, 100) else target.clamp(0, 1)


def _augment(
    frames: tuple[npt.NDArray[Any], ...], crop_px: int | None, rng: np.random.Generator
) -> list[npt.NDArray[Any]]:
    """Crop, turn and flip frames of one field alike; whole frames are only flipped."""
    rows, cols = frames[0].shape
    quarter_turns = 0
    if crop_px is not None:
        height, width = min(crop_px, rows), min(crop_px, cols)
        row, col = int(rng.integers(rows - height + 1)), int(rng.integers(cols - width + 1))
        frames = tuple(f[row : row + height, col : col + width] for f in frames)
        quarter_turns = int(rng.integers(4)) if height == width else 0
    flips = tuple(slice(None, None, int(s)) for s in rng.choice([-1, 1], 2))
    return [np.ascontiguousarray(np.rot90(f, quarter_turns)[flips]) for f in frames]


def _cut_rim(
    inputs: torch.Tensor, target: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace the last rows and columns by a reflection, as frames are filled up; unknown to the target."""
    rows, cols = (n - int(rng.integers(min(STRIDE, n // 2))) for n in inputs.shape)
    pad = (0, inputs.shape[1] - cols, 0, inputs.shape[0] - rows)
    filled = functional.pad(inputs[None, None, :rows, :cols], pad, "reflect")[0, 0]
    return filled, functional.pad(target[:rows, :cols], pad, value=torch.nan)


def _stack(
    drawn: Sequence[tuple[torch.Tensor, torch.Tensor]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack frames of any sizes, filled up to what networks take; the filling is unknown to the target."""
    rows, cols = (-(-max(x.shape[i] for x, _ in drawn) // STRIDE) * STRIDE for i in (0, 1))
    inputs = torch.ones(len(drawn), 1, rows, cols, device=device)
    targets = torch.full_like(inputs, torch.nan)
    for place, (x, t) in enumerate(drawn):
        inputs[place, 0, : x.shape[0], : x.shape[1]] = x
        targets[place, 0, : t.shape[0], : t.shape[1]] = t
    return inputs, targets


def draw_validation(recipe: Recipe, pairs: Pairs | None, device: torch.device) -> list[Any]:
    """Return the frames to validate on, (input, target) each (1, 1, rows, columns), the same at every call.

    The recorded pairs where there are any, else fresh exposures of references or simulated specimens.
    """
    preprocessing = RECIPES[recipe.preprocessing]
    if pairs is not None and pairs.recorded:
        both = [
            normalise_pair(preprocessing, torch.from_numpy(c.astype(np.float32)), torch.from_numpy(r))
            for c, r in pairs.recorded
        ]
        return [_stack([one], device) for one in both]
    recipe = replace(recipe, large_crops=0.0)
    drawn = Batches(recipe, pairs, seed=0, device=torch.device("cpu"))
    steps = range(-(-24 // recipe.batch))
    frames = [one for step in steps for one in zip(*drawn.draw(step), strict=True)]
    return [(x[None].to(device), t[None].to(device)) for x, t in frames]
