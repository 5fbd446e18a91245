import csv
import json

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_lowdose_tem.measure.measurement import Background, Measurement, Particle
from napari_lowdose_tem.widgets.profile.kept_csv import make_table, to_text, write_csv
from napari_lowdose_tem.widgets.profile.kept_rows import Row, rows_of, store_rows
from napari_lowdose_tem.widgets.profile.lines_file import get_lines_reader, read_lines, write_lines


def row(name="A–B", unit="nm", n=1, **changes):
    particles = tuple(
        Particle(
            10.0 + 80 * i, 0.1, 95.2 + i, 0.4, (94.4 + i, 96.0 + i), 102.1, 6.9, 3.45, 4.0, 9.0, 0.59, 0.01
        )
        for i in range(n)
    )
    pair = {"separation": 80.0, "separation_se": 0.2, "margin": -15.7, "margin_se": 0.4} if n > 1 else {}
    found = Measurement(
        unit, "full", "fraction", particles, Background(200.0, 1.0, 0.0, ((0.0, 9.0),)), **pair
    )
    options = {"layer": "LDE", "role": "LDE", "frame": 3, "line": ((1.0, 2.0), (3.0, 40.0)), "width_px": 2.0}
    return Row(name, numbers=found.to_json(), **options | changes)


def test_table_has_a_line_for_each_particle_and_units_in_the_header():
    header, lines = make_table([row(), row("C–D", n=2, note="touching")])
    assert len(lines) == 3
    assert all(len(line) == len(header) for line in lines)
    table = [dict(zip(header, line, strict=True)) for line in lines]
    assert table[0]["diameter_nm"] == 95.2
    assert table[0]["diameter_ci95_high_nm"] == 96.0
    assert table[0]["edge_total_nm"] == 6.9
    assert table[0]["t_min"] == 0.59
    assert table[2]["diameter_nm"] == 96.2
    assert table[2]["particle"] == 2
    assert table[2]["separation_nm"] == 80.0
    assert table[2]["resolved"] is False
    assert table[1]["note"] == "touching"
    assert (table[0]["row_1_px"], table[0]["column_1_px"]) == (3, 40)


def test_mixed_units_are_told_in_a_column():
    header, lines = make_table([row(), row(unit="px")])
    assert "diameter" in header
    assert not [name for name in header if name.endswith("_nm")]
    assert [line[header.index("unit")] for line in lines] == ["nm", "px"]


def test_refused_measurements_are_kept_with_their_reason():
    refused = Measurement("nm", "full", "fraction", refused="no dip").to_json()
    header, lines = make_table([Row("A", "LDE", "LDE", None, ((0, 0), (9, 9)), 1.0, refused)])
    (line,) = [dict(zip(header, line, strict=True)) for line in lines]
    assert line["refused"] == "no dip"
    assert line["diameter_nm"] is None


def test_csv_reads_back(tmp_path):
    path = write_csv(tmp_path / "table.csv", [row(note='a, "b"')])
    with open(path, encoding="utf-8-sig", newline="") as file:
        (line,) = csv.DictReader(file)
    assert float(line["diameter_nm"]) == 95.2
    assert line["name"] == "A–B"
    assert line["note"] == 'a, "b"'
    assert line["frame"] == "3"
    assert list(tmp_path.iterdir()) == [path]


def test_copied_text_has_tabs():
    first, second = to_text([row()]).splitlines()
    assert first.split("\t")[:3] == ["name", "layer", "frame"]
    assert len(first.split("\t")) == len(second.split("\t"))


@pytest.fixture
def layer():
    viewer = ViewerModel()
    layer = viewer.add_shapes(
        [np.array([[1.5, 2], [30, 44]]), np.array([[0, 0], [0, 9], [9, 9], [9, 0]])],
        shape_type=["line", "rectangle"],
        features={"name": ["A–B", "box"]},
        scale=(0.5, 2),
        translate=(3, 4),
        units=("nm", "nm"),
    )
    store_rows(layer, (row(), row(n=2, note="x")))
    return layer


def test_lines_and_rows_survive_their_file(layer, tmp_path):
    data, attributes, _ = layer.as_layer_data_tuple()
    path = tmp_path / "field.lines.json"
    assert write_lines(str(path), data, attributes) == [str(path)]
    assert json.loads(path.read_text())["lines"][0]["name"] == "A–B"
    assert get_lines_reader("field.json") is None
    ((data, attributes, kind),) = get_lines_reader(str(path))(str(path))
    assert kind == "shapes"
    again = ViewerModel().add_shapes(data, **attributes)
    assert again.name == "field"
    np.testing.assert_allclose(again.data[0], [[1.5, 2], [30, 44]])
    assert len(again.data) == 1  # the box is no line
    assert again.shape_type == ["line"]
    assert list(again.features["name"]) == ["A–B"]
    np.testing.assert_allclose((*again.scale, *again.translate), (0.5, 2, 3, 4))
    assert [str(unit) for unit in again.units] == ["nanometer", "nanometer"]
    assert rows_of(again) == (row(), row(n=2, note="x"))


def test_no_line_yet_is_no_error(layer, tmp_path):
    path = tmp_path / "empty.lines.json"
    write_lines(str(path), [], {"metadata": {}})
    ((data, attributes, _),) = read_lines(str(path))
    assert len(ViewerModel().add_shapes(data, **attributes).data) == 0


@pytest.mark.parametrize(
    "text", ["", "[]", '{"kind": "other"}', '{"kind": "napari-lowdose-tem line profiles"}']
)
def test_foreign_file_is_a_clear_error(tmp_path, text):
    path = tmp_path / "x.lines.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"x\.lines\.json: holds no lines"):
        read_lines(str(path))


def test_copy_of_the_layer_keeps_rows(layer):
    data, attributes, _ = layer.as_layer_data_tuple()
    assert rows_of(ViewerModel().add_shapes(data, **attributes)) == rows_of(layer) != ()


def test_damaged_rows_are_left_out(layer):
    layer.metadata["lowdose_tem"]["line_profiles"]["rows"].append({"name": "x"})
    assert len(rows_of(layer)) == 2
