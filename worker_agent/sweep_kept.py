"""How much of the warm workspaces and caches is kept (spec section 11).

`found` looks, `planned` decides, `plan_kept` hands that to the sweep. Age and size only choose: whether
a folder is in use is asked of its lock, which is held while the folder is renamed away, and never of
its times.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from rch.contract.decoding import decode_json
from rch.files.durable import is_temp_name, remove_tree, write_whole
from rch.files.locks import FileLock, is_free
from worker_agent import upkeep
from worker_agent.caches import spm_in_use
from worker_agent.kept import KeptFolder
from worker_agent.worker import Worker

_DAY = 86_400.0
_SECOND_NS = 1_000_000_000
_SIZE = ".rch-size"
_BLOCK = 512

Kind = Literal["workspace", "cache", "thrown away"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A folder as it was found. `used` is its last use in nanoseconds of the wall clock, 0: unknown.

    `broken`: its last job did not come to its end in it.
    """

    kind: Kind
    path: Path
    bytes: int
    used: int
    in_use: bool = False
    broken: bool = False


class Doomed(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that is to go, and why. `name` is its path below the worker's data, `age` in seconds."""

    kind: Kind
    name: str
    path: Path
    bytes: int
    age: float
    used: int
    reason: str


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a kind is kept, and how long after its last use; 0: no bound."""

    bytes: int
    days: int


def planned(
    found: Iterable[Found], bounds: dict[Kind, Bounds], data: Path, now: float
) -> tuple[Doomed, ...]:
    """What is to go: what is broken, too old, or beyond the size, the last used staying first. Pure."""
    totals: dict[Kind, int] = {}
    doomed = []
    for one in sorted(found, key=lambda one: (not one.in_use, -one.used)):
        age = max(0.0, now - one.used / _SECOND_NS)
        bound = bounds.get(one.kind, Bounds(bytes=0, days=0))
        reason = None if one.in_use else _reason(one, age, bound, totals.get(one.kind, 0))
        if reason is None:
            totals[one.kind] = totals.get(one.kind, 0) + one.bytes
            continue
        doomed.append(
            Doomed(
                kind=one.kind,
                name=str(one.path.relative_to(data)),
                path=one.path,
                bytes=one.bytes,
                age=age,
                used=one.used,
                reason=reason,
            )
        )
    return tuple(doomed)


def _reason(one: Found, age: float, bound: Bounds, kept: int) -> str | None:
    if one.kind == "thrown away":
        return "it was thrown away"
    if one.broken:
        return "its last job did not come to its end in it"
    if bound.days and age > bound.days * _DAY:
        return f"it was not used for {bound.days} days"
    if bound.bytes and kept + one.bytes > bound.bytes:
        return f"with those that were used later it is over {bound.bytes} bytes"
    return None


def plan(worker: Worker, now: float) -> tuple[Doomed, ...]:
    """What a sweep would remove at `now`, in seconds of the wall clock."""
    config = worker.config
    bounds: dict[Kind, Bounds] = {
        "workspace": Bounds(bytes=config.keep_workspaces_bytes, days=config.keep_workspaces_days),
        "cache": Bounds(bytes=config.keep_caches_bytes, days=config.keep_caches_days),
    }
    return planned(found(worker), bounds, worker.paths.data_dir, now)


def plan_kept(worker: Worker, now: float) -> Iterator[upkeep.Doomed]:
    """The same for the list of all that goes; what was thrown away is told by what it was."""
    for doomed in plan(worker, now):
        was = "workspace" if doomed.path.is_relative_to(worker.paths.workspaces) else "cache"
        yield upkeep.Doomed(
            kind=was,
            name=doomed.name,
            age_seconds=doomed.age,
            reason=doomed.reason,
            size=partial(int, doomed.bytes),
            remove=partial(_remove, worker, doomed),
        )


def sweep_uses(worker: Worker, now: float) -> None:
    """Remove lock files that nobody needs."""
    del now
    for folder in _folders(worker.paths.locks / "caches", "*/spm/*.uses"):
        with suppress(OSError):
            _sweep_uses(folder)


# --- looking --------------------------------------------------------------------------


def found(worker: Worker) -> Iterator[Found]:
    """Every workspace and cache, and what was thrown away."""
    paths = worker.paths
    kinds: tuple[tuple[Kind, Path, str], ...] = (
        ("workspace", paths.workspaces, "*/*/*"),
        ("cache", paths.caches, "*/spm/*"),
        ("cache", paths.caches, "*/derived_data/*/*"),
    )
    for kind, root, pattern in kinds:
        for path in _folders(root, pattern):
            if is_temp_name(path.name):
                yield Found(kind="thrown away", path=path, bytes=_measured(path), used=_changed(path))
            else:
                yield _found(worker, kind, path)


def _found(worker: Worker, kind: Kind, path: Path) -> Found:
    kept = KeptFolder(worker.paths, worker.jobs, path)
    last = kept.last()
    used = last.used if last is not None else _changed(path)
    in_use = not is_free(kept.lock.path) or (_is_spm(path) and spm_in_use(worker.paths, path))
    return Found(
        kind=kind,
        path=path,
        bytes=_size(path, used, measure=not in_use),
        used=used,
        in_use=in_use,
        broken=not in_use and kept.marked_by() is not None,
    )


def _is_spm(path: Path) -> bool:
    return path.parent.name == "spm"


def _changed(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_mtime_ns
    return 0


class _Size(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder took after its use at `used`: it is measured once a use."""

    used: int
    bytes: int


def _size(path: Path, used: int, *, measure: bool) -> int:
    known = _Size(used=0, bytes=0)
    with suppress(OSError, msgspec.MsgspecError):
        known = decode_json((path / _SIZE).read_bytes(), _Size)
    if known.used == used or not measure:
        return known.bytes
    fresh = _Size(used=used, bytes=_measured(path))
    with suppress(OSError):
        write_whole(path / _SIZE, msgspec.json.encode(fresh))
    return fresh.bytes


def _measured(path: Path) -> int:
    """Bytes on the disk."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(f"{folder}/{name}").st_blocks * _BLOCK
    return total


def _folders(root: Path, pattern: str) -> Iterator[Path]:
    return iter(sorted(root.glob(pattern))) if root.is_dir() else iter(())


# --- removing -------------------------------------------------------------------------


def _remove(worker: Worker, doomed: Doomed) -> bool:
    if doomed.kind == "thrown away":
        remove_tree(doomed.path)
        return True
    kept = KeptFolder(worker.paths, worker.jobs, doomed.path)
    if not kept.try_take():
        return False
    try:
        last = kept.last()
        if last is not None and last.used != doomed.used:
            return False  # somebody came meanwhile
        if _is_spm(doomed.path) and spm_in_use(worker.paths, doomed.path):
            return False
        aside = kept.throw_away()
        kept.lock.path.unlink()  # whoever waits for it looks again
    finally:
        kept.release()
    remove_tree(aside)
    return True


def _sweep_uses(folder: Path) -> None:
    """Remove what jobs that were killed left; the lock of the cache keeps newcomers away meanwhile."""
    with FileLock(folder.with_suffix(".lock"), "a sweep"):
        for path in folder.iterdir():
            if is_free(path):
                path.unlink()
