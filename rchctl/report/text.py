"""Text from outside as a page may show it: seen, and without power over what stands around it."""

from __future__ import annotations

import re
import unicodedata

from rch.contract.odd_text import ESCAPES

_PLAIN = re.compile(r"[\n\t -~]*\Z")
# Joiners: words of some scripts and many pictures are made with them.
_JOINERS = "\u200c\u200d"
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def neutral(text: str) -> str:
    """`text` with its terminal escapes dropped, and what is unseen or turns direction spelled out.

    Controls, overrides of direction and halves of surrogates become `<U+202E>`; newlines and tabs stay.
    What comes out can be encoded as UTF-8. It is not escaped for HTML.
    """
    if _PLAIN.match(text):
        return text
    dropped = ESCAPES.sub("", text.replace("\r\n", "\n"))
    return "".join(_spelled(each) for each in dropped)


def neutral_line(text: object) -> str:
    """The same as one line."""
    return " ".join(neutral(str(text)).split())


def cut(text: str, most: int) -> str:
    """At most `most` characters, and a word about the rest."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most} characters more)"


def _spelled(character: str) -> str:
    if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"<U+{ord(character):04X}>"
