"""A run's slice as the file that is passed on: renamed, decided anew, checked, sealed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import combinations
from typing import Any

import msgspec

from rch.contract.decoding import decode_json
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.difference import shown
from rchd.core.share import ARTIFACTS, Names
from rchd.core.slices import Part, Slice
from rchd.core.transcript import Header, core_of, encode_line, sealed, take

_ROUNDS = 64
"""Each finds the keys of the jobs after those of the one before: more than a run has steps."""

Known = Iterable[tuple[str, str]]
Decided = list[list[fx.Effect]]

_EVENTS = tuple[ev.AnyEvent, ...]


class RenamedOtherwiseError(Exception):
    """Renamed, the history is another one: in that batch something else is decided."""


def exported(cut: Slice, run_id: str, header: Mapping[str, Any], known: Known, home: str) -> list[bytes]:
    """The lines of `cut` without the names in it; `header` has what its first line says beside that.

    `known`: kinds and names of this machine and its people, `home` their folder. One that is a word of the
    contract (`test`) is renamed by what stands around it alone: as few of them as can be.
    """
    names = tuple(known)
    for size in range(len(names), 0, -1):
        for some in combinations(names, size):
            with suppress(RenamedOtherwiseError, msgspec.ValidationError):
                return _exported(cut, run_id, header, some, home)
    return _exported(cut, run_id, header, (), home)


def _exported(cut: Slice, run_id: str, header: Mapping[str, Any], known: Known, home: str) -> list[bytes]:
    trees = [_tree(part) for part in cut.parts]
    names = Names(_places(cut, home), known)
    for tree in trees:
        names.learn(tree)
    names.settle()
    as_was = [_decided(part) for part in cut.parts]
    for _ in range(_ROUNDS):
        parts = [_part(names.clean(tree)) for tree in trees]
        anew = [_decided(part) for part in parts]
        pairs = [pair for then, now in zip(as_was, anew, strict=True) for pair in _keys(then, now)]
        if not names.keep_keys(pairs):
            break
    for then, now in zip(as_was, anew, strict=True):
        _check(then, now)
    return written(cut._replace(parts=tuple(parts)), run_id, header)


def written(cut: Slice, run_id: str, header: Mapping[str, Any]) -> list[bytes]:
    """The lines of `cut` as it is."""
    told = {"others": cut.others, "late": cut.late, "gaps": cut.gaps, "unended": not cut.ended}
    more = {"run_id": run_id, **{name: True for name, is_so in told.items() if is_so}, **header}
    lines = list[bytes]()
    for number, part in enumerate(cut.parts):
        head = msgspec.structs.replace(part.header, **more) if number == 0 else part.header
        lines.append(encode_line(head))
        lines += [
            _line(events, effects) for events, effects in zip(part.batches, _decided(part), strict=True)
        ]
    return sealed(lines)


def _line(events: Iterable[ev.Event], effects: Iterable[fx.Effect]) -> bytes:
    told = {"events": list(events), "effects": [msgspec.Raw(shown(effect)) for effect in effects]}
    return msgspec.json.encode(told) + b"\n"


def _tree(part: Part) -> Any:
    return msgspec.to_builtins([part.header, part.batches])


def _part(tree: Any) -> Part:
    header, batches = tree
    return Part(msgspec.convert(header, Header), tuple(msgspec.convert(batches, list[_EVENTS])))


def _decided(part: Part) -> Decided:
    """What a core decides that the part is played to."""
    header = decode_json(msgspec.json.encode(part.header), Header)  # a core moves its runs
    core = core_of(header)
    return [take(core, events) for events in part.batches]


def _places(cut: Slice, home: str) -> dict[str, str]:
    """The folders that everybody knows what they are."""
    runs = [run.accepted for part in cut.parts for run in part.header.runs]
    events = (event for part in cut.parts for batch in part.batches for event in batch)
    runs += [event.accepted for event in events if isinstance(event, ev.RunAccepted)]
    roots = sorted({accepted.root for accepted in runs} - {"/"})
    places = {home: "/home/user"} if len(home) > 1 else {}
    places |= {root: f"/project-{number}" for number, root in enumerate(roots, 1)}
    return places | {part.header.artifacts: ARTIFACTS for part in cut.parts}


def _keys(then: Decided, now: Decided) -> Iterator[tuple[str, str]]:
    """Each job's key, and what it is with the new names."""
    old, new = dict(_submitted(then)), dict(_submitted(now))
    for job in old.keys() & new.keys():
        yield old[job], new[job]


def _submitted(decided: Decided) -> Iterator[tuple[str, str]]:
    for effects in decided:
        for effect in effects:
            if isinstance(effect, fx.Submit | fx.Fetch):
                yield effect.job.job_id, effect.job.job_key or ""


def _check(then: Decided, now: Decided) -> None:
    for number, (one, other) in enumerate(zip(then, now, strict=True), 1):
        if _steps(one) != _steps(other):
            raise RenamedOtherwiseError(f"batch {number}")


def _steps(effects: Iterable[fx.Effect]) -> list[tuple[object, ...]]:
    """All but the records: one in which the core has quoted a text may be written once more."""
    return [_bones(effect) for effect in effects if not isinstance(effect, fx.WriteRecord)]


def _bones(effect: fx.Effect) -> tuple[object, ...]:
    """What of an effect no name has a part in."""
    view = getattr(effect, "view", None)
    told = () if view is None else (view.state, view.exit_code)
    members = (getattr(effect, each, None) for each in ("run_id", "op", "seconds", "seq", "path", "type"))
    return (type(effect), *members, *told)
