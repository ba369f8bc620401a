"""From a client's request to an accepted run: config, snapshot, classification, ids."""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import secrets
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import msgspec
import uuid_utils

from rch.config.layers import Resolved, load_config
from rch.config.root import MANIFEST_NAME, ProjectRoot, find_root
from rch.config.schema import Project
from rch.contract.errors import Failure, Kind
from rch.contract.ids import timestamp
from rch.contract.local_api import SubmitParams
from rch.contract.records import Accepted, Git, Source, SourceManifest, encode_record
from rch.contract.redact import holds_secret
from rch.files.durable import is_no_space, make_dirs, remove_tree, write_atomic
from rch.files.paths import HostPaths
from rchd.core.plan import Minted, Planned, accepted_run, planned_steps
from rchd.edges import git
from rchd.edges.bases import Memory
from rchd.edges.reach import Reach
from rchd.edges.snapshot import Progress, Snapshot, SnapshotOptions, take
from rchd.edges.spool import bundles_of, prune
from rchd.edges.turn import Token, Turn, beside

Tell = Callable[[Progress], None]
KEPT_BUNDLES = 16
MAX_NAME = 200
MAX_ARGV_BYTES = 256 << 10
KEPT_BYTES = 128 << 20
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What a request is about: the project's root, its config, and the steps that are asked for."""

    root: ProjectRoot
    resolved: Resolved
    planned: Sequence[Planned]


def plain_folder(place: Path) -> None:
    """A run's folder as the usual daemon makes it."""
    make_dirs(place, 0o755)


