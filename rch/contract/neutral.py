"""Text from outside, made harmless for what shows it: a terminal, XML and HTML, a CI's log (section 8).

Names, messages and log lines come from a checkout, a compiler or another machine. What a terminal
would obey is dropped here and nowhere else: control characters (C0, C1, DEL), the sequences that
ESC begins, marks that turn the direction of text around or take no room, and piles of accents. A
log loses its colours with the rest: colour can hide text as well.
"""

from __future__ import annotations

import codecs
import re

_PLAIN = re.compile(r"[\t\n -~]*\Z")
"""What most text is. What is not is looked at with `odd_text`, whose tables are dear to compile."""


class Neutral:
    """The filter for a stream, whose pieces may cut sequences; pieces make no difference to the whole."""

    def __init__(self) -> None:
        self._carry = ""
        self._returns = False
        self._marks = ""

    def feed(self, text: str, *, last: bool = False) -> str:
        """What of `text` may be shown now."""
        if not self._carry and not self._returns and _PLAIN.match(text):
            self._marks = "" if text else self._marks
            return text
        from rch.contract import odd_text as odd

        text = self._carry + text
        self._carry = ""
        if not last and (cut := odd.UNFINISHED.search(text)):
            text, self._carry = text[: cut.start()], cut.group()
        if not self._returns and not self._marks and not odd.ANYTHING.search(text):
            return text
        text = odd.DROPPED.sub("", odd.ESCAPES.sub("", text))
        text = odd.SURROGATES.sub("\ufffd", odd.SEPARATORS.sub(" ", text))
        return self._unpiled(self._returned(text, last=last))

    def _returned(self, text: str, *, last: bool) -> str:
        """Lines end in a newline alone; a return at the end waits for what comes."""
        if self._returns:
            text, self._returns = "\r" + text, False
        if not last and text.endswith("\r"):
            text, self._returns = text.rstrip("\r"), True
        from rch.contract.odd_text import RETURNS

        return RETURNS.sub("\n", text)

    def _unpiled(self, text: str) -> str:
        """No letter bears more than four marks."""
        from rch.contract.odd_text import LAST_MARKS, PILE

        whole = PILE.sub(r"\1", self._marks + text)
        new, found = whole[len(self._marks) :], LAST_MARKS.search(whole)
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
    if _PLAIN.match(text):
        return text
    from rch.contract.odd_text import NO_XML

    return NO_XML.sub(instead, text)


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
