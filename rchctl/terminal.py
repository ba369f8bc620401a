"""What may reach a terminal: text from outside loses its control over it.

Names, messages and log lines come from a checkout, a compiler or another machine. Escape
sequences, control characters and direction overrides in them are dropped.
"""

from __future__ import annotations

import codecs
import re

# A cursor sequence, a string sequence (OSC, DCS, APC, PM, SOS) up to its end, and a short one;
# the first two also in their one-character forms.
_CURSOR = r"(?:\x1b\[|\x9b)[0-?]*[ -/]*"
_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*"
_SHORT = r"\x1b[ -/]*"
ESCAPES = re.compile(rf"{_CURSOR}[@-~]|{_STRING}(?:\x07|\x1b\\|\x9c)|{_SHORT}[0-~]")
"""Terminal escape sequences, each as a whole."""
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_RETURNS = re.compile(r"\r+\n|\r")
# A sequence that has begun and may end in the next piece of the log.
_UNFINISHED = re.compile(rf"(?:{_CURSOR}|{_STRING}\x1b?|{_SHORT}|\r+)\Z")
_LONGEST_CARRY = 4096


def strip_escapes(text: str) -> str:
    """`text` without anything that moves a cursor, sets a title or turns direction; newlines stay."""
    return _CONTROLS.sub("", _RETURNS.sub("\n", ESCAPES.sub("", text)))


def one_line(text: object) -> str:
    """A name or message from outside, as one harmless line."""
    return " ".join(strip_escapes(str(text)).split("\n")).replace("\t", " ").strip()


class LogFilter:
    """The same for a stream of bytes, whose pieces may cut characters and sequences."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._carry = ""

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """What of `data` may be shown now."""
        text = self._carry + self._decoder.decode(data, last)
        self._carry = ""
        if not last and (cut := _UNFINISHED.search(text)) and len(cut.group()) <= _LONGEST_CARRY:
            text, self._carry = text[: cut.start()], cut.group()
        return strip_escapes(text)
