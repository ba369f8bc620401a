"""Reads the old property lists that Xcode writes its projects in."""

from __future__ import annotations

import re
from typing import TypeAlias

Plist: TypeAlias = "str | list[Plist] | dict[str, Plist]"
"""A text, a list or a table."""

_TOKEN = re.compile(
    r'\s+|/\*.*?\*/|//[^\n]*|(?P<sign>[{}()=;,])|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[\w./$:@+-]+)',
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_PLAIN = {"n": "\n", "t": "\t", "r": "\r"}
_MAX_DEPTH = 64


class PlistError(ValueError):
    """What is no property list; says at which character."""


def parse(text: str) -> Plist:
    """The tree of a property list in the old form; `PlistError` on anything else."""
    reader = _Reader(list(_tokens(text)))
    tree = reader.value(0)
    if reader.peek() is not None:
        raise PlistError(f"something follows its end: {reader.peek()!r}")
    return tree


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise PlistError(f"unexpected {text[at]!r} at character {at}")
        at = match.end()
        if match["sign"]:
            found.append(("sign", match["sign"]))
        elif match["word"]:
            found.append(("text", match["word"]))
        elif match["quoted"] is not None:
            found.append(("text", _ESCAPE.sub(lambda one: _PLAIN.get(one[1], one[1]), match["quoted"])))
    return found


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> tuple[str, str] | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def value(self, depth: int) -> Plist:
        if depth > _MAX_DEPTH:
            raise PlistError("it is too deep")
        kind, text = self._next()
        if kind == "text":
            return text
        if text == "{":
            return self._table(depth)
        if text == "(":
            return self._list(depth)
        raise PlistError(f"unexpected {text!r}")

    def _table(self, depth: int) -> Plist:
        table: dict[str, Plist] = {}
        while self.peek() != ("sign", "}"):
            kind, key = self._next()
            if kind != "text":
                raise PlistError(f"{key!r} is no key")
            self._expect("=")
            table[key] = self.value(depth + 1)
            self._expect(";")
        self._next()
        return table

    def _list(self, depth: int) -> Plist:
        items: list[Plist] = []
        while self.peek() != ("sign", ")"):
            items.append(self.value(depth + 1))
            if self.peek() != ("sign", ")"):
                self._expect(",")
        self._next()
        return items

    def _next(self) -> tuple[str, str]:
        token = self.peek()
        if token is None:
            raise PlistError("it is cut short")
        self._at += 1
        return token

    def _expect(self, sign: str) -> None:
        if self._next() != ("sign", sign):
            raise PlistError(f"{sign!r} is missing")
