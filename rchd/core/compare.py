"""What `rchctl check` finds: a run's row against its files, purely (spec section 4; faults H9, H10)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from rch.contract import records
from rch.contract.decoding import decode_json
from rch.contract.errors import Kind, lookup
from rch.contract.records import (
    JobStateRecord,
    Record,
    SourceManifest,
    Summary,
    WorkerSelection,
    decode_record,
    schema_id_of,
)
from rch.contract.states import is_terminal
from rchd.core import model as m
from rchd.core.ask import step_dir
from rchd.core.projections import projections

REBUILD = "rchd --rebuild makes it anew from the artifacts"
RESTART = "rchctl daemon stop && rchctl daemon start"
NEWER = "another version of rch wrote it: use that one, or a newer one; nothing of it is lost"
_COPY = "put the folder back from a copy, or remove it and run again: rchctl verify"


class Finding(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing that is wrong. `severity` is error or warning; `area` database, record, set or folder.

    `path` is relative to the artifacts' root in the core and absolute where it is told.
    """

    severity: str
    area: str
    path: str
    what: str
    remedy: str
    run_id: str | None = None


def exit_code(findings: Iterable[Finding]) -> int:
    """0 where there is no error, 4 where the database is damaged, else 70."""
    areas = {each.area for each in findings if each.severity == "error"}
    if not areas:
        return 0
    return lookup(Kind.DAEMON if "database" in areas else Kind.ARTIFACTS).exit_code


def compare_records(
    run: m.Run, files: Mapping[str, bytes | None], published: Collection[str]
) -> Iterator[Finding]:
    """Whether each file that the host writes of `run` says what its row says.

    `files` is keyed as `projections` is, None where nothing can be read; `published` are the
    folders in which a worker's set stands, which is compared by itself.
    """
    for path, wanted in projections(run).items():
        if path.rpartition("/")[0] in published:
            continue
        what = _difference(path, wanted, files.get(path), live=not is_terminal(run.state))
        if what is not None:
            remedy = NEWER if _is_of_another_major(files.get(path), wanted) else _anew(run)
            yield Finding(
                severity="error", area="record", path=path, what=what, remedy=remedy, run_id=run.run_id
            )
    yield from _source(run, files)


def _is_of_another_major(data: bytes | None, wanted: bytes) -> bool:
    """Whether it is the same record by its name, and one whose members have another meaning."""
    if data is None:
        return False
    try:
        found = decode_json(data, _Head)
    except ValueError:
        return False
    name, _, major = str(decode_json(wanted)["schema_id"]).partition("@")
    have, _, other = found.schema_id.partition("@")
    versions = {other, found.schema_version.partition(".")[0]}
    return have == name and versions != {major} and all(each.isdecimal() for each in versions)


class _Head(msgspec.Struct):
    schema_id: str
    schema_version: str = ""


def record_paths(run: m.Run) -> list[str]:
    """What `compare_records` wants to see, relative to the artifacts' root."""
    return [*projections(run), f"{run.run_id}/source_manifest.json"]


def _anew(run: m.Run) -> str:
    if is_terminal(run.state):
        return f"remove the run's run_index.json, then {RESTART}: its records are written anew"
    return f"{RESTART}: the records of a live run are written anew"


def _source(run: m.Run, files: Mapping[str, bytes | None]) -> Iterator[Finding]:
    """The one record of a run that no row holds."""
    path = f"{run.run_id}/source_manifest.json"
    data, source = files.get(path), run.accepted.source
    what = "is missing"
    if data is not None:
        try:
            found = decode_record(data, SourceManifest)
        except ValueError as error:
            what = f"cannot be read: {error}"
        else:
            if (found.run_id, found.source_sha256, len(found.entries)) == (
                run.run_id,
                source.source_sha256,
                source.files,
            ):
                return
            what = f"speaks of {len(found.entries)} files of source {found.source_sha256[:12]}"
    yield Finding(severity="error", area="record", path=path, what=what, remedy=_COPY, run_id=run.run_id)


def _kinds() -> dict[str, type[Record]]:
    found = {}
    for kind in vars(records).values():
        if isinstance(kind, type) and issubclass(kind, Record) and "schema_id" in kind.__struct_fields__:
            found[schema_id_of(kind)] = kind
    return found


_KINDS = _kinds()


def _difference(path: str, wanted: bytes, found: bytes | None, *, live: bool) -> str | None:
    """What is wrong with a record; None where it says the same, be it in other words."""
    if found is None:
        return "is missing"
    if found == wanted:
        return None
    kind = _KINDS[decode_json(wanted)["schema_id"]]
    want = decode_record(wanted, kind)
    try:
        have = decode_record(found, kind)
    except ValueError as error:
        return f"cannot be read: {error}"
    if live and path.endswith("/host_metrics.json"):
        return None  # stages are timed on until the run ends, and no commit is made for that alone
    if getattr(have, "run_id", None) != getattr(want, "run_id", None):
        return f"speaks of run {getattr(have, 'run_id', None)}"
    one, other = _plain(want), _plain(have)
    if one == other:
        return None
    if one.get("seq") != other.get("seq"):
        return (
            f"says {other.get('state')} (seq {other.get('seq')}),"
            f" the database says {one.get('state')} (seq {one.get('seq')})"
        )
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return f"does not say what the database says of {', '.join(names)}"


def _plain(record: Record) -> dict[str, Any]:
    """A record's members; of the order of those who do not serve nothing is said."""
    plain: dict[str, Any] = msgspec.to_builtins(record)
    if isinstance(record, WorkerSelection):
        plain["candidates"] = sorted(plain["candidates"], key=lambda each: each["worker"])
    return plain


def published_steps(run: m.Run) -> dict[str, int]:
    """The folders in which the row has a worker's set stand, and their steps."""
    return {
        step_dir(run, index): index
        for index, step in enumerate(run.steps)
        if step.summary is not None and not step.host_made
    }


def compare_set(run: m.Run, index: int, summary: bytes | None, state: bytes | None) -> Iterator[str]:
    """Where a published set's last word is not the row's; what is missing is found elsewhere."""
    step = run.steps[index]
    try:
        said = None if summary is None else decode_record(summary, Summary)
        ended = None if state is None else decode_record(state, JobStateRecord)
    except ValueError as error:
        yield f"cannot be read: {error}"
        return
    if said is not None and step.summary is not None and said != step.summary:
        yield f"summary.json says {said.status}, exit {said.exit_code}; the database has another summary"
    if ended is not None and (ended.state, ended.seq) != (step.state, step.seq):
        yield (
            f"job_state.json says {ended.state} (seq {ended.seq}),"
            f" the database says {step.state} (seq {step.seq})"
        )


def set_finding(run_id: str, path: str, what: str) -> Finding:
    """Something wrong with a published set."""
    return Finding(severity="error", area="set", path=path, what=what, remedy=_COPY, run_id=run_id)
