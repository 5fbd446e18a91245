import pytest
from typer.testing import CliRunner

from napari_lowdose_tem.cli import app
from napari_lowdose_tem.pairs import find_fields

SMALL = ("--lde-size", "32", "--hde-size", "64", "--pixel-size", "10")


def run(*words):
    return CliRunner().invoke(app, ["simulate", *map(str, words)])


def test_preset_of_the_paper(tmp_path):
    words = (
        "-o",
        tmp_path / "set",
        "--preset",
        "paper",
        "--fraction",
        "0.001",
        "--part",
        "validation",
        *SMALL,
    )
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert len(find_fields(tmp_path / "set" / "validation")) == 5
    assert not (tmp_path / "set" / "training").exists()
    assert run(*words).exit_code == 2
    assert run(*words, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--preset", "papers"), "unknown preset 'papers'"),
        (("--fraction", "0.5"), "add --preset paper"),
        (("--preset", "paper", "--material", "Ni"), "leave out --material"),
        (("--preset", "paper", "--part", "test"), "unknown part"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, words, said):
    result = run("-o", tmp_path / "set", *words, *SMALL)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "set").exists()
