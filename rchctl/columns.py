"""Lists that suit the terminal: columns that give way in order, and go in order, until a line fits.

In a pipe nothing is cut and nothing left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rchctl.console import Console
from rchctl.terminal import one_line

_GAP = 2


class Column(NamedTuple):
    """One column. `least`: the characters it may be cut to, 0 for none; the first is cut first.

    `goes`: its place among those that are left out where there is no room, from 1; 0 stays.
    `plain`: what is cut is the beginning of it, without a mark: an id that can be typed.
    """

    head: str
    least: int = 0
    goes: int = 0
    plain: bool = False


def listing(columns: Sequence[Column], rows: Sequence[Sequence[str]], console: Console) -> str:
    """The heads and one line a row."""
    cells = [[column.head for column in columns], *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    shown = list(range(len(columns)))
    if console.out_is_terminal:
        shown, widths = _fitted(columns, widths, console.width)
    lines = [
        (" " * _GAP).join(
            _cut(row[at], widths[at], plain=columns[at].plain).ljust(widths[at]) for at in shown
        )
        for row in cells
    ]
    most = console.width if console.out_is_terminal else None
    return "".join(f"{_cut(line.rstrip(), most, plain=False)}\n" for line in lines)


def _fitted(columns: Sequence[Column], natural: Sequence[int], room: int) -> tuple[list[int], list[int]]:
    """Which columns are shown, and how wide each is."""
    widths, shown = list(natural), list(range(len(columns)))

    def over() -> int:
        return sum(widths[at] for at in shown) + _GAP * (len(shown) - 1) - room

    for at, column in enumerate(columns):
        if column.least and over() > 0:
            widths[at] = min(widths[at], max(widths[at] - over(), column.least))
    for at in sorted((at for at in shown if columns[at].goes), key=lambda at: columns[at].goes):
        if over() > 0:
            shown.remove(at)
    for at in reversed(shown):  # what went may have left room
        widths[at] += max(0, min(natural[at] - widths[at], -over()))
    return shown, widths


def _cut(text: str, width: int | None, *, plain: bool) -> str:
    if width is None or len(text) <= width:
        return text
    return text[:width] if plain else f"{text[: width - 1]}…"
