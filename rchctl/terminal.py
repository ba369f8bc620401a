"""What may reach a terminal: text from outside loses its control over it.

The rules are those of `rch.contract.neutral`; here is what of it a client shows.
"""

from __future__ import annotations

import re

from rch.contract.neutral import NeutralBytes, neutral, one_line

__all__ = ["STYLES", "LogFilter", "neutral", "one_line", "screen"]

LogFilter = NeutralBytes

STYLES = {"good": "32", "bad": "31", "warn": "33", "dim": "2"}
"""The colours that this program gives text itself, by what they mean."""

_OWN = re.compile(rf"(\x1b\[(?:0|{'|'.join(STYLES.values())})m)")


def screen(text: str) -> str:
    """`text` as it may be written: harmless, but for the colours that this program gives itself.

    The last gate before a terminal; who makes a line of foreign words has used `one_line` for each.
    """
    if "\x1b" not in text:
        return neutral(text)
    return "".join(part if at % 2 else neutral(part) for at, part in enumerate(_OWN.split(text)))
