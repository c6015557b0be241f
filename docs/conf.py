"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[1]):
    sys.path.insert(0, str(folder))

import bounds  # noqa: E402

project = "bounds"
author = "the bounds authors"
version = release = bounds.__version__
copyright = "the bounds authors, MIT licence"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "tools.docstrings",
    "tools.mathml",
    "tools.public_names",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"bounds {version}"
html_static_path = ["style"]
html_css_files = ["bounds.css"]
html_show_sourcelink = False
html_math_renderer = "mathml"
templates_path: list[str] = []

# What stands between single backquotes in docstrings is a name of Python's, or reads like one.
default_role = "py:obj"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
maximum_signature_line_length = 80
