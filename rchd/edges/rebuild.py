"""`rchd --rebuild`: the database made anew from the artifacts' folders (spec section 4; fault H9).

The new one is whole, durable and checked before the old one is touched, and the old one is kept.
From the moment at which the new one stands as `rchd.db.rebuilt` to the one at which it has its
place, no daemon starts: a death in between is mended by rebuilding again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from rch.config.inventory import load_inventory
from rch.contract.errors import Failure, Kind
from rch.contract.ids import parse_timestamp
from rch.files import durable
from rch.files.locks import FileLock
from rch.files.paths import HostPaths
from rchd.core import model as m
from rchd.core.restore import Restored, acceptance_order
from rchd.core.views import run_view
from rchd.edges import store_health
from rchd.edges.check_rows import Rows
from rchd.edges.projector import Projector
from rchd.edges.rebuild_files import Brought, LeftOut, bring_back, folders
from rchd.edges.store import Batch, EventRow, SqliteStore

_PER_COMMIT = 500
_PARTS = ("", "-wal", "-shm")

RowsOf = Callable[[Iterable[m.Run], tuple[()]], Batch]
Progress = Callable[[int, int], None]


class Rebuilt(msgspec.Struct, kw_only=True):
    """What came of it. `aside` is where the old database lies now, if there was one."""

    database: str
    aside: str | None
    runs: list[Brought]
    left_out: list[LeftOut]


def rebuild(
    paths: HostPaths, rows_of: RowsOf, *, force: bool, progress: Progress = lambda *_: None
) -> Rebuilt:
    """Make the database anew. `rows_of` is how the driver writes runs.

    `Failure` DAEMON: a daemon lives here, the database is sound and `force` is not given, or the
    disk takes nothing. The database is as it was then.
    """
    path = paths.database
    lock = FileLock(paths.lock, "rchd --rebuild")
    with contextlib.ExitStack() as held, store_health.told(path):
        store_health.own_folder(path)
        if not lock.try_acquire():
            raise Failure(
                Kind.DAEMON,
                f"a daemon runs on {paths.state_dir} ({lock.holder() or 'holder unknown'})",
                subkind="ALREADY_RUNNING",
                hint="rchctl daemon stop, then rchd --rebuild",
            )
        held.callback(lock.release)
        writer = store_health.take(path)
        held.callback(writer.release)
        if not force:
            _refuse_a_good_one(path)
        found, told, left_out = _bring_all_back(paths, progress)
        runs = [each.run for each in found]
        draft = _built(path, runs, rows_of, str(paths.artifacts))
        aside = _put_in_place(path, draft)
        Projector(paths.artifacts).make_good(each.run for each in found if each.decided_here)
    return Rebuilt(database=str(path), aside=aside, runs=told, left_out=left_out)


def _refuse_a_good_one(path: Path) -> None:
    """Only what a rebuild cannot make worse is replaced without being asked twice."""
    try:
        with store_health.told(path):
            if store_health.is_new(path) or not path.exists():  # a link to nowhere is nothing to lose
                return
            store_health.examine(path)
            if _has_bad_rows(path):
                return
    except Failure as failure:
        if store_health.is_replaceable(failure):
            return
        raise
    raise store_health.state_failure(
        path,
        "is sound: what is rebuilt knows less than it does",
        hint="rchctl check compares it with the artifacts; rchd --rebuild --force replaces it all the same",
    )


def _has_bad_rows(path: Path) -> bool:
    """SQLite keeps no checksum of what it is given: each row has its own."""
    with contextlib.closing(Rows(path)) as rows:
        rows.examine()
        for _ in rows.runs():
            pass
        return bool(rows.findings)


def _bring_all_back(
    paths: HostPaths, progress: Progress
) -> tuple[list[Restored], list[Brought], list[LeftOut]]:
    back: dict[str, Restored] = {}
    told: dict[str, Brought] = {}
    left_out: list[LeftOut] = []
    jobs: dict[str, str] = {}
    names, embedded = folders(paths.artifacts), _embedded(paths.workers_toml)
    for number, name in enumerate(names, 1):
        found = bring_back(paths, name, embedded)
        progress(number, len(names))
        if isinstance(found, LeftOut):
            left_out.append(found)
            continue
        restored, brought = found
        own = [step.job_id for step in restored.run.accepted.steps]
        taken = [jobs[job_id] for job_id in own if job_id in jobs]
        if taken:
            left_out.append(
                LeftOut(path=str(paths.artifacts / name), why=f"has the jobs of run {taken[0]}")
            )
            continue
        jobs |= dict.fromkeys(own, name)
        back[name], told[name] = restored, brought
    ordered = acceptance_order(each.run for each in back.values())
    _one_run_a_token(ordered, told)
    names = [run.run_id for run in ordered]
    return [back[name] for name in names], [told[name] for name in names], left_out


def _one_run_a_token(ordered: list[m.Run], told: dict[str, Brought]) -> None:
    """A token names one run, the first; another one keeps its life and loses the name."""
    taken: set[str] = set()
    for run in ordered:
        token = run.accepted.client_token
        if token is None:
            continue
        if token in taken:
            run.accepted = msgspec.structs.replace(run.accepted, client_token=None)
            brought = told[run.run_id]
            told[run.run_id] = msgspec.structs.replace(
                brought, notes=[*brought.notes, "its client_token is that of an earlier run"]
            )
        taken.add(token)


def _embedded(inventory: Path) -> frozenset[str]:
    """The workers of this machine, which serve where there is no inventory."""
    try:
        found = load_inventory(inventory)
    except Failure:
        return frozenset()
    return frozenset(each.name for each in found.everyone) if found.implied_local else frozenset()


def _built(path: Path, runs: list[m.Run], rows_of: RowsOf, artifacts: str) -> Path:
    """A database of `runs` beside `path`: closed, durable and checked."""
    draft = path.with_name(path.name + ".rebuild")
    _remove(draft)
    try:
        store = SqliteStore.open(draft)
        try:
            for first in range(0, len(runs), _PER_COMMIT):
                store.commit(rows_of(runs[first : first + _PER_COMMIT], ()))
            if runs:
                store.commit(Batch(events=[_last_news(runs, artifacts)]))
        finally:
            store.close()
        store_health.examine(draft)
        _fold_log(draft)
    except BaseException:
        _remove(draft)
        raise
    return draft


def _last_news(runs: list[m.Run], artifacts: str) -> EventRow:
    """The newest run as it is, under a number above all that were given before.

    How many there were is lost with the database; there never was one in every millisecond.
    """
    newest = max(runs, key=lambda run: (run.updated_at, run.run_id))
    view = run_view(newest, artifacts)
    seq = int(parse_timestamp(newest.updated_at) * 1000)
    return EventRow(
        seq=seq, run_id=newest.run_id, at=newest.updated_at, type="run", doc=msgspec.json.encode(view)
    )


def _fold_log(draft: Path) -> None:
    """One file that is all of it, and durable."""
    for part in _PARTS[1:]:
        log = draft.with_name(draft.name + part)
        if part == "-wal" and log.exists() and log.stat().st_size:
            raise store_health.damaged(draft, "its log was not folded in")
        log.unlink(missing_ok=True)
    fd = os.open(draft, os.O_RDONLY)
    try:
        durable.sync_file(fd)
    finally:
        os.close(fd)


def _put_in_place(path: Path, draft: Path) -> str | None:
    """The old one aside, log and all, and the new one in its place."""
    ready = store_health.rebuilt(path)
    durable.replace(draft, ready)
    _remove(draft)
    aside = _aside(path)
    moved = None
    for part in _PARTS:
        old = path.with_name(path.name + part)
        if old.exists() or old.is_symlink():
            durable.replace(old, aside.with_name(aside.name + part))
            moved = str(aside)
    durable.replace(ready, path)
    return moved


def _aside(path: Path) -> Path:
    """A name that is free: an earlier one is never overwritten."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number, aside = 1, path.with_name(f"{path.name}.{stamp}.bak")
    while any(os.path.lexists(aside.with_name(aside.name + part)) for part in _PARTS):
        number += 1
        aside = path.with_name(f"{path.name}.{stamp}.{number}.bak")
    return aside


def _remove(draft: Path) -> None:
    """The draft with all that a store makes beside it."""
    for part in (*_PARTS, ".lock", ".reserve", ".new", ".new-wal", ".new-shm", ".new-journal"):
        draft.with_name(draft.name + part).unlink(missing_ok=True)
