"""The files of a run's folder, read for `rchd --rebuild`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from rch.contract.states import is_terminal
from rch.files.paths import HostPaths
from rchd.core import model as m
from rchd.core.ask import step_dir
from rchd.core.restore import Restored, Unknown, restore
from rchd.edges.check_sets import examine_set
from rchd.edges.private import is_marked
from rchd.edges.spool import bundles_of

MAX_BYTES = 64 << 20
# What `restore` reads, below a run's folder; of the last two it is enough that they are there.
_WANTED = (
    "*.json",
    "host/*/*.json",
    "host/*/replaced/job_state.json",
    "steps/*/*/job_state.json",
    "steps/*/*/summary.json",
    "steps/*/*/job.json",
)
_PRESENT = ("steps/*/*/manifest.json", "host/*/live.log")


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is back, and what of it could not be made out."""

    run_id: str
    state: str
    seq: int
    notes: list[str]


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that stays without a row."""

    path: str
    why: str


def folders(artifacts: Path) -> list[str]:
    """The names of what may be runs, but for those of private daemons."""
    try:
        return sorted(
            each.name
            for each in artifacts.iterdir()
            if each.is_dir() and not each.is_symlink() and not is_marked(each)
        )
    except FileNotFoundError:
        return []


def bring_back(
    paths: HostPaths, name: str, embedded: Collection[str]
) -> tuple[Restored, Brought] | LeftOut:
    """The run of one folder, its artifacts verified where it is to go on with them."""
    folder = paths.artifacts / name
    try:
        files = _files(folder)
        found = restore(name, files, embedded=embedded)
        if not is_terminal(found.run.state) and (damaged := _damaged(paths.artifacts, found.run)):
            found = restore(name, files, embedded=embedded, damaged=damaged)
    except Unknown as unknown:
        return LeftOut(path=str(folder), why=str(unknown))
    except OSError as error:
        return LeftOut(path=str(folder), why=f"{error.filename}: {error.strerror or error}")
    run, notes = found.run, found.notes
    bundles = bundles_of(run.accepted.source)
    if not is_terminal(run.state) and not all((paths.spool / name).is_file() for name in bundles):
        notes.append("its bundle is not in the spool: it can be served only where its source is known")
    return found, Brought(run_id=run.run_id, state=run.state, seq=run.seq, notes=notes)


def _files(folder: Path) -> dict[str, bytes]:
    found = {}
    for pattern in _WANTED:
        for path in folder.glob(pattern):
            if path.is_file() and path.stat().st_size <= MAX_BYTES:
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    for pattern in _PRESENT:
        found |= {path.relative_to(folder).as_posix(): b"" for path in folder.glob(pattern)}
    return found


def _damaged(artifacts: Path, run: m.Run) -> dict[str, str]:
    """The published sets of a run that goes on, read to the last byte: job id -> what is wrong."""
    wrong = {}
    for index, step in enumerate(run.accepted.steps):
        place = artifacts / step_dir(run, index)
        if (place / "manifest.json").is_file() or (place / "job_index.json").is_file():
            if run.steps[index].host_made:
                continue
            host = artifacts / run.run_id / "host" / step.job_id
            if errors := examine_set(place, host, read_data=True):
                wrong[step.job_id] = errors[0]
    return wrong
