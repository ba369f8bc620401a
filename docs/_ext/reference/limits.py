"""limits.md as the site shows it: what holds and what happens beyond; the tests' names lie folded below."""

from __future__ import annotations

from reference.markdown import table

_CELLS = 7
"""limit, value, unit, set in, one beyond, the test at the limit, the test one beyond it."""
_HEAD = ("limit", "value", "set in", "one beyond")


def limits_for_the_site(text: str) -> str:
    """The page with every table of seven columns as one of four and a list that opens on a click."""
    made: list[str] = []
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if len(cells) == _CELLS:
            rows.append(cells)
        elif not line.startswith("|---"):
            made += _shown(rows[1:])
            rows = []
            made.append(line)
        elif not rows:
            made.append(line)
    return "\n".join(made)


def _shown(rows: list[list[str]]) -> list[str]:
    """The table of these rows and the list of their tests, as lines; none of no rows."""
    if not rows:
        return []
    cells = [
        (limit, f"{value} {unit}".removesuffix(" -"), place, end)
        for limit, value, unit, place, end, _, _ in rows
    ]
    tests = [f"- {row[0]}: {' and '.join(dict.fromkeys(row[5:]))}" for row in rows]
    fold = "<details>\n<summary>The tests of these: at the limit, and one beyond it</summary>\n"
    return [table(_HEAD, cells), fold, *tests, "\n</details>"]
