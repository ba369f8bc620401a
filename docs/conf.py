"""How the documentation is built: `make docs`, into build/docs. The pages fetch nothing."""

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.writers.html5 import HTML5Translator

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.insert(0, str(HERE.parent))

from reference.breaking import breakable  # noqa: E402  (the two lines above make it importable)
from reference.limits import limits_for_the_site  # noqa: E402  (as above)
from reference.pages import arranged, for_the_site, write_pages  # noqa: E402  (as above)

import rch  # noqa: E402  (as above)

project = "RCH Xcode lane"
author = "the RCH Xcode lane"
copyright = author  # noqa: A001  (Sphinx's name for it)
version = release = rch.__version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_ext", "examples/*/**"]
nitpicky = True
smartquotes = False  # what is to be typed stands in prose, too

myst_enable_extensions = ["deflist", "attrs_inline", "colon_fence"]
myst_heading_anchors = 4
myst_linkify_fuzzy_links = False

html_theme = "furo"
html_title = f"RCH Xcode lane {release}"
html_static_path = ["_static"]
html_css_files = ["house.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "monokai"


class Breaking(HTML5Translator):
    """Sphinx's own writer, but for long words of code in the cells of tables."""

    def visit_Text(self, node: Any) -> None:  # noqa: N802  (docutils' name for it)
        """The text of a node."""
        start = len(self.body)
        super().visit_Text(node)
        if self.protect_literal_text and _in_a_cell(node):
            self.body[start:] = [breakable(each) for each in self.body[start:]]


def _in_a_cell(node: Any) -> bool:
    while node is not None and not isinstance(node, nodes.entry):
        node = node.parent
    return node is not None


def setup(app: Any) -> None:
    """Write the reference pages before Sphinx looks for its sources."""
    app.connect("builder-inited", lambda _app: write_pages(HERE))
    app.connect("source-read", read)
    app.set_translator("html", Breaking)


def read(_app: object, name: str, source: list[str]) -> None:
    """Put every page into the index, and lead links out of docs/ to what the site has of it."""
    text = source[0]
    if name == "limits":
        text = limits_for_the_site(text)
    source[0] = arranged(text, HERE) if name == "index" else for_the_site(text, (HERE / name).parent)
