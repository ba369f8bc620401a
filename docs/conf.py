"""How the documentation is built: `make docs`, into build/docs. The pages fetch nothing."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.insert(0, str(HERE.parent))

from reference.pages import arranged, for_the_site, write_pages  # noqa: E402  (the two lines above make it importable)

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


def setup(app: Any) -> None:
    """Write the reference pages before Sphinx looks for its sources."""
    app.connect("builder-inited", lambda _app: write_pages(HERE))
    app.connect("source-read", read)


def read(_app: object, name: str, source: list[str]) -> None:
    """Put every page into the index, and lead links out of docs/ to what the site has of it."""
    text = source[0]
    source[0] = arranged(text, HERE) if name == "index" else for_the_site(text, (HERE / name).parent)
