"""Text from outside, made harmless for what shows it: a terminal, XML and HTML, a CI's log (section 8).

Names, messages and log lines come from a checkout, a compiler or another machine. What a terminal
would obey is dropped here and nowhere else: control characters (C0, C1, DEL), the sequences that
ESC begins, marks that turn the direction of text around or take no room, and piles of accents. A
log loses its colours with the rest: colour can hide text as well.
"""

from __future__ import annotations

import codecs
import re

# A cursor sequence, a string sequence (OSC, DCS, APC, PM, SOS) up to its end, and a short one;
# the first two also in their one-character forms. Each is bounded: what is longer is text, and
# loses its control characters alone, in however many pieces it comes.
_CURSOR = r"(?:\x1b\[|\x9b)[0-?]{0,256}[ -/]{0,16}"
_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\n\x90\x98\x9c-\x9f]{0,4096}"
_SHORT = r"\x1b[ -/]{0,16}"
ESCAPES = re.compile(rf"{_CURSOR}[@-~]|{_STRING}(?:\x07|\x1b\\|\x9c)|{_SHORT}[0-~]")
"""Terminal escape sequences, each as a whole."""
UNFINISHED = re.compile(rf"(?:{_CURSOR}|{_STRING}\x1b?|{_SHORT})\Z")
"""A sequence that has begun, and may end in the next piece."""
_STEERING = (
    "\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_CONTROLS = f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_STEERING}]"
_DROPPED = re.compile(_CONTROLS)
UNSHOWN = re.compile(f"(?:{ESCAPES.pattern}|{_CONTROLS})+")
"""What is dropped without anything in its place, so that what stands around it is shown as one."""
_SEPARATORS = re.compile("[\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_MARK = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f]"
_MOST_MARKS = 4  # on one letter: no writing needs more, and a pile of them covers other lines
_PILE = re.compile(f"({_MARK}{{{_MOST_MARKS}}}){_MARK}+")
_LAST_MARKS = re.compile(f"{_MARK}{{0,{_MOST_MARKS}}}\\Z")
_RETURNS = re.compile(r"\r+\n?")
# What most text has none of.
_ANYTHING = re.compile(
    f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u0300-\u036f{_STEERING}\u2028\u2029\ud800-\udfff]|{_MARK}"
)

_NO_XML = re.compile(
    f"[^\t\n\r\u0020-\u007e\u00a0-\u2027\u2030-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[{_STEERING}]"
)


class Neutral:
    """The filter for a stream, whose pieces may cut sequences; pieces make no difference to the whole."""

    def __init__(self) -> None:
        self._carry = ""
        self._returns = False
        self._marks = ""

    def feed(self, text: str, *, last: bool = False) -> str:
        """What of `text` may be shown now."""
        text = self._carry + text
        self._carry = ""
        if not last and (cut := UNFINISHED.search(text)):
            text, self._carry = text[: cut.start()], cut.group()
        if not self._returns and not self._marks and not _ANYTHING.search(text):
            self._marks = ""
            return text
        text = _DROPPED.sub("", ESCAPES.sub("", text))
        text = _SURROGATES.sub("\ufffd", _SEPARATORS.sub(" ", text))
        return self._unpiled(self._returned(text, last=last))

    def _returned(self, text: str, *, last: bool) -> str:
        """Lines end in a newline alone; a return at the end waits for what comes."""
        if self._returns:
            text, self._returns = "\r" + text, False
        if not last and text.endswith("\r"):
            text, self._returns = text.rstrip("\r"), True
        return _RETURNS.sub("\n", text)

    def _unpiled(self, text: str) -> str:
        """No letter bears more than four marks."""
        whole = _PILE.sub(r"\1", self._marks + text)
        new, found = whole[len(self._marks) :], _LAST_MARKS.search(whole)
        self._marks = found.group() if found else ""
        return new


class NeutralBytes:
    """The same for bytes of UTF-8, whose pieces may cut characters as well."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = Neutral()

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """What of `data` may be shown now."""
        return self._text.feed(self._decoder.decode(data, last), last=last)


def neutral(text: str) -> str:
    """`text` without anything that steers a terminal; of all controls newlines and tabs stay."""
    return Neutral().feed(text, last=True)


def one_line(text: object) -> str:
    """A name or message from outside, as one harmless line."""
    return " ".join(neutral(str(text)).split("\n")).replace("\t", " ").strip()


def for_markup(text: str, instead: str = "?") -> str:
    """Text that XML 1.0 and HTML can hold and that steers no terminal either; escaping comes after it.

    What has to go reads `instead`, so that two names do not become one in silence.
    """
    return _NO_XML.sub(instead, text)


def for_workflow(text: str) -> str:
    """Text as the message of a GitHub workflow command (`::error::…`): it cannot end its line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def for_workflow_property(text: str) -> str:
    """Text as a property of such a command (`::error file=…,title=…::`): it cannot end that either."""
    return for_workflow(text).replace(":", "%3A").replace(",", "%2C")


def unspoken(line: str) -> str:
    """A log line that a GitHub runner does not take for a command: `::` and `##[` do not begin it."""
    bare = line.lstrip()
    return f"\u00b7{line}" if bare.startswith("::") or "##[" in line else line
