"""How many columns a text takes on a terminal: some characters take two, some none."""

from __future__ import annotations


def width_of(text: str) -> int:
    """Columns of one line without escapes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def fitted(text: str, columns: int) -> str:
    """The beginning of `text` that takes at most so many columns."""
    if text.isascii():
        return text[: max(columns, 0)]
    left = columns
    for at, character in enumerate(text):
        left -= _cells(character)
        if left < 0:
            return text[:at]
    return text


def _cells(character: str) -> int:
    from unicodedata import category, east_asian_width

    if category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if east_asian_width(character) in "WF" else 1
