"""Markdown by small functions: cells, tables, code, anchors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def code(text: object) -> str:
    """`text` as code that may stand in a cell of a table."""
    shown = str(text)
    if not shown:
        return ""
    fence = "``" if "`" in shown else "`"
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}".replace("|", "\\|")


def cell(text: str) -> str:
    """Prose of one or more lines as one cell; its own pipes are kept apart from those of the table."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the cells are Markdown already."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def block(text: str, language: str = "text") -> str:
    """A block of code; the fence is longer than any within."""
    return f"````{language}\n{text.rstrip()}\n````\n"


def prose(docstring: str | None) -> str:
    """A docstring's text without its indentation and without the numbers of the contract's sections."""
    text = " ".join((docstring or "").split())
    return re.sub(r" ?\((?:spec )?sections? [^)]*\)|(?<=\S) \(spec [^)]*\)", "", text)


def page(title: str, *parts: str) -> str:
    """A whole page. Its first line tells where it comes from."""
    return "\n".join([f"# {title}\n", *(part if part.endswith("\n") else f"{part}\n" for part in parts)])


def anchor(name: str) -> str:
    """A target that links may name, `(name)=` before a heading."""
    return f"({name})=\n"


def schema_links(docs: Path, **places: str) -> str:
    """Links to those JSON Schemas below docs/schemas/ that are there: words to paths without an ending."""
    links = [
        f"[{word}](../schemas/{place}.schema.json)"
        for word, place in places.items()
        if (docs / "schemas" / f"{place}.schema.json").exists()
    ]
    return f"JSON Schema: {', '.join(links)}.\n" if links else ""
