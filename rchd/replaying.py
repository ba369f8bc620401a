"""`rchd replay` and `rchd transcript`: what a run's history holds, and how it is taken along."""

from __future__ import annotations

import argparse
import os
import sys
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import UNSET

from rch.contract.errors import Failure, Kind
from rch.contract.neutral import neutral, one_line
from rch.files.paths import host_paths
from rchd.core.difference import Difference
from rchd.core.phases import Phases
from rchd.core.transcript import Header, Replay, damage_of, decode_header
from rchd.edges.check_report import envelope, say_failure
from rchd.edges.transcript_file import lines_of, opened

DIFFERS, USAGE = 1, 2
STDOUT = "-"
MOST_DIFFERENCES = 1000
"""After so many a replay ends: it is another history."""
_SHORT = 16  # digits of the digest in the name of a file


def replay(args: argparse.Namespace) -> int:
    """0 where the core decides the same to the byte, 1 where not, 2 where `file` is no transcript."""
    path: Path = args.file
    phases = Phases()
    try:
        with opened(path) as file:
            _verify(file)
            run = Replay(lines_of(file), phases)
            found = list(islice(run, MOST_DIFFERENCES))
    except OSError as error:
        return _refused(args, f"{path}: {error.strerror}")
    except ValueError as error:
        return _refused(args, f"{path}: no transcript that this version reads: {error}")
    if found and found[-1].unreadable:
        return _refused(args, f"{path}: {found[-1]}")
    if args.json:
        envelope("replay", DIFFERS if found else 0, _as_json(run, phases, found), None)
        return DIFFERS if found else 0
    _say(path, run, phases, found)
    return DIFFERS if found else 0


def _verify(file: BinaryIO) -> None:
    """`ValueError` where it is not what was exported; then the file stands at its beginning."""
    damage = damage_of(lines_of(file))
    if damage is not None:
        raise ValueError(damage)
    file.seek(0)


def _refused(args: argparse.Namespace, message: str) -> int:
    failure = Failure(Kind.USAGE, message, hint="rchctl debug transcript RUN makes one")
    return say_failure("replay", failure, as_json=args.json)


def _as_json(run: Replay, phases: Phases, found: list[Difference]) -> dict[str, object]:
    header = run.header
    first = found[0] if found else None
    return {
        "identical": not found,
        "batches": run.batches,
        "run_id": None if header is None or header.run_id is UNSET else header.run_id,
        "comment": "" if header is None else header.comment,
        "notes": [] if header is None else _notes(header),
        "cut_line": run.cut,
        "phases": msgspec.to_builtins(phases.of),
        "differences": len(found),
        "difference": None
        if first is None
        else {"line": first.line, "effect": first.effect, "message": str(first), "diff": first.diff()},
    }


def _say(path: Path, run: Replay, phases: Phases, found: list[Difference]) -> None:
    out = list[str]()
    if run.header is not None and run.header.comment:
        out.append(one_line(run.header.comment))
    out += [f"note: {note}" for note in ([] if run.header is None else _notes(run.header))]
    for name, phase in phases.of.items() if run.batches else ():
        told = f"{phase.asked} asked, {phase.answered} answered"
        told += f", {phase.refused} refused" if phase.refused else ""
        told += f", {phase.cut} cut" if phase.cut else ""
        out.append(f"{name:<8} {told}: {f'{phase.differs} differ' if phase.differs else 'identical'}")
    if found:
        more = f" (and {len(found) - 1} more differences)" if len(found) > 1 else ""
        out.append(f"{path}: {found[0]}{more}")
        out += [f"  {line}" for line in found[0].diff()]
    else:
        rest = "" if run.cut is None else f"; line {run.cut}, the last, is cut and was left out"
        out.append(f"{run.batches} batches, identical{rest}")
    sys.stdout.write(neutral("".join(f"{line}\n" for line in out)))


def transcript(args: argparse.Namespace) -> int:
    """Write the transcript of a run; 2 where there is none."""
    from rchd.edges.history import transcript_of

    try:
        run_id, lines = transcript_of(
            host_paths(os.environ), os.environ, args.run, args.comment, as_is=args.as_is
        )
        place = _write(args.output, run_id, lines)
    except Failure as failure:
        return say_failure("transcript", failure, as_json=args.json)
    header = decode_header(lines[0])
    told = {
        "run_id": run_id,
        "path": place,
        "sha256": header.sha256,
        "bytes": sum(map(len, lines)),
        "others": header.others is True,
        "late": header.late is True,
        "gaps": header.gaps is True,
        "unended": header.unended is True,
    }
    if args.json:
        envelope("transcript", 0, told, None)
        return 0
    sys.stderr.write("".join(f"note: {note}\n" for note in _notes(header)))
    if args.as_is:
        sys.stderr.write("note: nothing was taken out: it names machines, people and places\n")
    if place != STDOUT:
        sys.stdout.write(f"{one_line(place)}\n")
    return 0


def _notes(header: Header) -> list[str]:
    """What the file is not, or more than one run's."""
    told = (
        (header.others, "runs beside it had a say in it, and are in it"),
        (header.late, "it starts after the run was accepted: what was before is no longer kept"),
        (header.gaps, "something in its midst was not recorded"),
        (header.unended, "it does not reach the run's end, which was not recorded, or is still to come"),
    )
    return [note for is_so, note in told if is_so is True]


def _write(output: str | None, run_id: str, lines: list[bytes]) -> str:
    """Where the lines were written; a file that is there already is not overwritten by a default name."""
    data = b"".join(lines)
    if output == STDOUT:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return STDOUT
    name = output or f"{run_id}-{decode_header(lines[0]).sha256!s:.{_SHORT}}.jsonl"
    path = Path(name)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        raise Failure(
            Kind.USAGE, f"{path}: {error.strerror}", hint="name another place: -o FILE, or -o - for stdout"
        ) from error
    return str(path)
