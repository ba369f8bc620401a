"""`rchd check`: the database, the records, the published sets and the folders, compared (spec section 4).

Nothing is changed and no lock is kept: it runs beside a daemon as well. A daemon moves on
between two reads, so what differs is looked at again before it is told.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from rch.contract.errors import Failure
from rch.contract.records import Source, SourceBase
from rch.contract.states import is_terminal
from rch.files.durable import is_temp_name
from rch.files.locks import is_free
from rch.files.paths import HostPaths
from rchd.core import model as m
from rchd.core.compare import (
    REBUILD,
    RESTART,
    Finding,
    compare_records,
    compare_set,
    published_steps,
    record_paths,
    set_finding,
)
from rchd.edges import store_health
from rchd.edges.check_rows import Rows
from rchd.edges.check_sets import examine_set
from rchd.edges.private import is_marked, is_served

LOOKS = 4  # at what differs, before it is told
PAUSE_SECONDS = 0.25
_PIECE = 1 << 20
_LEFTOVERS = ("staged", "replaced", "fetch.tar.zst")

Progress = Callable[[int, int, int], None]


class Report(msgspec.Struct, kw_only=True):
    """What was looked at, and what is wrong. `bytes_read` counts data, with `read_data` alone."""

    database: str
    artifacts: str
    read_data: bool
    daemon_runs: bool
    runs: int = 0
    sets: int = 0
    bytes_read: int = 0
    findings: list[Finding] = []


def check(paths: HostPaths, *, read_data: bool, progress: Progress = lambda *_: None) -> Report:
    """Compare everything; `progress` is told of runs done, runs in all, and bytes read."""
    return _Check(paths, read_data=read_data, progress=progress).run()


class _Check:
    def __init__(self, paths: HostPaths, *, read_data: bool, progress: Progress) -> None:
        self._paths = paths
        self._progress = progress
        self._total = 0
        self.report = Report(
            database=str(paths.database),
            artifacts=str(paths.artifacts),
            read_data=read_data,
            daemon_runs=not is_free(paths.lock),
        )

    def run(self) -> Report:
        folders = self._folders()
        rows = self._rows(folders)
        if rows is None:
            self._total = len(folders)
            for name in folders:
                self._tell(self._cut_off(name))
                self._tell(self._sets_alone(name))
                self._one_done()
        else:
            try:
                self._with_rows(rows)
            finally:
                rows.close()
        self._tell(self._temporary())
        self.report.findings.sort(key=lambda each: (each.area != "database", each.path, each.what))
        return self.report

    def _rows(self, folders: list[str]) -> Rows | None:
        path = self._paths.database
        try:
            with store_health.told(path):
                is_new = store_health.is_new(path)
            own = [name for name in folders if not is_marked(self._paths.artifacts / name)]
            if is_new and own:
                what = f"is missing, and {len(own)} folders of runs are there"
                self._add("error", "database", path, what, REBUILD)
            return None if is_new else Rows(path)
        except Failure as failure:
            what = failure.message.removeprefix(f"{path}: ")
            self._add("error", "database", path, what, failure.hint)
            return None

    def _with_rows(self, rows: Rows) -> None:
        rows.examine()
        self._total = rows.count()
        known = set()
        for run in rows.runs():
            known.add(run.run_id)
            self._tell(self._settled(run, rows))
            self._one_done()
        for name in self._folders():
            if name in known:
                continue
            if rows.run(name) is None and not any(each.run_id == name for each in rows.findings):
                self._tell(self._unknown(name))
            self._tell(self._sets_alone(name))
        self.report.findings += rows.findings

    def _one_done(self) -> None:
        self.report.runs += 1
        self._progress(self.report.runs, self._total, self.report.bytes_read)

    # --- one run ----------------------------------------------------------------------

    def _settled(self, run: m.Run, rows: Rows) -> list[Finding]:
        """What is wrong with `run`, and still is when a daemon has had the time to write it."""
        found = list(self._of_run(run))
        for _ in range(LOOKS):
            if not found or not self.report.daemon_runs:
                break
            time.sleep(PAUSE_SECONDS)
            again = rows.run(run.run_id)
            stays = {each.path for each in found}
            found = [] if again is None else [e for e in self._of_run(again) if e.path in stays]
        return found

    def _of_run(self, run: m.Run) -> Iterator[Finding]:
        root = self._paths.artifacts
        if not (root / run.run_id).is_dir():
            over = is_terminal(run.state)
            yield Finding(
                severity="warning" if over else "error",
                area="folder",
                path=run.run_id,
                what="its folder was removed" if over else "its folder is missing, and it is not over",
                remedy="nothing: its verdict is kept" if over else f"rchctl cancel {run.run_id}",
                run_id=run.run_id,
            )
            return
        published = {place for place in published_steps(run) if (root / place / "manifest.json").exists()}
        yield from compare_records(run, {path: self._read(path) for path in record_paths(run)}, published)
        for place, index in published_steps(run).items():
            yield from self._of_set(run.run_id, place)
            said = compare_set(
                run, index, self._read(f"{place}/summary.json"), self._read(f"{place}/job_state.json")
            )
            for what in said:
                yield set_finding(run.run_id, place, what)
        if is_terminal(run.state):
            yield from self._leftovers(run)
        else:
            yield from self._bundles(run)

    def _of_set(self, run_id: str, place: str) -> Iterator[Finding]:
        step = self._paths.artifacts / place
        if not step.is_dir():
            yield set_finding(run_id, place, "is missing: the published artifacts are gone")
            return
        self.report.sets += 1
        host = self._paths.artifacts / run_id / "host" / step.name
        try:
            errors = examine_set(step, host, read_data=self.report.read_data, read=self._data_read)
        except OSError as error:
            errors = [f"{error.filename}: {error.strerror or error}"]
        for what in errors:
            yield set_finding(run_id, place, what)

    def _sets_alone(self, name: str) -> Iterator[Finding]:
        """The published sets of a folder that no row speaks of."""
        root = self._paths.artifacts
        for manifest in sorted((root / name).glob("steps/*/*/manifest.json")):
            if not manifest.parent.name.endswith(".rejected"):
                yield from self._of_set(name, manifest.parent.relative_to(root).as_posix())

    def _bundles(self, run: m.Run) -> Iterator[Finding]:
        """The source of a run that is not over, and what it goes into: both may be sent once more."""
        source = run.accepted.source
        for bundle in (source, source.base):
            if bundle is not None:
                yield from self._bundle(run, bundle)

    def _bundle(self, run: m.Run, source: Source | SourceBase) -> Iterator[Finding]:
        path = self._paths.spool / source.spool_name
        what = None
        try:
            size = path.stat().st_size
            if size != source.compressed_bytes:
                what = f"has {size} bytes, not {source.compressed_bytes}"
            elif self.report.read_data and self._digest(path) != source.content_sha256:
                what = "is not the bundle that was spooled: another sha256"
        except OSError as error:
            what = f"cannot be read ({error.strerror}): its run can be served only where the source is"
        if what is not None:
            remedy = f"rchctl cancel {run.run_id}, then rchctl verify"
            yield Finding(
                severity="error", area="folder", path=str(path), what=what, remedy=remedy, run_id=run.run_id
            )

    def _leftovers(self, run: m.Run) -> Iterator[Finding]:
        for step in run.accepted.steps:
            for name in _LEFTOVERS:
                path = f"{run.run_id}/host/{step.job_id}/{name}"
                if (self._paths.artifacts / path).exists():
                    yield Finding(
                        severity="warning",
                        area="folder",
                        path=path,
                        what="is left over from a transfer",
                        remedy=f"rm -r {self._paths.artifacts / path}",
                        run_id=run.run_id,
                    )

    # --- folders ----------------------------------------------------------------------

    def _folders(self) -> list[str]:
        try:
            return sorted(each.name for each in self._paths.artifacts.iterdir() if each.is_dir())
        except FileNotFoundError:
            return []

    def _unknown(self, name: str) -> Iterator[Finding]:
        folder = self._paths.artifacts / name
        if is_marked(folder):
            yield from self._cut_off(name)
        elif (folder / "run_index.json").exists():
            yield Finding(
                severity="error",
                area="folder",
                path=name,
                what="holds a run that the database does not know",
                remedy=f"rchd --rebuild --force takes it in; or rm -r {folder}",
                run_id=name,
            )
        elif not self.report.daemon_runs and folder.is_dir():
            yield Finding(
                severity="warning",
                area="folder",
                path=name,
                what="holds a run that was never accepted",
                remedy=f"{RESTART}: the start removes what it made itself; or rm -r {folder}",
            )

    def _cut_off(self, name: str) -> Iterator[Finding]:
        """A run of `--no-daemon` that nobody brings to its end any more; of others nothing is wrong."""
        folder = self._paths.artifacts / name
        if is_marked(folder) and not (folder / "run_summary.json").exists() and not is_served(folder):
            yield Finding(
                severity="warning",
                area="folder",
                path=name,
                what="holds a run of --no-daemon that was cut off",
                remedy=f"rm -r {folder}",
                run_id=name,
            )

    def _temporary(self) -> Iterator[Finding]:
        """What a crash left in the state; a daemon that lives may be writing it just now."""
        if self.report.daemon_runs:
            return
        for folder in (self._paths.state_dir, self._paths.spool):
            for path in sorted(folder.glob(".rch-*")):
                if is_temp_name(path.name):
                    yield Finding(
                        severity="warning",
                        area="folder",
                        path=str(path),
                        what="is left over from a write that was cut off",
                        remedy="rchctl daemon start removes it",
                    )

    # --- small ------------------------------------------------------------------------

    def _read(self, path: str) -> bytes | None:
        try:
            return (self._paths.artifacts / path).read_bytes()
        except OSError:
            return None

    def _digest(self, path: Path) -> str:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                self._data_read(len(piece))
        return digest.hexdigest()

    def _data_read(self, count: int) -> None:
        self.report.bytes_read += count
        self._progress(self.report.runs, self._total, self.report.bytes_read)

    def _add(self, severity: str, area: str, path: Path, what: str, remedy: str) -> None:
        self.report.findings.append(
            Finding(severity=severity, area=area, path=str(path), what=what, remedy=remedy)
        )

    def _tell(self, found: Iterator[Finding] | list[Finding]) -> None:
        """Keep findings, their places spelled out."""
        for each in found:
            path = str(self._paths.artifacts / each.path)  # an absolute one stays as it is
            self.report.findings.append(msgspec.structs.replace(each, path=path))
