"""Boxes and arrows as inline SVG: what a table says, at places that a grid gives. No tool is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import hypot
from typing import NamedTuple

BOX_WIDTH, BOX_HEIGHT = 138, 40
CELL_WIDTH, CELL_HEIGHT = 196, 104
MARGIN = 14
BEND = 0.17
"""How far an arrow is bent away from the one that comes back, in parts of its length."""
LABEL = 0.36
"""Where on an arrow its word stands: nearer to its start, of which it tells."""
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


def draw(title: str, places: Places, arrows: Sequence[Arrow], *, ends: frozenset[str], air: int = 0) -> str:
    """The picture as HTML; a box of `ends` has a thick border. An arrow leads to another box.

    `air` is room above and below, for arrows that are bent.
    """
    width = max(x for x, _ in places.values()) * CELL_WIDTH + BOX_WIDTH + 2 * MARGIN
    height = max(y for _, y in places.values()) * CELL_HEIGHT + BOX_HEIGHT + 2 * MARGIN
    pairs = {(each.start, each.end) for each in arrows}
    parts = [
        f'<div class="diagram"><svg viewBox="0 {-air} {width:g} {height + 2 * air:g}"',
        f'role="img" aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(title)}</title>",
        HEAD,
    ]
    for arrow in arrows:
        bend = BEND if (arrow.end, arrow.start) in pairs else 0.0
        parts += _arrow(arrow, places, _past(arrow, places) or bend)
    for name, (x, y) in places.items():
        parts += _box(name, _middle(x, y), thick=name in ends)
    return "\n".join([*parts, "</svg></div>", ""])


def _past(arrow: Arrow, places: Places) -> float:
    """How far an arrow is bent to pass a box on its way; upwards it passes on the left, leftwards below."""
    (x1, y1), (x2, y2) = places[arrow.start], places[arrow.end]
    length = hypot(x2 - x1, y2 - y1)
    for name, (x, y) in places.items():
        along = ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length**2
        aside = abs((x - x1) * (y2 - y1) - (y - y1) * (x2 - x1)) / length
        if name not in {arrow.start, arrow.end} and 0 < along < 1 and aside < 0.3:
            across, down = (x2 - x1) * CELL_WIDTH, (y2 - y1) * CELL_HEIGHT
            way = hypot(across, down)
            room = (BOX_WIDTH * abs(down) + BOX_HEIGHT * abs(across)) / way / 2 + MARGIN
            return 2 * room / way * (-1 if x2 < x1 or y2 < y1 else 1)
    return 0.0


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
    near, mid, far = (1 - LABEL) ** 2, 2 * LABEL * (1 - LABEL), LABEL**2
    x = near * first.x + mid * via.x + far * last.x
    y = near * first.y + mid * via.y + far * last.y - 4
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
