"""In which line of a TOML file a key stands, for refusals that people act on (spec section 6).

The file has been read by `tomllib` before, which tells no places: this looks for headers and
keys alone, and a key that it cannot find has the line of the nearest table above it.
"""

from __future__ import annotations

import re
from collections import Counter

_HEADER = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(#.*)?$")
_PAIR = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_LONGEST_LINE = 1000  # in a longer one nobody looks for a place
_FENCES = ('"""', "'''")


def line_of(text: str, key: str) -> int | None:
    """The line, from 1, of a dotted key such as `actions.step[1].scheme`; None if none of it is there."""
    places = _places(text)
    while key:
        if key in places:
            return places[key]
        shorter = re.sub(r"(\[\d+\]|\.[^.\[\]]*)$", "", key)
        if shorter == key:
            return None
        key = shorter
    return None


def _places(text: str) -> dict[str, int]:
    """The first line of each key and of each table."""
    found: dict[str, int] = {}
    rows: Counter[str] = Counter()
    table, fence = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if fence:
            fence = "" if fence in line else fence
            continue
        if len(line) > _LONGEST_LINE:
            continue
        if header := _HEADER.match(line):
            table = _dotted(header[2])
            if header[1] == "[[":
                rows[table] += 1
                found.setdefault(table, number)
                table = f"{table}[{rows[table] - 1}]"
            found.setdefault(table, number)
        elif pair := _PAIR.match(line):
            key = f"{table}.{_dotted(pair[1])}" if table else _dotted(pair[1])
            found.setdefault(key, number)
            fence = next((each for each in _FENCES if line.count(each) % 2), "")
    return found


def _dotted(text: str) -> str:
    return ".".join(part.strip("\"'") for part in _PART.findall(text))
