"""Source lines beside a message: from the local file, and only while it is the one that was verified."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rch.contract.records import SourceEntry, SourceManifest
from rch.contract.redact import REDACTED, holds_secret
from rch.files.regular import open_regular
from rchctl.amounts import counted

MOST = 200
"""So many places are shown with their source; more make the page heavy."""
_MAX_BYTES = 4 << 20
_AROUND = 3
_WIDTH = 240
_KEY_BEGINS = "PRIVATE KEY-----"
_KEY_ENDS = "-----END"
# A header, or a word of its alphabet, as it may stand in a literal.
_KEY_LINE = re.compile(r"[ \t]*(?:[A-Za-z-]{1,20}: .{0,200}|[\"'+ ]{0,4}[A-Za-z0-9+/=\\]*[\"'+,; ]{0,6})")


@dataclass(frozen=True, slots=True)
class Line:
    """One source line. `caret` stands below it: spaces and a sign at the column."""

    number: int
    text: str
    hit: bool = False
    caret: str = ""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The lines around a place, or a note that says why there are none."""

    lines: tuple[Line, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message points, relative to the root of the source."""

    path: str
    line: int
    column: int | None = None


class Sources:
    """The files of one root, held to the digests of the run's source manifest."""

    def __init__(self, root: Path | None, manifest: SourceManifest | None) -> None:
        self._root = root
        self._entries: Mapping[str, SourceEntry] = (
            {} if manifest is None else {each.path: each for each in manifest.entries}
        )
        self._lines: dict[str, list[str] | str] = {}
        self._given = 0

    def excerpt(self, place: Place) -> Excerpt:
        """The lines around `place`."""
        if self._given >= MOST:
            return Excerpt(note=f"no excerpt: the first {MOST} places have one")
        self._given += 1
        lines = self._lines.setdefault(place.path, self._read(place.path))
        if isinstance(lines, str):
            return Excerpt(note=lines)
        if not 0 < place.line <= len(lines):
            return Excerpt(note=f"the file has {counted(len(lines), 'line')}")
        return Excerpt(lines=around(lines, place))

    def _read(self, path: str) -> list[str] | str:
        """The lines of the file, or why they are not to be had."""
        entry = self._entries.get(path)
        if self._root is None or entry is None or entry.type != "file":
            return "no excerpt: the file is not in the source of this run"
        if entry.size > _MAX_BYTES:
            return "no excerpt: the file is too large"
        try:
            with open_regular(self._root / path) as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError:
            return "no excerpt: the file is not there any more"
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            return "no excerpt: the file has changed since this run"
        return _without_keys(data.decode("utf-8", "replace").splitlines())


def _without_keys(lines: list[str]) -> list[str]:
    """The lines, with `[REDACTED]` for those of a private key: alone, they have no look of their own."""
    found, inside = [], False
    for line in lines:
        ends = inside and _KEY_ENDS in line
        inside = (_KEY_BEGINS in line and holds_secret(line)) or (
            inside and not ends and bool(_KEY_LINE.fullmatch(line))
        )
        found.append(REDACTED if inside or ends else line)
        inside = inside and _KEY_ENDS not in line
    return found


def around(lines: list[str], place: Place) -> tuple[Line, ...]:
    """The line of `place` and a few before and after it, none wider than the page takes. Pure."""
    first, last = max(1, place.line - _AROUND), min(len(lines), place.line + _AROUND)
    found = []
    for number in range(first, last + 1):
        text = lines[number - 1]
        hit = number == place.line
        caret = ""
        if hit and place.column is not None and 0 < place.column <= min(len(text) + 1, _WIDTH):
            # Tabs stay, so that the sign stands where the eye looks for it.
            caret = "".join("\t" if each == "\t" else " " for each in text[: place.column - 1]) + "^"
        found.append(Line(number, text[:_WIDTH] + ("…" if len(text) > _WIDTH else ""), hit, caret))
    return tuple(found)
