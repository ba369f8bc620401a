"""Sources that are kept as what sets them apart from another one (feature `upload_thin`, section 5).

    sources/<sha256>.thin    a delta, and behind it a plan: in which order bytes of a base's tar and of
                             the delta make the source; made, synced and renamed as one file

The delta is the tar that was sent, and behind it what was carried over where its base was thin itself:
the base that a plan names is always stored whole, so that no chain is longer than one.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import BinaryIO, Literal

import msgspec

from rch.config.root import CONFIG_NAME
from rch.contract.tar import END, MAX_UNPACKED_BYTES
from rch.contract.tar_names import Names, TarError
from rch.contract.worker_rpc import Base, Code, RpcError
from worker_agent.source_check import MAX_ENTRIES
from worker_agent.source_index import Index, Segment, SourceMember, sealed, unsealed
from worker_agent.source_words import Facts, refused

MOST_DELTA_BYTES = 16 << 20
"""A source with a larger delta is stored whole."""
MOST_DELTA_SHARE = 4
"""So is one whose delta is over this part of its base: a quarter."""

_MAGIC = b"rchthin1"
_LENGTH_BYTES = 8
_TAIL_BYTES = _LENGTH_BYTES + len(_MAGIC)

Run = tuple[Literal[0, 1], Index]
"""Members that stand one after the other in the base's tar (0) or in the delta (1)."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a thin source is put together. `delta` says where each of its members stands there."""

    base_sha256: str
    base_size: int
    segments: tuple[Segment, ...]
    delta: Index
    facts: Facts


class Spliced(msgspec.Struct, frozen=True, kw_only=True):
    """A source made of a base and new members. `carried`: what of the base's own delta it takes over."""

    runs: tuple[Run, ...]
    segments: tuple[Segment, ...]
    carried: tuple[Segment, ...]
    delta_size: int


_PLAN = msgspec.msgpack.Decoder(Plan)


def encode_plan(plan: Plan) -> bytes:
    """What stands behind the delta."""
    data = sealed(msgspec.msgpack.encode(plan))
    return data + len(data).to_bytes(_LENGTH_BYTES, "big") + _MAGIC