class Intake:
    """Takes requests in; few snapshots at a time, and one of each tree.

    Who has `take`n a run in says with `release` when it lives: until then its bundle is kept.

    `live` names the spool files of the runs that are not over; `make` makes a run's folder.
    """

    def __init__(
        self,
        paths: HostPaths,
        live: Callable[[], Collection[str]] = frozenset,
        *,
        make: Callable[[Path], None] = plain_folder,
    ) -> None:
        self._paths = paths
        self._make = make
        self._live = live
        self._taken: dict[str, frozenset[str]] = {}
        self._lately: set[str] = set()
        self._keeping = threading.Lock()
        self._pruning = anyio.Lock()
        self._turn = Turn(self._left_behind)
        self._looks = Reach()
        self._memory = Memory(paths.spool)
        self._has_base = anyio.Event()

    async def take(self, params: SubmitParams, tell: Tell | None = None) -> Accepted:
        """The accepted run, its bundle spooled and its source manifest durable.

        `Failure` CONFIG, USAGE or BUNDLER; nothing of the run is left behind then. A cancelled
        call ends soon, in the middle of a snapshot too. `tell` hears of the wait for a turn, too.
        """
        _refuse_options(params)
        tree = await self._reach(params.start)
        waits = (lambda: None) if tell is None else partial(tell, Progress.waiting())
        accepted = await self._turn.run(partial(self._take, params, tell, self._memory), tree, waits)
        self._has_base.set()
        try:
            with anyio.CancelScope(shield=True):  # it is whole: what becomes of it is the caller's to say
                await self._prune()
        except BaseException:
            self.release(accepted.run_id)
            raise
        return accepted

    def release(self, run_id: str) -> None:
        """The run that was taken in lives, or never will: from now on `live` speaks for its bundle."""
        self._taken.pop(run_id, None)

    async def tend(self) -> None:
        """Beside the work, unpack each new base: the first change of a tree then need not wait for that."""
        while True:
            await self._has_base.wait()
            self._has_base = anyio.Event()
            await anyio.to_thread.run_sync(self._memory.prepare, abandon_on_cancel=True)

    def close(self) -> None:
        """Let go of what is known of the trees."""
        self._memory.close()

    def _left_behind(self) -> None:
        """A snapshot's thread may come back at any time: what it knows of the trees is its own by now."""
        self._memory = Memory(self._paths.spool)

    async def _prune(self) -> None:
        """Remove old bundles beside snapshots that are under way; what they take in meanwhile counts."""
        async with self._pruning:
            self._lately = set()
            kept = {*self._live(), *self._memory.names}.union(*list(self._taken.values()))
            await anyio.to_thread.run_sync(self._prune_but, kept)

    def _prune_but(self, kept: set[str]) -> None:
        with self._keeping:
            prune(self._paths.spool, kept | self._lately, newest=KEPT_BUNDLES, max_bytes=KEPT_BYTES)

    def _hold(self, accepted: Accepted) -> bool:
        """Whether all of its bundle lies in the spool; from now on it stays until `release`."""
        names = bundles_of(accepted.source)
        with self._keeping:
            self._taken[accepted.run_id] = names
            self._lately.update(names)
            if all((self._paths.spool / name).exists() for name in names):
                return True
        self.release(accepted.run_id)
        return False

    async def draft(self, params: SubmitParams) -> Accepted:
        """What `take` would accept; nothing of it is written but a bundle, which is no run's."""
        _refuse_options(params)
        tree = await self._reach(params.start)
        accepted, _ = await self._turn.run(partial(self._snapshot, params, None, self._memory), tree)
        await self._prune()
        return accepted

    async def read(self, params: SubmitParams) -> Request:
        """The project and its plan, without its source."""
        await self._reach(params.start)
        return await anyio.to_thread.run_sync(self._read, params)

    async def _reach(self, start: str) -> str:
        """The root of the tree; `Failure` where the folder cannot be looked at: it would keep its turn."""
        _refuse_start(start)
        found = await self._looks.look_at(start)
        return str(found.path) if isinstance(found, ProjectRoot) else start

    def _read(self, params: SubmitParams) -> Request:
        root = find_root(Path(params.start))
        resolved = load_config(root, host_config=self._paths.config_toml, overrides=params.overrides)
        planned = planned_steps(resolved, params.actions, params.argv, params.narrowing)
        return Request(root=root, resolved=resolved, planned=planned)

    def _take(self, params: SubmitParams, tell: Tell | None, memory: Memory, token: Token) -> Accepted:
        began = time.monotonic()
        accepted, snapshot = self._bundled(params, tell, memory, token)
        accepted = msgspec.structs.replace(
            accepted,
            request_sha256=request_sha256(params),
            bundle_ms=round((time.monotonic() - began) * 1000),
        )
        try:
            token.keep()
            self._write_manifest(accepted, snapshot)
        except BaseException:
            self.release(accepted.run_id)
            raise
        return accepted

    def _bundled(
        self, params: SubmitParams, tell: Tell | None, memory: Memory, token: Token
    ) -> tuple[Accepted, Snapshot]:
        """The snapshot, its bundle held; taken again where that was pruned before anyone could hold it."""
        for _ in range(_TRIES):
            accepted, snapshot = self._snapshot(params, tell, memory, token)
            if self._hold(accepted):
                return accepted, snapshot
        message = f"the bundle was gone from {self._paths.spool}, {_TRIES} times in a row"
        raise Failure(Kind.BUNDLER, message)

    def _snapshot(
        self, params: SubmitParams, tell: Tell | None, memory: Memory, token: Token
    ) -> tuple[Accepted, Snapshot]:
        request = self._read(params)
        root, resolved, planned = request.root, request.resolved, request.planned
        bundle, project = resolved.config.bundle, resolved.config.project
        package = posixpath.join(project.package, MANIFEST_NAME) if project.package else None
        options = SnapshotOptions(
            mode=bundle.mode,
            symlinks=bundle.symlinks,
            gitignore=bundle.gitignore,
            max_bytes=bundle.max_bytes,
            keep=tuple(name for name in (project.workspace, project.project, package) if name),
        )
        described = beside(partial(git.describe, root.path))
        try:
            snapshot = take(
                root.path,
                options,
                self._paths.spool,
                progress=tell,
                cancelled=token.is_off,
                memory=memory,
            )
        except Failure as failure:
            if failure.subkind == "NO_SPACE":
                memory.drop_copies()
            raise
        _require_project(project, snapshot)
        found = described()
        minted = Minted(
            run_id=str(uuid_utils.uuid7()),
            job_ids=[str(uuid_utils.uuid7()) for _ in planned],
            nonces=[secrets.token_hex(16) for _ in planned],
            created_at=timestamp(time.time()),
        )
        accepted = accepted_run(
            params=params,
            root=str(root.path),
            project=root.path.name,
            resolved=resolved,
            planned=planned,
            source=source_record(snapshot),
            git=None if found is None else Git(commit=found.commit, branch=found.branch, dirty=found.dirty),
            warnings=snapshot.warnings,
            minted=minted,
        )
        return accepted, snapshot

    def _write_manifest(self, accepted: Accepted, snapshot: Snapshot) -> None:
        """What a restart would need and the row does not hold, durable before the row is."""
        place = self._paths.artifacts / accepted.run_id
        manifest = SourceManifest(
            created_at=accepted.created_at,
            run_id=accepted.run_id,
            source_sha256=snapshot.source_sha256,
            entries=snapshot.entries,
        )
        try:
            self._make(place)
            # Not indented: with a large tree that would take longer than all the rest.
            write_atomic(place / "source_manifest.json", msgspec.json.encode(manifest) + b"\n")
            write_atomic(place / "accepted.json", encode_record(accepted))
        except OSError as error:
            with contextlib.suppress(OSError):
                remove_tree(place)
            subkind = "NO_SPACE" if is_no_space(error) else None
            message = f"the accepted run cannot be written to {place}: {error.strerror or error}"
            raise Failure(Kind.BUNDLER, message, subkind=subkind) from error


