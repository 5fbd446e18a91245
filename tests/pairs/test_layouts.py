"""Layouts other than the authors': roles told by names, tables, lists, high-dose frames alone."""

import numpy as np
import pytest
import tifffile

from napari_lowdose_tem.pairs import find_fields, load_field

HIGH, LOW = (96, 160), (24, 40)


def save(*paths, shape=LOW):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mrc":
            write_mrc(path, shape)
        else:
            pixels = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
            tifffile.imwrite(path, pixels)


def write_mrc(path, shape):
    header = np.zeros(256, "<i4")
    header[:4] = shape[1], shape[0], 1, 6  # uint16
    header[7:10] = shape[1], shape[0], 1
    header[10:13] = np.array([*shape[::-1], 1], "<f4").view("<i4")
    header[16:19] = 1, 2, 3
    header[52] = int.from_bytes(b"MAP ", "little")
    header[53] = 0x4444
    path.write_bytes(header.tobytes() + np.ones(shape, "<u2").tobytes())


def names(fields):
    return [(f.set_name, f.hde.name, [p.name for p in f.ldes]) for f in fields]


@pytest.mark.parametrize(("high", "low"), [("hde", "lde"), ("HDE", "LDE"), ("High", "low")])
def test_two_folders_with_equal_names(tmp_path, high, low):
    save(tmp_path / high / "b10.tif", tmp_path / high / "b9.tif", shape=HIGH)
    save(tmp_path / low / "b9.tif", tmp_path / low / "b10_1.tif", tmp_path / low / "b10_2.tif")
    expected = [("b9.tif", ["b9.tif"]), ("b10.tif", ["b10_1.tif", "b10_2.tif"])]
    fields = find_fields(tmp_path)
    assert names(fields) == [(tmp_path.name, *pair) for pair in expected]
    assert (fields[0].hde_shape, fields[0].lde_shape, fields[0].factor) == (HIGH, LOW, 4)


def test_folders_per_material_and_formats_other_than_tiff(tmp_path):
    save(tmp_path / "SiC" / "hde" / "x_HDE.mrc", shape=HIGH)
    save(tmp_path / "SiC" / "lde" / "x_LDE.mrc")
    save(tmp_path / "Ni" / "frame_1.tif", shape=HIGH)
    save(tmp_path / "Ni" / "frame_2.tif")
    assert names(find_fields(tmp_path)) == [
        ("Ni", "frame_1.tif", ["frame_2.tif"]),
        ("SiC", "x_HDE.mrc", ["x_LDE.mrc"]),
    ]
    (field,) = find_fields(tmp_path / "SiC")
    assert load_field(field).reference.shape == LOW


def test_authors_layout_in_another_format(tmp_path):
    save(tmp_path / "1.mrc", tmp_path / "4.mrc", shape=HIGH)
    save(tmp_path / "2.mrc", tmp_path / "3.mrc", tmp_path / "5.mrc")
    assert [f[1:] for f in names(find_fields(tmp_path))] == [
        ("1.mrc", ["2.mrc", "3.mrc"]),
        ("4.mrc", ["5.mrc"]),
    ]


def test_roles_in_file_names(tmp_path):
    save(tmp_path / "a_hde.tif", tmp_path / "b-HDE.tif", tmp_path / "c high 7.tif", shape=HIGH)
    lows = ("a_lde.tif", "a_lde_2.tif", "b-LDE.tif", "c low 7.tif", "c low 7 2.tif", "overview.tif")
    save(*(tmp_path / name for name in lows))
    assert [f[1:] for f in names(find_fields(tmp_path))] == [
        ("a_hde.tif", ["a_lde.tif", "a_lde_2.tif"]),
        ("b-HDE.tif", ["b-LDE.tif"]),
        ("c high 7.tif", ["c low 7.tif", "c low 7 2.tif"]),
    ]


def test_words_that_contain_a_role_are_none(tmp_path):
    save(tmp_path / "highland_1.tif", shape=HIGH)
    save(tmp_path / "highland_2.tif", tmp_path / "lowland_3.tif")
    assert len(find_fields(tmp_path)[0].ldes) == 2


@pytest.mark.parametrize(
    ("high", "low", "said"),
    [
        ({"a_hde.tif": HIGH}, {"b_lde.tif": LOW}, r"b_lde\.tif: no high-dose frame of the same name"),
        (
            {"a_hde.tif": HIGH, "b_hde.tif": HIGH},
            {"a_lde.tif": LOW},
            r"b_hde\.tif: no low-dose frame belongs",
        ),
        ({"a_hde.tif": LOW}, {"a_lde.tif": HIGH}, r"a_hde\.tif: 24 × 40 px .* swapped"),
        ({"a_hde.tif": (96, 161)}, {"a_lde.tif": LOW}, r"a_hde\.tif: 96 × 161 px is not a whole multiple"),
        ({"a_hde.tif": HIGH}, {"a_lde_1.tif": LOW, "a_lde_2.tif": HIGH}, r"a_lde_2\.tif: 96 × 160 px, but"),
        ({"a_hde.tif": (2, *HIGH)}, {"a_lde.tif": LOW}, r"a_hde\.tif: 3 axes .* single frame"),
    ],
)
def test_named_pairs_that_do_not_fit(tmp_path, high, low, said):
    for name, shape in (high | low).items():
        tifffile.imwrite(tmp_path / name, np.zeros(shape, np.uint16))
    with pytest.raises(ValueError, match=said):
        find_fields(tmp_path)


