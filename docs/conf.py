"""How the documentation is built: `python -m nox -s docs`. Warnings are errors; the reference is written from the code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from docs.reference_of_code import write_reference  # noqa: E402 # found by the line above

project = "trigate"
author = "the trigate authors"
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True
html_theme = "furo"
html_title = "trigate"
html_static_path = ["_static"]
html_css_files = ["trigate.css"]
html_show_sourcelink = False
html_show_copyright = False
highlight_language = "bash"  # what a block without a language shows: a call


def setup(app: Sphinx) -> None:
    """Writes `reference/generated` before the sources are read."""
    app.connect("builder-inited", lambda _: write_reference(HERE / "reference" / "generated"))
