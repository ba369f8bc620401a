"""A history of the core as JSON lines, and the loop that replays it.

The first line is a `Header`: what the core was made from. Every other line is one batch of
the driver: `{"events": [...], "effects": [...]}`. Nothing but events moves the core, so the
same events give the same effects to the byte, or the core has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Literal

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core

SCHEMA: Literal["rch-xcode/transcript@1"] = "rch-xcode/transcript@1"

_LEAD, _REST = 60, 180  # bytes shown before and after the first byte that differs


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: the artifacts' root and the runs that were loaded. `comment` is free text."""

    schema_id: Literal["rch-xcode/transcript@1"] = SCHEMA
    comment: str = ""
    artifacts: str
    last_seq: int
    runs: tuple[m.Run, ...]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Events that were taken together, and the bytes of each effect they gave."""

    events: tuple[ev.AnyEvent, ...]
    effects: tuple[msgspec.Raw, ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a replay leaves the transcript: at `line` (1 is the header), in `batch` (from 1).

    Either the bytes of effect `effect` (from 1) differ, null where one side has none, or
    `damage` says why nothing can be replayed from this line on.
    """

    line: int
    batch: int
    effect: int | None = None
    recorded: bytes | None = None
    replayed: bytes | None = None
    damage: str | None = None

    def __str__(self) -> str:
        if self.damage is not None:
            return f"line {self.line}: {self.damage}"
        recorded, replayed = _shown(self.recorded), _shown(self.replayed)
        start = max(0, _common(recorded, replayed) - _LEAD)
        return (
            f"line {self.line}: batch {self.batch}, effect {self.effect} differs\n"
            f"  recorded: {_excerpt(recorded, start)}\n"
            f"  replayed: {_excerpt(replayed, start)}"
        )


def encode_header(core: Core, comment: str = "") -> bytes:
    """The first line of a transcript of `core`, as it stands before its first event."""
    header = Header(
        comment=comment, artifacts=core.artifacts, last_seq=core.seq, runs=tuple(core.runs.values())
    )
    return msgspec.json.encode(header) + b"\n"


def decode_header(line: bytes) -> Header:
    """Raises `ValueError` where the line is no header of this schema."""
    return decode_json(line, Header)


def encode_batch(events: Iterable[ev.Event], effects: Iterable[fx.Effect]) -> bytes:
    """One batch as one line."""
    return msgspec.json.encode({"events": list(events), "effects": list(effects)}) + b"\n"


def decode_batch(line: bytes) -> Batch:
    """Raises `ValueError` where the line is no batch of these vocabularies."""
    return decode_json(line, Batch)


def decode_effect(data: bytes) -> fx.AnyEffect:
    """Raises `ValueError` where the bytes are no effect."""
    effect: fx.AnyEffect = decode_json(data, fx.AnyEffect)
    return effect


class Replay:
    """Iterating drives a fresh core through `lines` and gives every difference.

    A damaged line ends it. A last line without its newline that does not decode was cut by
    the end of the recorder: `cut` is its number, and it is no difference. `batches` counts
    what was replayed so far.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self.batches = 0
        self.cut: int | None = None

    def __iter__(self) -> Iterator[Difference]:
        try:
            header = decode_header(next(self._lines, b""))
        except ValueError as error:
            yield Difference(line=1, batch=0, damage=f"no header of {SCHEMA}: {error}")
            return
        core = Core(header.artifacts, header.runs, last_seq=header.last_seq)
        for number, line in enumerate(self._lines, 2):
            try:
                batch = decode_batch(line)
            except ValueError as error:
                if line.endswith(b"\n"):
                    yield Difference(line=number, batch=number - 1, damage=f"cut or damaged: {error}")
                else:
                    self.cut = number
                return
            try:
                replayed = _take(core, batch.events)
            except Exception as error:  # noqa: BLE001  (whatever the core raises is what is to be found)
                damage = f"the core raises {type(error).__name__}: {error}"
                yield Difference(line=number, batch=number - 1, damage=damage)
                return
            self.batches += 1
            yield from _differences(number, batch.effects, replayed)


def _take(core: Core, events: Iterable[ev.AnyEvent]) -> list[bytes]:
    """The encoded effects of one batch, after which ended runs are forgotten, as the driver does."""
    effects = [effect for event in events for effect in core.handle(event)]
    encoded = [msgspec.json.encode(effect) for effect in effects]
    for run in core.take_dirty():
        if is_terminal(run.state):
            core.forget(run.run_id)
    return encoded


def _differences(line: int, recorded: Iterable[msgspec.Raw], replayed: list[bytes]) -> Iterator[Difference]:
    for index, (then, now) in enumerate(zip_longest(map(bytes, recorded), replayed), 1):
        if then != now:
            yield Difference(line=line, batch=line - 1, effect=index, recorded=then, replayed=now)


def _shown(data: bytes | None) -> bytes:
    """An effect for the eye: a record is shown as its text, not in base64."""
    if data is None:
        return b"no such effect"
    try:
        effect = decode_effect(data)
    except ValueError:
        return data
    if isinstance(effect, fx.WriteRecord):
        return f"WriteRecord {effect.path} ".encode() + effect.data
    return type(effect).__name__.encode() + b" " + data


def _common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _excerpt(data: bytes, start: int) -> str:
    kind = data.split(b" ", 1)[0].decode(errors="replace")
    text = data[start : start + _LEAD + _REST].decode(errors="replace").replace("\n", "\\n")
    return f"{kind} …{text}" if start else text
