"""A home of the host with runs in it: real ones that were made once, and ones made up in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from support.playbook import accepted

from rch.contract.records import Accepted, SourceEntry, SourceManifest, encode_record
from rch.contract.states import RunState
from rch.files.paths import HostPaths, host_paths
from rchd.core import model as m
from rchd.core.projections import projections
from rchd.edges.core_rows import rows_of
from rchd.edges.projector import Projector
from rchd.edges.store import SqliteStore


def copy_of(home: Path, to: Path) -> HostPaths:
    """A home of its own with everything in it."""
    shutil.copytree(home, to, symlinks=True)
    return host_paths({"RCH_HOME": str(to)})


def keep(paths: HostPaths, runs: Iterable[m.Run]) -> None:
    """Put runs where the daemon has them: row, records, source manifest and bundle."""
    paths.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.spool.mkdir(exist_ok=True)
    paths.artifacts.mkdir(parents=True, exist_ok=True)
    store = SqliteStore.open(paths.database)
    try:
        for run in runs:
            store.commit(rows_of([run], ()))
            Projector(paths.artifacts).write(projections(run))
            put_source(paths, run.accepted)
    finally:
        store.close()


def put_source(paths: HostPaths, request: Accepted) -> None:
    """The source manifest and the spooled bundle of a request."""
    source = request.source
    entries = tuple(
        SourceEntry(path=f"{number}.swift", type="file", size=0, sha256=None)
        for number in range(source.files)
    )
    manifest = SourceManifest(
        created_at=request.created_at,
        run_id=request.run_id,
        source_sha256=source.source_sha256,
        entries=entries,
    )
    (paths.artifacts / request.run_id / "source_manifest.json").write_bytes(encode_record(manifest))
    (paths.spool / source.spool_name).write_bytes(bytes(source.compressed_bytes))


def queued(number: int, **options: object) -> m.Run:
    """A run that waits; `number` orders it."""
    request = accepted(f"run-queued-{number:04}", **options)  # type: ignore[arg-type]
    return m.Run(
        accepted=request,
        state=RunState.QUEUED,
        seq=1,
        created_at=request.created_at,
        updated_at=request.created_at,
        phase=m.Waiting(reason="accepted"),
        steps=[m.StepRun() for _ in request.steps],
    )
