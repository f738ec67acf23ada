"""Sphinx with MyST: pages are Markdown, as README is, and autodoc reads the docstrings. audEERING's packages, autrainer
and skorch use it. MkDocs had no release since August 2024, and the successor of its theme is at version 0.1.

Nothing is loaded from elsewhere, so that build/docs/ can be read and searched without a network: formulas are text, not
MathJax.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import generate

import emoshare

project, author, copyright = "emoshare", "the authors of emoshare", "the authors of emoshare"
version = release = emoshare.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"emoshare {version}"
html_show_sourcelink = False
highlight_language = "text"
default_role = "code"  # docstrings write `code` in single backticks
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]  # the reference of keys
html_static_path = ["site.css"]
html_css_files = ["site.css"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # Lightning's name labels of its own site

generate.write(Path(__file__).parent / "reference")
