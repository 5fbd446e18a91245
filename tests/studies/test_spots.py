import sys
from pathlib import Path

import numpy as np
import pytest

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture
def spots(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    yield __import__("spots")
    for name in ("spots", "reliability_scenes"):
        sys.modules.pop(name, None)


def draw(depth, radius_px, row, col, shape=(96, 160)):
    film = np.linspace(1.0, 0.85, shape[1]) * np.ones(shape)  # a ramp is no spot
    rows, cols = np.indices(shape)
    output = film * (1 - depth * (np.hypot(rows - row, cols - col) <= radius_px))
    return 200 * output, film


def test_a_planted_spot_is_found_where_it_is(spots):
    (spot,) = spots.find_spots(*draw(0.2, 6, 40, 90))
    assert (spot.row_px, spot.col_px) == pytest.approx((40, 90), abs=0.5)
    # blurred from 20 % of depth, it is as deep as 5 % a little beyond its rim
    assert np.pi * 6**2 < spot.size_px < np.pi * 7.5**2
    assert spot.lowest == pytest.approx(0.8, abs=0.01)
    assert spot.rim_px == pytest.approx(33, abs=1)


@pytest.mark.parametrize(("depth", "radius_px"), [(0.04, 8), (0.3, 1.5)])
def test_faint_and_tiny_ones_do_not_count(spots, depth, radius_px):
    assert spots.find_spots(*draw(depth, radius_px, 40, 90)) == []


def test_a_spot_on_the_last_rows_is_at_the_rim(spots):
    (spot,) = spots.find_spots(*draw(0.2, 6, 95, 30))
    assert spot.rim_px == 0


def test_a_film_is_measured_with_a_model(spots):
    from napari_lowdose_tem.engine.engine import Engine

    with Engine("fast", "cpu") as engine:
        row = spots.measure_spots(engine, 2)
    assert row["films"] == 2 and row["films_with_any"] <= 2
    assert len(row["sizes_px"]) == len(row["lowest"]) == row["spots"] >= row["at_the_rim"]
