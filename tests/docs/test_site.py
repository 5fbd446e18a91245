"""The site builds without a warning, and what stands beside it is in order."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from napari_lowdose_tem import __version__
from napari_lowdose_tem.cli import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(folder / "trees"), str(DOCS)]
    done = subprocess.run(
        [sys.executable, *words, str(folder / "html")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "html"


def test_site_builds_without_a_warning_and_holds_every_page(site):
    pages = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    assert pages <= {page.relative_to(site) for page in site.rglob("*.html")}


def test_site_describes_every_command_and_option(site, monkeypatch):
    page = (site / "reference" / "commands.html").read_text("utf-8")
    names = [one.name or one.callback.__name__.replace("_", "-") for one in app.registered_commands]
    assert len(names) >= 9
    for name in names:
        assert f'<section id="{name}">' in page
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    text = importlib.import_module("commands").describe()
    assert "| `--output`, `-o` `PATH` |" in text
    assert "| `--frame` `N` | Frame of a stack. | `0` |" in text
    assert "| `--particles` `1\\|2\\|auto` |" in text
    assert "| `--json` | Print one JSON object and nothing else. |  |" in text
    assert text.count("lowdose-tem train DATA --output PATH [OPTIONS]") == 1


def test_site_describes_the_library(site):
    page = (site / "reference" / "python.html").read_text("utf-8")
    for name in (
        "image.Image",
        "io.read",
        "enhancement.iter_enhance",
        "engine.engine.Engine",
        "measure.fit_profile",
    ):
        assert f'id="napari_lowdose_tem.{name}"' in page
    assert 'class="problematic"' not in page


def test_readme_and_changelog_link_to_what_is_there():
    for name in ("README.md", "CHANGELOG.md"):
        for link in LINK.findall((ROOT / name).read_text("utf-8")):
            if "://" not in link:
                assert (ROOT / unquote(link.partition("#")[0])).is_file(), link


def test_every_picture_is_shown():
    texts = "".join(page.read_text("utf-8") for page in (ROOT / "README.md", *DOCS.rglob("*.md")))
    for picture in (DOCS / "images").iterdir():
        assert f"images/{picture.name})" in texts, f"{picture.name} is on no page"
        assert picture.stat().st_size < 1_000_000


def test_citation_names_software_and_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["version"] == __version__
    paper = cited["references"][0]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Katsuno", "Kimura", "Yamazaki", "Takigawa",
    ]  # fmt: skip
    assert paper["url"].endswith("2106.01718")


def test_changelog_knows_this_version():
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