def read_plan(file: BinaryIO) -> Plan:
    """The plan of an open `.thin` file; `msgspec.DecodeError` for anything else."""
    size = os.fstat(file.fileno()).st_size
    tail = os.pread(file.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    length = int.from_bytes(tail[:_LENGTH_BYTES], "big")
    if tail[_LENGTH_BYTES:] != _MAGIC or length > size - _TAIL_BYTES:
        raise msgspec.DecodeError("no plan stands at the end of the file")
    return _PLAN.decode(unsealed(os.pread(file.fileno(), length, size - _TAIL_BYTES - length)))


def is_small(delta_size: int, base_size: int) -> bool:
    """Whether a source with such a delta is stored as one."""
    return delta_size <= min(MOST_DELTA_BYTES, base_size // MOST_DELTA_SHARE)


def runs_of(full: Index, plan: Plan | None) -> tuple[Run, ...]:
    """Every member of a source in order, each with its place in its file; `full` is its base's index."""
    if plan is None:
        return ((0, full),) if full else ()
    known = (full, tuple(sorted(plan.delta, key=_offset)))
    found: list[Run] = []
    for segment in plan.segments:
        members = known[segment.file]
        first = bisect_left(members, segment.offset, key=_offset)
        last = bisect_left(members, segment.offset + segment.length, key=_offset)
        if last > first:
            found.append((segment.file, members[first:last]))
    return tuple(found)


def virtual(runs: Iterable[Run]) -> Index:
    """The same members, each where it stands in the tar that they make."""
    at, found = 0, list[SourceMember]()
    for _, members in runs:
        by = at - members[0].offset
        found.extend(member.moved(by) for member in members)
        at = members[-1].end + by
    return tuple(found)


def _offset(member: SourceMember) -> int:
    return member.offset


def _path(member: SourceMember) -> str:
    return member.path


def check_base(base: Base) -> None:
    """Refuse a list of removed names that is not in order, before anything is read."""
    for before, after in zip(base.removed, base.removed[1:], strict=False):
        if before >= after:
            raise RpcError(
                Code.INVALID_REQUEST, f"base.removed: {after[:200]!r} is out of order or comes twice"
            )


def splice(
    base: Iterable[Run], base_size: int, removed: Sequence[str], fresh: Index, fresh_size: int
) -> Spliced:
    """Put new members into a base. `fresh_size` is how long the tar is in which they came."""
    gone = frozenset(removed)
    for member in fresh:
        if member.path in gone:
            raise refused(f"base.removed: {member.path[:200]!r} is sent as well", "removed")
    changes: list[tuple[str, SourceMember | None]] = [(member.path, member) for member in fresh]
    changes += [(name, None) for name in removed]
    changes.sort(key=lambda change: change[0])
    made, at = _Made(fresh_size), 0
    for file, members in base:
        done = 0
        while at < len(changes) and changes[at][0] <= members[-1].path:
            name, change = changes[at]
            place = bisect_left(members, name, lo=done, key=_path)
            made.keep(file, members[done:place])
            done = place + (members[place].path == name)
            made.put(name, change, known=done > place)
            at += 1
        made.keep(file, members[done:])
    for name, change in changes[at:]:
        made.put(name, change, known=False)
    return made.end(base_size)


class _Made:
    """A source that is being put together, from its first name to its last."""

    def __init__(self, delta_size: int) -> None:
        self._runs: list[Run] = []
        self._segments, self._carried = _Stretches(), _Stretches()
        self._delta_size = delta_size

    def keep(self, file: Literal[0, 1], members: Index) -> None:
        """Members that the base has. Those of its own delta find a place at the end of the new one."""
        if not members:
            return
        if file == 1:
            self._carried.add(1, members[0].offset, members[-1].end)
            by = self._delta_size - members[0].offset
            members = tuple(member.moved(by) for member in members)
            self._delta_size = members[-1].end
        self._add(file, members)

    def put(self, name: str, member: SourceMember | None, *, known: bool) -> None:
        """A member that is new or changed, or None for one that is left out."""
        if member is not None:
            self._add(1, (member,))
        elif not known:
            raise refused(f"base.removed: {name[:200]!r} is not in the base", "removed")

    def end(self, base_size: int) -> Spliced:
        """All of it."""
        self._segments.add(0, base_size - len(END), base_size)
        return Spliced(
            runs=tuple(self._runs),
            segments=self._segments.all(),
            carried=self._carried.all(),
            delta_size=self._delta_size,
        )

    def _add(self, file: Literal[0, 1], members: Index) -> None:
        self._runs.append((file, members))
        self._segments.add(file, members[0].offset, members[-1].end)


class _Stretches:
    """Segments, each of which grows as long as the next piece follows it."""

    def __init__(self) -> None:
        self._done: list[Segment] = []

    def add(self, file: Literal[0, 1], start: int, end: int) -> None:
        last = self._done[-1] if self._done else None
        if last is not None and last.file == file and last.offset + last.length == start:
            self._done[-1] = Segment(file, last.offset, end - last.offset)
        else:
            self._done.append(Segment(file, start, end - start))

    def all(self) -> tuple[Segment, ...]:
        return tuple(self._done)


def check_whole(runs: Iterable[Run], config: bytes | None) -> Facts:
    """The facts of a source whose members have each been looked at; `TarError` where two do not fit.

    Every name stands among all others here, and every link is followed through all others.
    """
    names, top_level, entries, content = Names(), set(), 0, 0
    for _, members in runs:
        entries += len(members)
        for member in members:
            if member.target is None:
                names.add(member.path)
            else:
                names.add_link(member.path, member.target)
            top_level.add(member.path.partition("/")[0])
            content += member.size
    names.check_links()
    if entries > MAX_ENTRIES:
        raise TarError(f"more than {MAX_ENTRIES} entries")
    if names.folder_count > MAX_ENTRIES:
        raise TarError(f"more than {MAX_ENTRIES} folders")
    if content > MAX_UNPACKED_BYTES:
        raise TarError(f"more than {MAX_UNPACKED_BYTES} bytes of content")
    return Facts(config=config, top_level=tuple(sorted(top_level)), entries=entries, content_bytes=content)


def config_of(fresh: Index, sent: bytes | None, removed: Sequence[str], base: bytes | None) -> bytes | None:
    """The config of a spliced source: the one that was sent, none where it was removed, else its base's."""
    if CONFIG_NAME in removed or any(member.path == CONFIG_NAME for member in fresh):
        return sent
    return base


def members_of(runs: Iterable[Run], file: Literal[0, 1]) -> Index:
    """Those that stand in one of the two files."""
    return tuple(member for where, members in runs if where == file for member in members)
