import json

import numpy as np
import pytest

from napari_lowdose_tem.io import read
from napari_lowdose_tem.pairs import find_fields
from napari_lowdose_tem.simulate import MATERIALS, iter_paper_dataset
from napari_lowdose_tem.simulate.paper import IMAGES

SMALL = {"lde_px": 32, "hde_px": 64, "pixel_size_nm": 10.0}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_numbers_are_those_of_table_1():
    assert [sum(images.values()) for images in IMAGES.values()] == [1000, 160]
    assert all(list(images) == list(MATERIALS) for images in IMAGES.values())
    assert all(number % 2 == 0 for images in IMAGES.values() for number in images.values())


def test_a_small_share_of_it(tmp_path):
    steps = list(iter_paper_dataset(tmp_path, 0.02, **SMALL))
    expected = {"Ni": 2, "FeNi": 3, "SiC": 1, "silicate": 2, "alumina": 2}
    assert (steps[-1].done, steps[-1].total, len(steps)) == (15, 15, 15)
    doses = []
    for part, numbers in (("training", expected), ("validation", dict.fromkeys(MATERIALS, 1))):
        fields = find_fields(tmp_path / part)
        assert {m: sum(f.set_name == m for f in fields) for m in MATERIALS} == numbers
        assert all(len(f.ldes) == 2 for f in fields)
        for material in MATERIALS:
            truth = load(tmp_path / part / material / "truth.json")
            assert truth["lde"]["dose_e_per_px"] == [5, 10]
            for field in truth["fields"]:
                lde = read(tmp_path / part / material / field["lde"][1]["file"])
                assert lde.provenance["simulation"]["dose_e_per_px"] == pytest.approx(field["dose_e_per_px"])
                assert lde.data.mean() / 44 < 1.3 * field["dose_e_per_px"]
                doses.append(field["dose_e_per_px"])
    assert len(set(doses)) == 15
    assert min(doses) > 5
    assert max(doses) < 10
    assert np.ptp(doses) > 2


def test_training_and_validation_have_nothing_in_common(tmp_path):
    list(iter_paper_dataset(tmp_path, 0.001, **SMALL))
    first, second = (read(tmp_path / part / "Ni" / "Ni_0001.tif").data for part in IMAGES)
    assert (first != second).mean() > 0.9


def test_stopped_and_resumed_equals_uninterrupted(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    list(iter_paper_dataset(whole, 0.02, ["training"], **SMALL))
    steps = iter_paper_dataset(stopped, 0.02, ["training"], **SMALL)
    for _ in range(3):
        next(steps)
    steps.close()
    assert len(load(stopped / "training" / "FeNi" / "truth.json")["fields"]) == 1
    (stopped / "training" / "FeNi" / "FeNi_0004.tif").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="exists already; resume"):
        next(iter_paper_dataset(stopped, 0.02, ["training"], **SMALL))
    with pytest.raises(ValueError, match=r"truth\.json: of a data set with other settings"):
        list(iter_paper_dataset(stopped, 0.02, ["training"], seed=1, resume=True, **SMALL))
    assert [s.done for s in iter_paper_dataset(stopped, 0.02, ["training"], resume=True, **SMALL)][-1] == 10
    names = sorted(path.relative_to(whole) for path in whole.rglob("*.*"))
    assert names == sorted(path.relative_to(stopped) for path in stopped.rglob("*.*"))
    for name in names:
        if name.suffix == ".json":
            assert load(whole / name) == load(stopped / name)
        else:
            assert (read(whole / name).data == read(stopped / name).data).all()


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((0.0,), {}, "fraction 0.0"),
        ((1.5,), {}, "fraction 1.5"),
        ((0.1, ["test"]), {}, "unknown part .*test"),
        ((0.1,), {"seed": -1}, "seed -1"),
        ((0.1,), {"dose_e_per_px": (9.0, 3.0)}, "dose 9.0 to 3.0"),
    ],
)
def test_what_cannot_be_made(tmp_path, arguments, options, said):
    with pytest.raises(ValueError, match=said):
        next(iter_paper_dataset(tmp_path / "new", *arguments, **SMALL, **options))
    assert not (tmp_path / "new").exists()
