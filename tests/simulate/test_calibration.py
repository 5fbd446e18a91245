"""The simulated camera against two real frames of one field (OneView, 200 kV, 4.6 e-/px)."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_lowdose_tem.simulate import IDEAL, MEASURED, expose

PAIRS = 6
ROW_LAGS = (1, 2, 4, 8, 16, 32)
COLUMN_LAGS = (1, 2, 3, 4)
BINS = np.arange(-10, 65536, 20)


def measure(a, b):
    """Statistics of two exposures of one field."""
    d = a - b
    single = np.stack([a, b])
    return {
        "mean": single.mean(),
        "variance": single.var(axis=(1, 2)).mean(),
        "variance of the difference": d.var() / 2,
        "zeros": (single == 0).mean(),
        "row means": d.mean(axis=1).std(),
        "column means": d.mean(axis=0).std(),
        "rows": np.array([autocorrelation(d, lag) for lag in ROW_LAGS]),
        "columns": np.array([autocorrelation(d.T, lag) for lag in COLUMN_LAGS]),
        "histogram": np.histogram(single, BINS)[0] / single.size,
    }


def autocorrelation(d, lag):
    d = d - d.mean()
    return (d[:, lag:] * d[:, :-lag]).mean() / d.var()


def simulate(field_counts, camera):
    """Mean statistics of pairs of exposures whose expected counts are `field_counts`."""
    # clipping makes the mean response curved: look up the dose that gives these counts
    dose = np.linspace(0.2, 12, 60)
    response = expose(np.broadcast_to(dose[:, None, None], (60, 200, 300)), camera, 0).mean(axis=(1, 2))
    electrons = np.interp(field_counts, response, dose)
    found = [measure(*expose(np.stack([electrons] * 2), camera, seed).astype(float)) for seed in range(PAIRS)]
    return {key: np.mean([one[key] for one in found], axis=0) for key in found[0]}


def disagreements(real, simulated):
    """What differs by more than the tolerance, and by how much."""
    off = {}
    for key, value in real.items():
        if key == "histogram":  # total variation distance
            difference, limit = np.abs(simulated[key] - value).sum() / 2, 0.04
        elif key in ("rows", "columns"):
            difference, limit = np.abs(simulated[key] - value).max(), 0.01
        else:
            difference, limit = abs(simulated[key] / value - 1), 0.10
        if difference > limit:
            off[key] = float(difference)
    return off


@pytest.fixture(scope="module")
def real(lde_pair):
    a, b = (image.data.astype(float) for image in lde_pair)
    return measure(a, b), gaussian_filter((a + b) / 2, 3)


def test_measured_camera_reproduces_the_real_frames(real):
    statistics, field = real
    simulated = simulate(field, MEASURED)
    assert disagreements(statistics, simulated) == {}


@pytest.mark.parametrize(
    ("camera", "seen_in"),
    [
        (replace(IDEAL, gain=44.0), {"variance", "zeros", "histogram", "rows", "columns"}),
        (replace(MEASURED, streak_e=0.0, row_e=0.0), {"row means", "rows"}),
        (replace(MEASURED, streaks_along_columns=True), {"row means", "column means", "rows", "columns"}),
        (replace(MEASURED, streak_length_px=4.0), {"row means", "rows"}),
        (replace(MEASURED, psf_px=0.0), {"columns"}),
        (replace(MEASURED, clip=False), {"zeros"}),
        (replace(MEASURED, read_e=2.0), {"variance", "zeros"}),
        (replace(MEASURED, gamma_shape=math.inf), {"variance", "zeros"}),
    ],
    ids=["poisson", "no streaks", "turned", "short streaks", "no psf", "no clipping", "quiet", "no excess"],
)
def test_another_camera_is_told_apart(real, camera, seen_in):
    statistics, field = real
    assert seen_in <= disagreements(statistics, simulate(field, camera)).keys()
