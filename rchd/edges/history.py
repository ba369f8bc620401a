"""Reads what the daemon has recorded (`rchd.edges.ring`), beside a daemon or without one."""

from __future__ import annotations

import os
import pwd
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from rch.contract.errors import Failure, Kind
from rch.contract.ids import is_id
from rch.files.paths import HostPaths
from rchd.core.exporting import RenamedOtherwiseError, exported, written
from rchd.core.slices import DecidedOtherwiseError, Life, Slice, cut
from rchd.core.transcript import Batch, Header, decode_batch, decode_header
from rchd.edges.ring import number_of, parts_of
from rchd.edges.unrecorded import unrecorded

LATEST = "latest"
_ACCEPTED = re.compile(rb'"path":"([A-Za-z0-9_-]+)/accepted\.json"')
_RUN_INDEX = "run_index.json"


def transcript_of(
    paths: HostPaths, env: Mapping[str, str], name: str, comment: str, *, as_is: bool
) -> tuple[str, list[bytes]]:
    """The id of run `name` (an id, how one begins, or latest) and the lines of its transcript.

    `as_is`: with every name and place in it. `Failure` says why there is none.
    """
    try:
        run_id = _found(paths, name)
        lives = list(_lives(paths.transcripts, run_id))
    except OSError as error:
        raise Failure(
            Kind.DAEMON, f"{error.filename}: {error.strerror}", subkind="STATE", hint="see who owns it"
        ) from error
    if not lives:
        raise unrecorded(paths, name)  # its last part has just gone
    version = str(lives[-1].header.version)
    try:
        part = cut(lives, run_id)
        if part is None:
            raise unrecorded(paths, name)
        return run_id, _written(part, run_id, {"comment": comment, "version": version}, env, as_is=as_is)
    except DecidedOtherwiseError as error:
        raise Failure(
            Kind.USAGE,
            f"{error}: rchd {version} recorded it, and this version decides otherwise there",
            hint=f"replay that file: rchd replay; or export it with rchd {version}",
        ) from error
    except RenamedOtherwiseError as error:
        raise Failure(
            Kind.INTERNAL,
            f"without its names run {run_id} is another one: {error}",
            hint="for your own eyes: --as-is leaves them in",
        ) from error


def _written(
    part: Slice, run_id: str, header: Mapping[str, str], env: Mapping[str, str], *, as_is: bool
) -> list[bytes]:
    if as_is:
        return written(part, run_id, header)
    user, host = pwd.getpwuid(os.getuid()).pw_name, socket.gethostname()
    known = {
        ("user", user),
        ("user", env.get("USER") or user),
        ("host", host),
        ("host", host.partition(".")[0]),
    }
    return exported(part, run_id, header, sorted(known), env.get("HOME", ""))


def _found(paths: HostPaths, name: str) -> str:
    """The run that is meant: the newest of all that this machine has, or the one that begins so."""
    recorded = {run_id for path in parts_of(paths.transcripts) for run_id in _runs(_bytes(path))}
    if name == LATEST:
        # Ids sort by time. A run that nobody recorded is the latest all the same.
        newest = max([*recorded, *_published(paths.artifacts)], default="")
        if newest not in recorded:
            raise unrecorded(paths, newest or name)
        return newest
    found = sorted(run_id for run_id in recorded if name and run_id.startswith(name))
    if name in found or len(found) == 1:
        return name if name in found else found[0]
    if found:
        raise Failure(
            Kind.USAGE,
            f"{name!r} is the beginning of {len(found)} runs: {', '.join(found[:3])}",
            hint="type more of the id; rchctl list names the runs",
        )
    raise unrecorded(paths, name)


def _published(artifacts: Path) -> Iterator[str]:
    """The runs that have a folder, as `latest` of the other verbs sees them."""
    try:
        names = [each.name for each in artifacts.iterdir()]
    except OSError:
        return
    yield from (name for name in names if is_id(name) and (artifacts / name / _RUN_INDEX).is_file())


def _bytes(path: Path) -> bytes:
    """What is in a part; nothing where the daemon has just removed it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _runs(data: bytes) -> Iterator[str]:
    """The runs that a part tells of, oldest first."""
    header = _header(data)
    if header is None:
        return
    yield from (run.run_id for run in header.runs)
    for found in _ACCEPTED.finditer(data):
        yield found[1].decode()


class _Kept(NamedTuple):
    """A part of which something is told of the run."""

    path: Path
    header: Header
    data: bytes


def _lives(folder: Path, run_id: str) -> Iterator[Life]:
    """All that tells of the run, oldest first; parts of which one goes on with the other are one life."""
    group = list[_Kept]()
    for path in parts_of(folder):
        data = _bytes(path)
        header = _header(data) if run_id.encode() in data else None
        if header is None:
            continue
        if not (group and header.continued is True and _follows(path, group[-1].path)):
            yield from _life(group)
            group = []
        group.append(_Kept(path, msgspec.structs.replace(header, continued=UNSET), data))
    yield from _life(group)


def _follows(path: Path, before: Path) -> bool:
    return number_of(path) == (number_of(before) or 0) + 1


def _header(data: bytes) -> Header | None:
    try:
        return decode_header(data.partition(b"\n")[0])
    except ValueError:  # of another version, or a daemon died when it began
        return None


def _life(group: list[_Kept]) -> Iterator[Life]:
    batches, places = list[Batch](), list[str]()
    for path, _, data in group:
        for number, line in enumerate(data.splitlines(keepends=True)[1:], 2):
            try:
                batches.append(decode_batch(line))
            except ValueError as error:
                if line.endswith(b"\n"):
                    raise Failure(
                        Kind.DAEMON,
                        f"{path}, line {number}: {error}",
                        subkind="STATE",
                        hint=f"remove {path}: no run needs it",
                    ) from error
                continue  # it is being written, or was cut with the daemon
            places.append(f"{path.name}, line {number}")
    if group:
        yield Life(group[0].header, batches, places)