@pytest.mark.parametrize("divider", [",", ";", "\t"])
def test_table_of_pairs(tmp_path, divider):
    save(tmp_path / "in" / "h1.tif", tmp_path / "in" / "h2.tif", shape=HIGH)
    save(tmp_path / "in" / "l1.tif", tmp_path / "in" / "l2.tif", tmp_path / "l3.mrc")
    rows = [
        ("HDE", "LDE", "set"),
        ("in/h1.tif", "in/l1.tif", "Ni"),
        ("in/h2.tif", "l3.mrc", ""),
        ("in/h1.tif", "in/l2.tif", "Ni"),
    ]
    table = tmp_path / "pairs.csv"
    table.write_text("# all of them\n\n" + "\n".join(divider.join(row) for row in rows), "utf-8-sig")
    expected = [("Ni", "h1.tif", ["l1.tif", "l2.tif"]), ("pairs", "h2.tif", ["l3.mrc"])]
    assert names(find_fields(table)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("hde,lde\n", "no pairs below the header"),
        ("hde,lde\nh.tif\n", "line 2: no lde"),
        ("hde,lde\nh.tif,l.tif\nh.tif,x.tif", "line 3: .*x.tif: no such file"),
        ("h.tif,l.tif\n", "line 1: 'h.tif,l.tif' is not 'filename x1 y1"),
        ("h.tif 0 0 9 9 l.tif 0", "line 1: .* is not"),
        ("h.tif 0 0 161 96 l.tif 0 0", r"rows 0 to 96 and columns 0 to 160 of h.tif|columns"),
        ("h.tif 0 0 80 80 l.tif 30 0", r"rows 0 to 20 and columns 30 to 50 of l\.tif, which has 24 × 40"),
        ("h.tif 80 0 0 80 l.tif 0 0", "columns 80 to 0 of h.tif"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, said):
    save(tmp_path / "h.tif", shape=HIGH)
    save(tmp_path / "l.tif")
    (tmp_path / "list.txt").write_text(text)
    if "161" in text:  # the last column fills no low-dose pixel, so nothing is outside
        assert find_fields(tmp_path / "list.txt")[0].hde_region == (0, 0, *HIGH)
        return
    with pytest.raises(ValueError, match=said):
        find_fields(tmp_path / "list.txt")


@pytest.mark.parametrize("divider", [" ", ", ", "\t"])
def test_list_of_crops(tmp_path, divider):
    """The crops hold the same pixels of the field, each in its own frame's coordinates."""
    field = np.random.default_rng(3).integers(0, 60_000, (40, 70)).astype(np.uint16)
    hde = np.zeros(HIGH, np.uint16)
    hde[10 : 10 + 40, 30 : 30 + 70] = field  # x1 30, y1 10
    lde = np.zeros(LOW, np.uint16)
    lde[3:13, 5:22] = field[:, :68].reshape(10, 4, 17, 4).mean((1, 3))
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "OV 1_86.tif", hde)
    tifffile.imwrite(tmp_path / "images" / "OV1_88.tif", lde)
    lines = ["", "# comment", divider.join(["OV 1_86", "30", "10", "100", "50", "OV1_88.tif", "5", "3"])]
    (tmp_path / "list_dataset.txt").write_text("\n".join(lines))
    (found,) = find_fields(tmp_path / "list_dataset.txt")
    assert (found.set_name, found.factor) == ("list_dataset", 4)
    assert (found.hde_shape, found.lde_shape) == ((40, 68), (10, 17))
    loaded = load_field(found, register=False)
    np.testing.assert_allclose(loaded.pairs[0].counts, loaded.reference, atol=1)


def test_list_of_frames_of_one_size(tmp_path):
    """As the data of 2023: both 4096 px, the crops apart."""
    save(tmp_path / "images" / "a.tif", tmp_path / "images" / "b.tif", shape=HIGH)
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "list.txt").write_text("a 10 20 110 90 b 15 18\na 0 0 160 96 b 0 0\n")
    crop, whole = find_fields(tmp_path / "list" / "list.txt")
    assert (crop.factor, crop.hde_shape, crop.hde_region) == (1, (70, 100), (20, 10, 70, 100))
    assert crop.lde_region == (18, 15, 70, 100)
    assert whole.lde_shape == HIGH


def test_high_dose_frames_alone(tmp_path):
    save(tmp_path / "Ni" / "a.tif", tmp_path / "Ni" / "b.tif", shape=(97, 163))
    with pytest.raises(ValueError, match="high-dose frames alone"):
        find_fields(tmp_path)
    fields = find_fields(tmp_path, hde_only_factor=4)
    assert names(fields) == [("Ni", "a.tif", []), ("Ni", "b.tif", [])]
    assert (fields[0].hde_shape, fields[0].lde_shape) == ((96, 160), (24, 40))
    loaded = load_field(fields[0])
    assert loaded.pairs == ()
    assert loaded.reference.shape == (24, 40)
    assert loaded.reference[0, 0] == pytest.approx(np.mean([163 * r + c for r in range(4) for c in range(4)]))
    with pytest.raises(ValueError, match="12 × 20 px; needs 16 px a side"):
        find_fields(tmp_path, hde_only_factor=8)
    with pytest.raises(ValueError, match="factor 0 is not positive"):
        find_fields(tmp_path, hde_only_factor=0)


def test_no_pixel_is_read_while_finding(tmp_path, monkeypatch):
    save(tmp_path / "hde" / "x.mrc", shape=HIGH)
    save(tmp_path / "lde" / "x.tif")
    monkeypatch.setattr("napari_lowdose_tem.io.frames.LazyFrames.__getitem__", None)
    monkeypatch.setattr("tifffile.TiffPageSeries.asarray", None)
    assert find_fields(tmp_path)[0].factor == 4


def test_other_sources_are_named(tmp_path):
    save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif: one image; give the folder"):
        find_fields(tmp_path / "x.tif")
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match=r"x\.bin: no text file"):
        find_fields(tmp_path / "x.bin")
