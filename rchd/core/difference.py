"""Where a replay leaves its transcript, for people: an excerpt, or a diff of the two effects."""

from __future__ import annotations

import difflib
import hashlib
from contextlib import suppress
from typing import Any

import msgspec

from rch.contract.decoding import decode_json
from rchd.core import effects as fx

_DIFF_LINES = 60
SHOWN_RECORD_BYTES = 4096
"""A longer record stands in an exported transcript by its digest alone."""
_LEAD, _REST = 60, 180  # bytes shown before and after the first byte that differs


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a replay leaves the transcript: at `line` (1 is the header), in `batch` (from 1).

    Either the bytes of effect `effect` (from 1) differ, null where one side has none, or
    `damage` says why nothing can be replayed from this line on; with `unreadable` it is the file's.
    """

    line: int
    batch: int
    effect: int | None = None
    recorded: bytes | None = None
    replayed: bytes | None = None
    damage: str | None = None
    unreadable: bool = False

    def __str__(self) -> str:
        if self.damage is not None:
            return f"line {self.line}: {self.damage}"
        recorded, replayed = _for_the_eye(self.recorded), _for_the_eye(self.replayed)
        start = max(0, _common(recorded, replayed) - _LEAD)
        return (
            f"line {self.line}: batch {self.batch}, effect {self.effect} differs\n"
            f"  recorded: {_excerpt(recorded, start)}\n"
            f"  replayed: {_excerpt(replayed, start)}"
        )

    def diff(self) -> list[str]:
        """The lines that differ, `-` as recorded and `+` as replayed; none where it is damage."""
        if self.damage is not None:
            return []
        then, now = _as_lines(self.recorded), _as_lines(self.replayed)
        lines = list(difflib.unified_diff(then, now, "recorded", "replayed", n=1, lineterm=""))
        more = len(lines) - _DIFF_LINES
        return [*lines[:_DIFF_LINES], f"… and {more} lines more"] if more > 0 else lines


def shown(effect: fx.Effect) -> bytes:
    """An effect as an exported transcript holds it: a record as its JSON, or by its digest alone."""
    if not isinstance(effect, fx.WriteRecord):
        return msgspec.json.encode(effect)
    told: dict[str, Any] = {
        "effect": "WriteRecord",
        "path": effect.path,
        "bytes": len(effect.data),
        "sha256": hashlib.sha256(effect.data).hexdigest(),
    }
    if len(effect.data) <= SHOWN_RECORD_BYTES:
        with suppress(msgspec.MsgspecError):
            told["record"] = msgspec.Raw(msgspec.json.format(effect.data, indent=-1))
    return msgspec.json.encode(told)


def _for_the_eye(data: bytes | None) -> bytes:
    """An effect for the eye: a record is shown as its text, not in base64."""
    if data is None:
        return b"no such effect"
    try:
        effect: fx.AnyEffect = decode_json(data, fx.AnyEffect)
    except ValueError:
        return data
    if isinstance(effect, fx.WriteRecord):
        return f"WriteRecord {effect.path} ".encode() + effect.data
    return type(effect).__name__.encode() + b" " + data


def _as_lines(data: bytes | None) -> list[str]:
    if data is None:
        return []
    try:
        effect: fx.AnyEffect = decode_json(data, fx.AnyEffect)
        text = shown(effect) if isinstance(effect, fx.WriteRecord) else data
    except ValueError:
        text = data
    with suppress(msgspec.MsgspecError):
        text = msgspec.json.format(text, indent=2)
    return text.decode(errors="replace").splitlines()


def _common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _excerpt(data: bytes, start: int) -> str:
    kind = data.split(b" ", 1)[0].decode(errors="replace")
    text = data[start : start + _LEAD + _REST].decode(errors="replace").replace("\n", "\\n")
    return f"{kind} …{text}" if start else text
