"""The site: `sphinx-build -W docs site`, with what `pip install ".[docs]"` brings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from napari_lowdose_tem import __version__

project = "napari-lowdose-tem"
author = "The napari-lowdose-tem developers"
copyright = author
version = release = __version__

extensions = ["commands", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "_ext"]
myst_heading_anchors = 3
smartquotes = False  # or "--json" in a sentence becomes a dash
default_role = "py:obj"  # `name` in a docstring links to the page of that name where there is one
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring = False
copybutton_exclude = ".linenos, .gp"

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
