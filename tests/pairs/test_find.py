import numpy as np
import pytest
import tifffile

from napari_lowdose_tem.pairs import find_fields, reduce_frame

HIGH, LOW = (24, 40), (6, 10)


def save(folder, *shapes, start=1):
    folder.mkdir(exist_ok=True)
    for number, shape in enumerate(shapes, start):
        tifffile.imwrite(folder / f"frame_{number}.tif", np.zeros(shape, np.uint16))
    return folder


def test_fields_in_natural_order(tmp_path):
    save(tmp_path / "set 10", HIGH, LOW)
    save(tmp_path / "set 2", HIGH, LOW, LOW, HIGH, LOW, start=8)
    fields = find_fields(tmp_path)
    assert [f.set_name for f in fields] == ["set 2", "set 2", "set 10"]
    assert fields[0].hde.name == "frame_8.tif"
    assert [p.name for p in fields[0].ldes] == ["frame_9.tif", "frame_10.tif"]
    assert [p.name for p in fields[1].ldes] == ["frame_12.tif"]
    assert (fields[0].hde_shape, fields[0].lde_shape, fields[0].factor) == (HIGH, LOW, 4)


def test_folder_itself_is_a_set_and_movies_are_left_out(tmp_path):
    save(tmp_path / "Ni", HIGH, LOW, (5, *LOW))
    save(tmp_path, (5, *LOW))
    assert [f.ldes[0].name for f in find_fields(tmp_path)] == ["frame_2.tif"]
    assert [f.set_name for f in find_fields(tmp_path / "Ni")] == ["Ni"]


@pytest.mark.parametrize("beside", [[LOW], [LOW, LOW], [LOW, (12, 20)], [HIGH, LOW, LOW]])
def test_frames_beside_sets_are_left_out(tmp_path, beside):
    save(tmp_path, *beside)
    save(tmp_path / "Ni", HIGH, LOW, LOW)
    assert [f.set_name for f in find_fields(tmp_path)] == ["Ni"]


def test_a_set_may_hold_folders_of_results(tmp_path):
    save(tmp_path / "Ni", HIGH, LOW)
    save(tmp_path / "Ni" / "enhanced", LOW, LOW)
    assert [f.hde.parent for f in find_fields(tmp_path / "Ni")] == [tmp_path / "Ni"]


def test_a_broken_set_is_told_whatever_lies_beside(tmp_path):
    save(tmp_path, LOW)
    save(tmp_path / "Ni", HIGH, LOW)
    save(tmp_path / "SiC", LOW, LOW)
    with pytest.raises(ValueError, match="SiC: no pairs, all 2 frames"):
        find_fields(tmp_path)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], "no TIFF frames"),
        ([LOW, LOW], "no pairs, all 2 frames have 6 × 10 px"),
        ([LOW, HIGH, LOW], r"frame_1\.tif: a low-dose frame \(6 × 10 px\) before"),
        ([HIGH, LOW, HIGH], r"frame_3\.tif: no low-dose frame follows"),
        ([HIGH, HIGH, LOW], r"frame_1\.tif: no low-dose frame follows"),
        ([(24, 41), LOW], r"frame_1\.tif: 24 × 41 px is not a whole multiple of .* 6 × 10 px"),
        ([(24, 30), LOW], r"frame_1\.tif: 24 × 30 px is not a whole multiple"),
    ],
)
def test_layouts_that_do_not_fit(tmp_path, shapes, message):
    with pytest.raises(ValueError, match=message):
        find_fields(save(tmp_path / "Ni", *shapes))


def test_missing_folder_and_unreadable_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        find_fields(tmp_path / "nowhere")
    save(tmp_path, HIGH, LOW)
    (tmp_path / "frame_3.tif").write_bytes(b"no TIFF")
    with pytest.raises(ValueError, match=r"frame_3\.tif: cannot be read"):
        find_fields(tmp_path)


def test_area_reduction_keeps_the_mean():
    frame = np.random.default_rng(1).integers(0, 65536, (24, 40), np.uint16)
    reduced = reduce_frame(frame, 4)
    assert reduced.shape == (6, 10)
    assert reduced[2, 7] == frame[8:12, 28:32].mean()
    assert reduced.mean() == pytest.approx(frame.mean())


def test_paper_reduction_reads_the_central_pixels():
    frame = np.random.default_rng(1).integers(0, 65536, (24, 40), np.uint16)
    assert reduce_frame(frame, 4, "paper")[2, 7] == pytest.approx(frame[9:11, 29:31].mean())
    frame = frame[:, :39]
    assert reduce_frame(frame, 3, "paper")[2, 7] == pytest.approx(frame[7, 22])


@pytest.mark.parametrize("how", ["area", "paper"])
def test_reduction_keeps_coordinates(how):
    row, col = np.mgrid[:24, :40] + 0.5
    np.testing.assert_allclose(reduce_frame(row, 4, how)[:, 3], 4 * (np.arange(6) + 0.5))
    np.testing.assert_allclose(reduce_frame(col, 4, how)[2], 4 * (np.arange(10) + 0.5))


def test_unknown_reduction():
    with pytest.raises(ValueError, match="area or paper"):
        reduce_frame(np.zeros(HIGH), 4, "median")
