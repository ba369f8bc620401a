"""Reads what the daemon has recorded (`rchd.edges.ring`), beside a daemon or without one."""

from __future__ import annotations

import os
import pwd
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from rch.config.daemon_config import load_daemon_config
from rch.contract.errors import Failure, Kind
from rch.files.paths import HostPaths
from rchd.core.exporting import RenamedOtherwiseError, exported, written
from rchd.core.slices import DecidedOtherwiseError, Life, Slice, cut
from rchd.core.transcript import Batch, Header, decode_batch, decode_header
from rchd.edges.ring import parts_of

LATEST = "latest"
_ACCEPTED = re.compile(rb'"path":"([A-Za-z0-9_-]+)/accepted\.json"')


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
        raise Failure(
            Kind.USAGE,
            f"the beginning of run {run_id} is no longer among what the daemon keeps of its decisions",
            hint="keep more: a larger transcripts.keep_bytes in config.toml",
        )
    version = str(lives[-1].header.version)
    try:
        part = cut(lives, run_id)
        if part is None:
            raise _unknown(paths, name)
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
    """The newest run that is meant."""
    found = ""
    for path in parts_of(paths.transcripts):
        for run_id in _runs(path.read_bytes()):
            if name == LATEST or run_id.startswith(name):
                found = run_id
    if not found or not name:
        raise _unknown(paths, name)
    return found


def _runs(data: bytes) -> Iterator[str]:
    """The runs that a part tells of, oldest first."""
    first = data.partition(b"\n")[0]
    try:
        yield from (run.run_id for run in decode_header(first).runs)
    except ValueError:
        return
    for found in _ACCEPTED.finditer(data):
        yield found[1].decode()


def _unknown(paths: HostPaths, name: str) -> Failure:
    if load_daemon_config(paths.config_toml).transcripts.keep_bytes == 0:
        return Failure(
            Kind.USAGE,
            f"run {name[:80]!r} was not recorded: [transcripts] keep_bytes is 0 in {paths.config_toml}",
            subkind="UNKNOWN_RUN",
            hint="set it to 50000000 and restart the daemon; later runs are recorded then",
        )
    return Failure(
        Kind.USAGE,
        f"no run {name[:80]!r} is among those that the daemon has recorded in {paths.transcripts}",
        subkind="UNKNOWN_RUN",
        hint="rchctl list names the runs; transcripts.keep_bytes says how long one is kept",
    )


def _lives(folder: Path, run_id: str) -> Iterator[Life]:
    """Every history with a beginning that tells of the run, oldest first."""
    group: list[Path] = []
    for path in parts_of(folder):
        with path.open("rb") as file:
            header = _header(file.readline())
        if header is None:
            continue
        if header.continued is True:
            group = [*group, path] if group else []
            continue
        yield from _life(group, run_id)
        group = [path]
    yield from _life(group, run_id)


def _header(line: bytes) -> Header | None:
    try:
        return decode_header(line)
    except ValueError:  # of another version, or a daemon died when it began
        return None


def _life(group: list[Path], run_id: str) -> Iterator[Life]:
    texts = [(path, path.read_bytes()) for path in group]
    if not any(run_id.encode() in text for _, text in texts):
        return
    batches, places = list[Batch](), list[str]()
    for path, text in texts:
        for number, line in enumerate(text.splitlines(keepends=True)[1:], 2):
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
    yield Life(decode_header(texts[0][1].partition(b"\n")[0]), batches, places)
