"""One run's part of a history, cut out so that it replays by itself.

A daemon serves many runs at once, and records all of them. Of that the events of one run and those of
no run are kept, and played to a core that stands where the real one stood when the run was accepted.
Where that core decides for this run what the real one decided, the part is enough. Else others
had a say (a slot that they held, a place in the queue) and the part is all that happened between the
last moment without any run and the end of this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from rch.contract.decoding import decode_json
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.core.fleet import FLEET
from rchd.core.origin import Origin
from rchd.core.transcript import Batch, Header, core_of, header_of, take

Events = tuple[ev.AnyEvent, ...]


class Life(NamedTuple):
    """What one daemon recorded, from a header that says all on. `place` names each line."""

    header: Header
    batches: Sequence[Batch]
    places: Sequence[str]


class Part(NamedTuple):
    """What of a life belongs to the run: a core, and the batches of events that it is given."""

    header: Header
    batches: tuple[Events, ...]


class Slice(NamedTuple):
    """A run's history; with `others` that of runs beside it as well.

    `late`: it begins after the run was accepted; `gaps`: something between its beginning and its end was
    not recorded; `ended`: it is over at the end.
    """

    parts: tuple[Part, ...]
    others: bool
    ended: bool
    late: bool = False
    gaps: bool = False


class DecidedOtherwiseError(Exception):
    """This version does not decide as the one that recorded did; the text says where."""


def cut(lives: Iterable[Life], run_id: str) -> Slice | None:
    """The slice of `run_id`, or None where nothing tells of it."""
    seen = [view for life in lives if (view := _look(life, run_id)) is not None]
    if not seen:
        return None
    alone = tuple(view.alone for view in seen)
    enough = all(_decides_the_same(view, run_id) for view in seen)
    parts = alone if enough else tuple(view.whole for view in seen)
    return Slice(
        parts,
        others=not enough,
        ended=seen[-1].ended,
        late=seen[0].late,
        gaps=any(view.after_gap or view.header.last_seq != before.seq for before, view in pairwise(seen)),
    )


@dataclass
class _View:
    """A run within a life: by itself, and with all that happened since the core was last idle."""

    header: Header
    own: list[Events] = field(default_factory=list)
    decided: list[list[fx.Effect]] = field(default_factory=list)
    quiet: Header | None = None
    since: list[Events] = field(default_factory=list)
    ended: bool = False
    late: bool = False
    after_gap: bool = False
    """What was just before its beginning was not recorded, and its recorder knew that."""
    seq: int = 0
    """The number of the last news that it tells of."""

    @property
    def alone(self) -> Part:
        return Part(self.header, tuple(self.own))

    @property
    def whole(self) -> Part:
        return Part(self.quiet or self.header, tuple(self.since))


def _look(life: Life, run_id: str) -> _View | None:
    """Play a life again up to the run's end; `DecidedOtherwiseError` where it is not as recorded."""
    after_gap = life.header.gaps is True
    life = life._replace(header=msgspec.structs.replace(life.header, gaps=UNSET))
    core = core_of(_copied(life.header))
    loaded = core.runs.get(run_id)
    view: _View | None = None
    if loaded is not None:
        view = _View(_copied(_with_one(life.header, loaded)), late=True)
    quiet, since = _copied(life.header), list[Events]()
    for batch, place in zip(life.batches, life.places, strict=True):
        before = _before(core, batch.events, run_id) if view is None else None
        effects, start = before if before is not None else (take(core, batch.events), None)
        if [msgspec.json.encode(effect) for effect in effects] != [bytes(each) for each in batch.effects]:
            raise DecidedOtherwiseError(place)
        since.append(batch.events)
        if start is not None:
            view = _View(start)
        if view is not None:
            _note(view, batch.events, effects, run_id)
            if run_id not in core.runs:
                view.ended = True
                break
        elif core.is_idle:
            quiet, since = header_of(core, version=life.header.version), []
    if view is not None:
        view.quiet, view.since, view.seq, view.after_gap = quiet, since, core.seq, after_gap
    return view


def _with_one(header: Header, run: m.Run) -> Header:
    """A header that knows of this run alone."""
    origin = header.origin
    if not isinstance(origin, Origin) or origin.standing is None:
        return msgspec.structs.replace(header, runs=(run,))
    known = {run.run_id}
    standing = msgspec.structs.replace(
        origin.standing,
        waiting=tuple(each for each in origin.standing.waiting if each in known),
        written=tuple(each for each in origin.standing.written if each in known),
    )
    return msgspec.structs.replace(
        header, runs=(run,), origin=msgspec.structs.replace(origin, standing=standing)
    )


def _before(core: Core, events: Events, run_id: str) -> tuple[list[fx.Effect], Header] | None:
    """The effects of a batch that accepts the run, and a core that has all before that and no runs."""
    if not any(_accepts(event, run_id) for event in events):
        return None
    effects, start = list[fx.Effect](), None
    for event in events:
        if start is None and _accepts(event, run_id):
            start = Header(artifacts=core.artifacts, last_seq=core.seq, runs=(), origin=core.origin)
        effects += core.handle(event)
    take(core, ())
    assert start is not None  # noqa: S101  (one of them does)
    return effects, start


def _accepts(event: ev.AnyEvent, run_id: str) -> bool:
    return isinstance(event, ev.RunAccepted) and event.accepted.run_id == run_id


def _note(view: _View, events: Events, effects: Iterable[fx.Effect], run_id: str) -> None:
    """Keep what is this run's, or nobody's."""
    own = tuple(event for event in events if _is_own(event, run_id))
    told = [effect for effect in effects if _is_about(effect, run_id)]
    if own or told:
        view.own.append(own)
        view.decided.append(told)


def _is_own(event: ev.AnyEvent, run_id: str) -> bool:
    if isinstance(event, ev.RunAccepted):
        return event.accepted.run_id == run_id
    return not isinstance(event, ev.RunEvent) or event.run_id in {run_id, FLEET}


def _is_about(effect: fx.Effect, run_id: str) -> bool:
    match effect:
        case fx.WriteRecord(path=path):
            return path.startswith(f"{run_id}/")
        case fx.Reply(view=view):
            return view is not None and view.run_id == run_id
        case fx.Forget():
            return False
    return getattr(effect, "run_id", None) == run_id


def _decides_the_same(view: _View, run_id: str) -> bool:
    """Whether the run by itself comes to what it came to; the numbers of the news alone may differ."""
    return list(_by_itself(view, run_id)) == [
        [_bare(effect) for effect in effects] for effects in view.decided
    ]


def _by_itself(view: _View, run_id: str) -> Iterator[list[bytes]]:
    core = core_of(_copied(view.header))
    for events in view.own:
        yield [_bare(effect) for effect in take(core, events) if _is_about(effect, run_id)]


def _bare(effect: fx.Effect) -> bytes:
    if isinstance(effect, fx.Announce):
        effect = msgspec.structs.replace(effect, seq=0)
    return msgspec.json.encode(effect)


def _copied(header: Header) -> Header:
    """A header whose runs no core moves."""
    return decode_json(msgspec.json.encode(header), Header)
