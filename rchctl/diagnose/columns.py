"""Columns as editors count them: UTF-16 code units, where compilers count bytes of UTF-8."""

from __future__ import annotations

from rchctl.diagnose.finding import Finding


def units(text: str) -> int:
    """How many UTF-16 code units `text` takes."""
    return sum(2 if ord(char) > 0xFFFF else 1 for char in text)


def span(finding: Finding) -> tuple[int, int]:
    """Begin and end of what a finding is about, from 0, in its line: the word that stands there.

    Without a column it is the line without its indent; without the line's text, nothing but the place.
    """
    text = None if finding.place is None else finding.place.text
    if text is None:
        start = (finding.column or 1) - 1
        return start, start
    if finding.column is None:
        bare = text.strip()
        start = units(text[: text.find(bare)]) if bare else 0
        return start, start + units(bare)
    before = text.encode("utf-8", "replace")[: finding.column - 1].decode("utf-8", "ignore")
    word = _word(text[len(before) :])
    start = units(before)
    return start, start + units(word)


def _word(rest: str) -> str:
    """The identifier at the beginning of `rest`, or its first character."""
    for at, char in enumerate(rest):
        if not (char.isalnum() or char == "_"):
            return rest[: max(at, 1)]
    return rest
