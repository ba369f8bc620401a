"""What stands in the pages of docs/: blocks of code with their language, and commands in prose."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).parents[2]
DOCS = REPO / "docs"
PROGRAMS = frozenset({"rchctl", "rchd", "rch-worker"})
_BLOCK = re.compile(r"^(`{3,})([\w-]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")


class Block(NamedTuple):
    """A block of code."""

    language: str
    text: str


def hand_written() -> list[Path]:
    """Every page that somebody wrote, the README among them."""
    return [
        REPO / "README.md",
        *sorted(DOCS.glob("*.md")),
        *sorted((DOCS / "decisions").glob("*.md")),
        *sorted((DOCS / "editors").glob("*.md")),
    ]


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page, of these languages if any are named."""
    found = (Block(match[2], match[3]) for match in _BLOCK.finditer(page.read_text(encoding="utf-8")))
    return [block for block in found if not languages or block.language in languages]


def commands(page: Path) -> Iterator[list[str]]:
    """Calls of our programs in shell blocks and in spans of code, each as its words."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "sh", "bash", "console") for line in block.text.splitlines()]
    lines += [" ".join(span.split()) for span in _SPAN.findall(_BLOCK.sub("", text))]
    for line in lines:
        yield from _calls(line.removeprefix("$ "))


def _calls(line: str) -> Iterator[list[str]]:
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:  # a quote that the next line ends: no call of ours is written so
        return
    call: list[str] | None = None
    for word in [*words, ";"]:
        if word and set(word) <= set("|&;<>()"):
            if call is not None:
                yield call
            call = None
        elif call is not None:
            call.append(word)
        elif word.rpartition("/")[2] in PROGRAMS:
            call = [word.rpartition("/")[2]]
        elif not re.fullmatch(r"[A-Za-z_]+=.*|env|\$|eval|\$", word):
            return
