"""Changelog fragments: each is named for its change and kind, and is a sentence or two (changes/README.md).

python -m building.fragments [FOLDER]      exits 1 and names each that is not well formed
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from building.content import ROOT

_BESIDE = {"README.md", "template.md.jinja"}
_MOST_LETTERS = 400


def kinds() -> list[str]:
    """The kinds of pyproject.toml, in the order of the changelog."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [each["directory"] for each in project["tool"]["towncrier"]["type"]]


def fragments(folder: Path) -> list[Path]:
    """The files of `folder` that are changes, well formed or not."""
    return sorted(path for path in folder.iterdir() if path.name not in _BESIDE)


def complaints(folder: Path) -> Iterator[str]:
    """What is wrong with the fragments of `folder`, each with what would mend it."""
    known = kinds()
    name = re.compile(rf"[a-z0-9]+(?:-[a-z0-9]+)*\.({'|'.join(known)})\.md")
    for path in fragments(folder):
        if not name.fullmatch(path.name):
            yield f"{path.name}: call it some-words.KIND.md; KIND is {', '.join(known)}"
            continue
        text = path.read_text(encoding="utf-8").strip()
        if not text.endswith((".", ".)")):
            yield f"{path.name}: write a sentence that ends with a full stop"
        if text.startswith(("#", "-", "*")):
            yield f"{path.name}: leave out the list or the heading, which the changelog adds"
        if len(text) > _MOST_LETTERS or "\n\n" in text:
            yield f"{path.name}: one or two sentences, {_MOST_LETTERS} letters; the rest goes into docs/"


def main(argv: list[str]) -> int:
    """Tell what is wrong."""
    told = list(complaints(Path(argv[0]) if argv else ROOT / "changes"))
    for each in told:
        sys.stderr.write(f"changes/{each}\n")
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
