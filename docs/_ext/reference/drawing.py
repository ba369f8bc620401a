"""Boxes and arrows as inline SVG: what a table says, at places that a grid gives. No tool is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import hypot
from typing import NamedTuple

BOX_WIDTH, BOX_HEIGHT = 138, 40
CELL_WIDTH, CELL_HEIGHT = 196, 104
MARGIN = 14
BEND_AWAY, BEND_PAST = 0.17, 0.26
"""How far an arrow is bent, in parts of its length: away from the one that comes back, past a box."""
HEAD = """\
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"\
 orient="auto-start-reverse"><path class="head" d="M0,0 L10,5 L0,10 z"/></marker></defs>"""


class Arrow(NamedTuple):
    """From one box to another, with a word on it."""

    start: str
    end: str
    label: str = ""


class Point(NamedTuple):
    """A place: columns and rows of the grid, or the picture's own units."""

    x: float
    y: float


Places = Mapping[str, tuple[float, float]]
"""The middle of each box by its name: column and row, from 0."""


def draw(title: str, places: Places, arrows: Sequence[Arrow], *, ends: frozenset[str] = frozenset()) -> str:
    """The picture as HTML; a box of `ends` has a thick border. An arrow leads to another box."""
    width = max(x for x, _ in places.values()) * CELL_WIDTH + BOX_WIDTH + 2 * MARGIN
    height = max(y for _, y in places.values()) * CELL_HEIGHT + BOX_HEIGHT + 2 * MARGIN
    pairs = {(each.start, each.end) for each in arrows}
    parts = [
        f'<div class="diagram"><svg viewBox="0 0 {width:g} {height:g}" role="img"',
        f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(title)}</title>",
        HEAD,
    ]
    for arrow in arrows:
        bend = BEND_AWAY if (arrow.end, arrow.start) in pairs else 0.0
        parts += _arrow(arrow, places, BEND_PAST if _is_blocked(arrow, places) else bend)
    for name, (x, y) in places.items():
        parts += _box(name, _middle(x, y), thick=name in ends)
    return "\n".join([*parts, "</svg></div>", ""])


def _is_blocked(arrow: Arrow, places: Places) -> bool:
    """Whether another box stands on the straight way of an arrow."""
    (x1, y1), (x2, y2) = places[arrow.start], places[arrow.end]
    length = hypot(x2 - x1, y2 - y1)
    for name, (x, y) in places.items():
        along = ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length**2
        aside = abs((x - x1) * (y2 - y1) - (y - y1) * (x2 - x1)) / length
        if name not in {arrow.start, arrow.end} and 0 < along < 1 and aside < 0.3:
            return True
    return False


def _middle(x: float, y: float) -> Point:
    return Point(MARGIN + x * CELL_WIDTH + BOX_WIDTH / 2, MARGIN + y * CELL_HEIGHT + BOX_HEIGHT / 2)


def _box(name: str, at: Point, *, thick: bool) -> list[str]:
    return [
        f'<rect class="box{" end" if thick else ""}" x="{at.x - BOX_WIDTH / 2:g}"',
        f'y="{at.y - BOX_HEIGHT / 2:g}" rx="7" width="{BOX_WIDTH}" height="{BOX_HEIGHT}"',
        f'stroke-width="{2.2 if thick else 1.1}"/>',
        f'<text x="{at.x:g}" y="{at.y + 4.5:g}" text-anchor="middle"',
        f'font-size="{11 if len(name) > 14 else 13}">{escape(name)}</text>',
    ]


def _arrow(arrow: Arrow, places: Places, bend: float) -> list[str]:
    start, end = _middle(*places[arrow.start]), _middle(*places[arrow.end])
    via = Point(
        (start.x + end.x) / 2 - (end.y - start.y) * bend, (start.y + end.y) / 2 + (end.x - start.x) * bend
    )
    first, last = _border(start, via), _border(end, via)
    way = f"M{first.x:.1f},{first.y:.1f} Q{via.x:.1f},{via.y:.1f} {last.x:.1f},{last.y:.1f}"
    line = f'<path class="edge" d="{way}" marker-end="url(#head)"/>'
    if not arrow.label:
        return [line]
    x, y = (first.x + 2 * via.x + last.x) / 4, (first.y + 2 * via.y + last.y) / 4 - 4
    return [
        line,
        f'<text class="label" x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="10.5">',
        f"{escape(arrow.label)}</text>",
    ]


def _border(middle: Point, towards: Point) -> Point:
    """Where the line from the middle of a box leaves it."""
    dx, dy = towards.x - middle.x, towards.y - middle.y
    across = BOX_WIDTH / 2 / abs(dx) if dx else 1.0
    down = BOX_HEIGHT / 2 / abs(dy) if dy else 1.0
    part = min(across, down, 1.0)
    return Point(middle.x + dx * part, middle.y + dy * part)
