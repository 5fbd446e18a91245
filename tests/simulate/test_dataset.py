import json
from dataclasses import replace

import numpy as np
import pytest

from napari_lowdose_tem.io import read
from napari_lowdose_tem.pairs import find_fields
from napari_lowdose_tem.simulate import MEASURED, Motion, iter_dataset, simulate_dataset
from napari_lowdose_tem.simulate.pair import area_mean

SMALL = {"lde_px": 64, "hde_px": 256, "pixel_size_nm": 5.0}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_layout_is_the_authors(tmp_path):
    steps = list(iter_dataset(tmp_path / "new", ["silicate", "Ni"], pairs=2, **SMALL))
    assert [(s.done, s.total) for s in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for material in ("silicate", "Ni"):
        names = sorted(path.name for path in (tmp_path / "new" / material).iterdir())
        assert names == [*(f"{material}_{i:04d}.tif" for i in range(1, 7)), "truth.json"]
        frames = [read(tmp_path / "new" / material / name) for name in names[:-1]]
        sides = [256, 64, 64] * 2
        assert [frame.data.shape for frame in frames] == [(side, side) for side in sides]
        assert {frame.data.dtype for frame in frames} == {np.dtype(np.uint16)}
        for frame, side in zip(frames, sides, strict=True):
            assert frame.pixel_size_nm == pytest.approx((320 / side, 320 / side))
            assert frame.provenance["simulation"]["material"] == material


def test_high_dose_frame_is_near_exact_and_not_saturated(tmp_path):
    simulate_dataset(tmp_path, ["FeNi"], pairs=3, **SMALL)
    for i in range(3):
        hde, lde = (read(tmp_path / "FeNi" / f"FeNi_{3 * i + j:04d}.tif") for j in (1, 2))
        assert hde.data.max() < 60_000
        assert lde.counts_per_electron == pytest.approx(44)
        level = hde.data.max(initial=0) / hde.counts_per_electron
        assert 500 < level < 2000  # 1,000 e-/px where nothing absorbs
        assert lde.data.mean() / lde.counts_per_electron < 6


def test_truth_places_particles_and_shifts(tmp_path):
    """The low-dose frames, without noise, are the high-dose frame moved by the shift that truth tells."""
    quiet = replace(MEASURED, read_e=0.0, streak_e=0.0, row_e=0.0, psf_px=0.0)
    simulate_dataset(tmp_path, ["Ni"], 4, dose_e_per_px=300.0, camera=quiet, seed=3, **SMALL)
    truth = load(tmp_path / "Ni" / "truth.json")
    assert (truth["seed"], truth["lde"]["dose_e_per_px"], truth["hde"]["dose_e_per_px"]) == (3, 300, 1000)
    assert truth["lde"]["camera"]["gamma_shape"] == 3
    assert len(truth["fields"]) == 4
    shifts = []
    for field in truth["fields"]:
        hde = read(tmp_path / "Ni" / field["hde"]["file"]).data.astype(float)
        for lde in field["lde"]:
            shifts.append(lde["shift_px"])
            low = read(tmp_path / "Ni" / lde["file"]).data.astype(float)
            assert difference(hde, low, lde["shift_px"]) < difference(hde, low, np.negative(lde["shift_px"]))
            assert difference(hde, low, lde["shift_px"]) < difference(hde, low, lde["shift_px"][::-1])
        for particle in field["particles"]:
            row, col = round(4 * particle["row_px"] + 1.5), round(4 * particle["col_px"] + 1.5)
            assert particle["row_nm"] == pytest.approx((particle["row_px"] + 0.5) * 5, abs=1e-3)
            if 0 <= row < 256 and 0 <= col < 256 and particle["t_center"] < 0.5:
                assert hde[row, col] < 0.8 * np.percentile(hde, 95)
    distance = np.hypot(*np.transpose(shifts))
    assert distance.max() < 3.5
    assert distance.max() > 0.5
    assert np.hypot(*np.subtract(shifts[::2], shifts[1::2]).T).max() < 0.6  # repeats hardly move


def difference(hde, low, shift_px):
    """RMS of low - (shifted, area-averaged hde), both to mean 1, in the middle of the frame."""
    rows, cols = (round(4 * s) for s in shift_px)
    moved = area_mean(np.roll(hde, (rows, cols), (0, 1)), 4)[6:-6, 6:-6]
    low = low[6:-6, 6:-6]
    return np.std(low / low.mean() - moved / moved.mean())


def test_movie_streams_with_reference_and_truth(tmp_path):
    motion = Motion(drift_nm=2.0, nucleation=1.0)
    steps = list(iter_dataset(tmp_path, ["SiC"], pairs=0, frames=5, motion=motion, **SMALL))
    assert steps[-1].path == tmp_path / "SiC_movie.ome.tif"
    names = {"SiC_movie.ome.tif", "SiC_movie_reference.ome.tif", "SiC_movie_truth.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    movie, reference = (read(tmp_path / f"SiC_movie{name}.ome.tif") for name in ("", "_reference"))
    assert movie.data.shape == reference.data.shape == (5, 64, 64)
    assert movie.pixel_size_nm == (5.0, 5.0)
    assert movie.counts_per_electron == 44
    assert movie.frames(0, 5).mean() == pytest.approx(reference.frames(0, 5).mean(), rel=0.03)
    truth = load(tmp_path / "SiC_movie_truth.json")
    assert len(truth["frames"]) == 5
    assert truth["frames"][0]["shift_px"] == [0, 0]
    assert len(truth["frames"][4]["particles"]) > len(truth["frames"][0]["particles"]) - 3
    assert truth["motion"]["drift_nm"] == 2


def test_pairs_are_found_beside_a_movie_of_one_frame(tmp_path):
    simulate_dataset(tmp_path, ["Ni", "SiC"], 1, 1, **SMALL)
    fields = find_fields(tmp_path)
    assert [(f.set_name, len(f.ldes)) for f in fields] == [("Ni", 2), ("SiC", 2)]


def test_a_field_depends_on_seed_and_place_only(tmp_path):
    simulate_dataset(tmp_path / "a", ["Ni", "SiC"], pairs=1, **SMALL)
    simulate_dataset(tmp_path / "b", ["SiC"], pairs=2, **SMALL)
    simulate_dataset(tmp_path / "c", ["SiC"], pairs=1, seed=1, **SMALL)
    a, b, c = (read(tmp_path / name / "SiC" / "SiC_0002.tif").data for name in "abc")
    assert (a == b).all()
    assert (a != c).any()


def test_stopping_leaves_truth_of_what_is_complete_and_no_partial_movie(tmp_path):
    steps = iter_dataset(tmp_path, ["Ni"], pairs=3, frames=3, **SMALL)
    for _ in range(2):
        next(steps)
    steps.close()
    assert len(load(tmp_path / "Ni" / "truth.json")["fields"]) == 2

    steps = iter_dataset(tmp_path, ["SiC"], pairs=0, frames=3, **SMALL)
    next(steps)
    steps.close()
    assert {path.name for path in tmp_path.iterdir()} == {"Ni"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"materials": ["gold"]}, "unknown material 'gold'"),
        ({"materials": []}, "nothing to simulate"),
        ({"pairs": 0}, "nothing to simulate"),
        ({"hde_px": 100}, "multiple of"),
        ({"dose_e_per_px": 0.0}, "dose 0.0 e-/px"),
    ],
)
def test_impossible_data_sets_are_refused(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        simulate_dataset(tmp_path / "new", **{"materials": ["Ni"], **SMALL, **options})
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(tmp_path):
    simulate_dataset(tmp_path, ["Ni"], pairs=1, **SMALL)
    with pytest.raises(ValueError, match="exists already"):
        simulate_dataset(tmp_path, ["SiC", "Ni"], pairs=1, **SMALL)
    assert not (tmp_path / "SiC").exists()
