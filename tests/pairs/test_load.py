import numpy as np
import pytest

from napari_lowdose_tem.image import Image
from napari_lowdose_tem.io import write
from napari_lowdose_tem.pairs import find_fields, load_field
from napari_lowdose_tem.simulate.camera import IDEAL, expose
from napari_lowdose_tem.simulate.specimen import draw_specimen, render

FACTOR, LOW, PIXEL_NM = 4, (96, 144), 5.0
HIGH = (LOW[0] * FACTOR, LOW[1] * FACTOR)


@pytest.fixture
def specimen():
    field_nm = (LOW[0] * PIXEL_NM, LOW[1] * PIXEL_NM)
    return draw_specimen("FeNi", field_nm, 8, pixel_size_nm=PIXEL_NM, n_particles=40)


def write_frames(folder, specimen, *shifts_px, dose_e_per_px=400.0):
    """Write a high-dose frame and low-dose frames of its field, shifted."""
    hde = expose(render(specimen, HIGH).transmission * 1000, IDEAL, 1).astype(np.uint16)
    fine_nm = (PIXEL_NM / FACTOR, PIXEL_NM / FACTOR)
    write(Image(hde, fine_nm, 10.0), folder / "frame_1.tif")
    for i, shift_px in enumerate(shifts_px, 2):
        moved = render(specimen, LOW, tuple(s * PIXEL_NM for s in shift_px)).transmission
        lde = expose(moved * dose_e_per_px, IDEAL, i).astype(np.uint16)
        write(Image(lde, counts_per_electron=44.0), folder / f"frame_{i}.tif")
    return hde


def test_field_at_rest(tmp_path, specimen):
    hde = write_frames(tmp_path, specimen, (0.0, 0.0), (1.5, -2.25))
    (field,) = find_fields(tmp_path)
    loaded = load_field(field, register=False)
    assert loaded.field == field
    assert loaded.pixel_size_nm == (PIXEL_NM, PIXEL_NM)  # of the low-dose grid, from the high-dose file
    assert loaded.counts_per_electron == 44
    assert loaded.reference.dtype == np.float32
    np.testing.assert_allclose(loaded.reference, hde.reshape(96, 4, 144, 4).mean((1, 3)), rtol=1e-6)
    assert [pair.path for pair in loaded.pairs] == list(field.ldes)
    for pair in loaded.pairs:
        assert pair.shift_px == (0, 0)
        assert (pair.reference == loaded.reference).all()


def test_reference_lies_on_the_low_dose_frame(tmp_path, specimen):
    hde = write_frames(tmp_path, specimen, (1.5, -2.25))
    (pair,) = load_field(find_fields(tmp_path)[0]).pairs
    assert pair.shift_px == pytest.approx((1.5, -2.25), abs=0.05)
    assert pair.confidence > 0.95
    assert pair.refused == ""
    moved = np.roll(hde, (6, -9), (0, 1)).reshape(96, 4, 144, 4).mean((1, 3))
    np.testing.assert_allclose(pair.reference[2:, :-3], moved[2:, :-3], rtol=1e-6)
    assert np.isnan(pair.reference[:2]).all()
    assert np.isnan(pair.reference[:, -3:]).all()
    assert np.isfinite(pair.reference[2:, :-3]).all()


def test_a_file_that_changed_is_named(tmp_path, specimen):
    write_frames(tmp_path, specimen, (0.0, 0.0))
    (field,) = find_fields(tmp_path)
    write(Image(np.ones((48, 72), np.uint16)), tmp_path / "frame_2.tif", overwrite=True)
    with pytest.raises(ValueError, match=r"frame_2\.tif: \(48, 72\) px, but \(96, 144\)"):
        load_field(field)
    write(Image(np.ones((2, *LOW), np.uint16)), tmp_path / "frame_2.tif", overwrite=True)
    with pytest.raises(ValueError, match=r"frame_2\.tif: a stack of 2 frames"):
        load_field(field)


def test_frames_of_other_fields_are_refused(tmp_path, specimen):
    write_frames(tmp_path, specimen, (0.0, 0.0))
    other = np.flip(np.asarray(render(specimen, LOW).transmission)) * 400
    write(Image(expose(other, IDEAL, 3).astype(np.uint16)), tmp_path / "frame_3.tif")
    fine, bad = load_field(find_fields(tmp_path)[0]).pairs
    assert fine.refused == ""
    assert "shows nothing of the high-dose frame" in bad.refused
    assert [pair.refused for pair in load_field(find_fields(tmp_path)[0], register=False).pairs] == ["", ""]