def _require_project(project: Project, snapshot: Snapshot) -> None:
    """What is to be built must be in the bundle, whatever was left out of it."""
    wanted = project.workspace or project.project
    if wanted is None:
        wanted = posixpath.normpath(posixpath.join(project.package or ".", MANIFEST_NAME))
    if not any(each.path == wanted or each.path.startswith(f"{wanted}/") for each in snapshot.entries):
        raise Failure(
            Kind.BUNDLER,
            f"{wanted} is not in the bundle: it is excluded, or git does not track it",
            hint=f"git add {wanted}, or let .rchignore and bundle.mode leave it in",
        )


def request_sha256(params: SubmitParams) -> str:
    """What was asked for, so that a token used twice is seen to mean one thing or two."""
    body = msgspec.to_builtins(msgspec.structs.replace(params, client_token=None, progress=False))
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def source_record(snapshot: Snapshot) -> Source:
    """What a run has on record of its bundle."""
    return Source(
        source_sha256=snapshot.source_sha256,
        content_sha256=snapshot.content_sha256,
        spool_name=snapshot.spool_path.name,
        tar_bytes=snapshot.tar_bytes,
        compressed_bytes=snapshot.compressed_bytes,
        files=len(snapshot.entries),
        base=snapshot.base,
    )


def _refuse_start(start: str) -> None:
    """The daemon stands in another folder than its caller: only a whole path means something."""
    if "\0" in start or not Path(start).is_absolute():
        raise Failure(Kind.USAGE, f"start {start[:80]!r} is no absolute path")


def _refuse_options(params: SubmitParams) -> None:
    if params.on_disconnect not in {"keep", "cancel"}:
        raise Failure(Kind.USAGE, f"on_disconnect {params.on_disconnect[:40]!r} is not keep or cancel")
    if params.supersede and params.group is None:
        raise Failure(Kind.USAGE, "supersede without a group: there is nothing to supersede")
    names = {"group": params.group, "origin": params.origin, "client_token": params.client_token}
    for name, value in names.items():
        if value is not None and not 0 < len(value) <= MAX_NAME:
            raise Failure(Kind.USAGE, f"{name} {value[:40]!r} is not 1 to {MAX_NAME} characters long")
        if value is not None and holds_secret(value):
            raise Failure(
                Kind.USAGE, f"the {name} looks like a secret, and it is kept on record", hint="give another"
            )
    size = sum(len(word.encode("utf-8", "replace")) for word in params.argv or ())
    if size > MAX_ARGV_BYTES:
        raise Failure(Kind.USAGE, f"argv has {size} bytes, over {MAX_ARGV_BYTES}")
