"""A history of the core as JSON lines, and the loop that replays it.

The first line is a `Header`: what the core was made from. Every other line is one batch of
the driver: `{"events": [...], "effects": [...]}`, or another header, where a daemon was started anew.
Nothing but events moves the core, so the same events give the same effects to the byte, or the core
has changed. In an exported transcript (`rchd.core.share`) effects stand as people read them, and the
header holds a digest of the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Protocol

import msgspec
from msgspec import UNSET, UnsetType

from rch.contract.decoding import decode_json
from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.core.difference import Difference, shown
from rchd.core.origin import Origin

SCHEMA = "rch-xcode/transcript@1"
MOST_RUNS = 5000
"""In the headers of one transcript, all together: seconds of a replay."""
_NO_DIGEST = "0" * 64
_HEADER_BEGINS = b'{"schema_id"'


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: the artifacts' root and the runs that were loaded. `comment` is free text.

    `origin`: what else the core remembered then. `continued`: it goes on with the history of the file
    before, and its runs stand as they stood at that one's end. `version` is that of who recorded it.
    An exported one is of `run_id`, has `sha256`, a digest of the whole file with zeros in its place, and
    with `others` tells of the runs beside it too. It is part of the run's history alone where it begins
    after the run was accepted (`late`), lacks something in its midst (`gaps`; of a file of the daemon: just
    before it), or does not reach the run's end (`unended`).
    """

    schema_id: str = SCHEMA
    comment: str = ""
    artifacts: str
    last_seq: int
    runs: tuple[m.Run, ...]
    version: str | UnsetType = UNSET
    origin: Origin | UnsetType = UNSET
    continued: bool | UnsetType = UNSET
    run_id: str | UnsetType = UNSET
    others: bool | UnsetType = UNSET
    late: bool | UnsetType = UNSET
    gaps: bool | UnsetType = UNSET
    unended: bool | UnsetType = UNSET
    sha256: str | UnsetType = UNSET


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Events that were taken together, and the bytes of each effect they gave."""

    events: tuple[ev.AnyEvent, ...]
    effects: tuple[msgspec.Raw, ...]


class _Head(msgspec.Struct):
    schema_id: str


def header_of(core: Core, comment: str = "", version: str | UnsetType = UNSET) -> Header:
    """The header of a transcript of `core`, as it stands before its next event."""
    origin = core.origin
    return Header(
        comment=comment,
        artifacts=core.artifacts,
        last_seq=core.seq,
        runs=tuple(core.runs.values()),
        version=version,
        origin=UNSET if origin == Origin() or core.runs else origin,
    )


def standing_header(core: Core, version: str | UnsetType = UNSET) -> Header | None:
    """A header in the midst of the live runs of `core`; None where a core that begins with it is not equal.

    It holds copies, so that it stays what it is.
    """
    header = msgspec.structs.replace(header_of(core, version=version), origin=core.standing)
    copied = decode_json(msgspec.json.encode(header), Header)
    if core.is_asking or core_of(decode_json(msgspec.json.encode(header), Header)).memory != core.memory:
        return None
    return copied


def encode_header(core: Core, comment: str = "", version: str | UnsetType = UNSET) -> bytes:
    """`header_of` as a line."""
    return encode_line(header_of(core, comment, version))


def encode_line(header: Header) -> bytes:
    """A header as a line."""
    return msgspec.json.encode(header) + b"\n"


def decode_header(line: bytes) -> Header:
    """Raises `ValueError` where the line is no header of this schema; of another, both are named."""
    found = decode_json(line, _Head).schema_id
    if found != SCHEMA:
        raise ValueError(f"schema {found} found where {SCHEMA} is read")
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


def is_header(line: bytes) -> bool:
    """Whether a line begins a history rather than going on with it."""
    return line.startswith(_HEADER_BEGINS)


def core_of(header: Header) -> Core:
    """The core that a history begins with."""
    origin = None if header.origin is UNSET else header.origin
    return Core(header.artifacts, header.runs, header.last_seq, origin)


def sealed(lines: list[bytes]) -> list[bytes]:
    """The lines of an exported transcript with the digest in its header."""
    head = msgspec.structs.replace(decode_header(lines[0]), sha256=_NO_DIGEST)
    lines = [encode_line(head), *lines[1:]]
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    return [encode_line(msgspec.structs.replace(head, sha256=digest)), *lines[1:]]


def damage_of(lines: Iterable[bytes]) -> str | None:
    """Why these are not the bytes that were exported; None too where nothing was promised of them."""
    lines = iter(lines)
    first = next(lines, b"")
    try:
        header = decode_header(first)
    except ValueError:
        return None
    said = header.sha256
    if said is UNSET:
        of_a_run = header.run_id is not UNSET
        return f"it is of run {header.run_id}, and its first line has no sha256" if of_a_run else None
    digest = hashlib.sha256(first.replace(f'"sha256":"{said}"'.encode(), _SLOT, 1))
    for line in lines:
        digest.update(line)
    if digest.hexdigest() == said:
        return None
    return f"its content has the SHA-256 {digest.hexdigest()}, its first line says {said}: it was changed"


_SLOT = f'"sha256":"{_NO_DIGEST}"'.encode()


class Replay:
    """Iterating drives a fresh core through `lines` and gives every difference.

    A damaged line ends it. A last line without its newline that does not decode was cut by
    the end of the recorder: `cut` is its number, and it is no difference. `batches` counts
    what was replayed so far. `told`, where given, is handed the events and effects of each batch.
    """

    def __init__(self, lines: Iterable[bytes], told: Told | None = None) -> None:
        self._lines = iter(lines)
        self._told = told
        self._readable = False
        self._runs = 0
        self.header: Header | None = None
        self.batches = 0
        self.cut: int | None = None

    def __iter__(self) -> Iterator[Difference]:
        core: Core | None = None
        number = 0
        for number, line in enumerate(self._lines, 1):
            try:
                if core is None or is_header(line):
                    core = self._begin(line)
                    continue
                batch = decode_batch(line)
            except ValueError as error:
                if core is None:
                    yield Difference(
                        line=number, batch=0, damage=f"no header of {SCHEMA}: {error}", unreadable=True
                    )
                elif line.endswith(b"\n"):
                    damage = f"cut or damaged: {error}"
                    yield Difference(line=number, batch=self.batches + 1, damage=damage, unreadable=True)
                else:
                    self.cut = number
                return
            try:
                replayed = take(core, batch.events)
            except Exception as error:  # noqa: BLE001  (whatever the core raises is what is to be found)
                damage = f"the core raises {type(error).__name__}: {error}"
                yield Difference(line=number, batch=self.batches + 1, damage=damage)
                return
            self.batches += 1
            found = list(self._differences(number, batch.effects, replayed))
            if self._told is not None:
                self._told(batch.events, replayed, found)
            yield from found
        if number == 0:
            yield Difference(
                line=1, batch=0, damage=f"no header of {SCHEMA}: the file is empty", unreadable=True
            )

    def _begin(self, line: bytes) -> Core:
        header = decode_header(line)
        self._runs += len(header.runs)
        if self._runs > MOST_RUNS:
            raise ValueError(f"it begins with {self._runs} live runs, over {MOST_RUNS}")
        self.header = self.header or header
        self._readable = self.header.run_id is not UNSET
        return core_of(header)

    def _differences(
        self, line: int, recorded: Iterable[msgspec.Raw], replayed: list[fx.Effect]
    ) -> Iterator[Difference]:
        write = shown if self._readable else msgspec.json.encode
        pairs = zip_longest(map(bytes, recorded), map(write, replayed))
        for index, (then, now) in enumerate(pairs, 1):
            if then != now:
                yield Difference(line=line, batch=self.batches, effect=index, recorded=then, replayed=now)


class Told(Protocol):
    """Who looks on while a transcript is replayed."""

    def __call__(
        self, events: tuple[ev.AnyEvent, ...], effects: list[fx.Effect], found: list[Difference], /
    ) -> None:
        """One batch was replayed."""


def take(core: Core, events: Iterable[ev.Event]) -> list[fx.Effect]:
    """The effects of one batch, after which ended runs are forgotten, as the driver does."""
    effects = [effect for event in events for effect in core.handle(event)]
    for run in core.take_dirty():
        if is_terminal(run.state):
            core.forget(run.run_id)
    return effects
