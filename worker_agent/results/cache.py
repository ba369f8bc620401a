"""The result cache: which sealed success answers which later job (spec section 11).

    results/<key>.json      the job whose sealed set is the origin, and the digest of its manifest

An entry is a hint, and nothing is kept for its sake: whoever is served copies the origin's files and
checks every byte of the copies first, so that a set that was swept or has changed costs no more than
an execution. Origins are executions alone, never jobs that were served themselves. What a build does
on this machine as this user can write here too: the cache is as trustworthy as the worker's account.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rch import __version__
from rch.config.invocation import own_selectors
from rch.contract.canonical import jcs_sha256
from rch.contract.decoding import decode_json
from rch.contract.errors import Failure
from rch.contract.policy import GRAMMARS
from rch.contract.records import Job, Manifest, Summary, decode_record
from rch.contract.results import covers, verdict_policy, wants_results
from rch.files.durable import is_temp_name, make_dirs, write_atomic
from worker_agent.backends import backend_for
from worker_agent.backends.config import config_of
from worker_agent.backends.env import job_env
from worker_agent.toolchains.versions import tools_of
from worker_agent.worker import Worker

MAX_ENTRIES = 1000
"""More are not kept, the newest first; an entry goes with its origin before that, as a rule."""

MAX_BYTES = 1 << 30
"""A larger set answers for none: who is served has every byte of it read while the submit waits."""

_DRAFT_SECONDS = 3600.0
_RETRIES = frozenset({"-retry-tests-on-failure", "-test-iterations"})
_ONLY = frozenset({"--filter", "-only-testing"})
_NARROWING = frozenset(
    spelling for grammar in GRAMMARS.values() for spelling, flag in grammar.flags.items() if flag.narrows
)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One origin. `executed_at` is when it ended, by the worker's own clock, for people."""

    job_id: str
    artifact_profile: str
    manifest_sha256: str
    executed_at: str


def key_of(worker: Worker, job: Job) -> str | None:
    """What must be alike for one job to answer for another; None: this one has no part in the cache."""
    config = config_of(job)
    if not worker.config.results_cache or not wants_results(config) or _is_narrowed_by_host(worker, job):
        return None
    if _RETRIES.intersection(job.job_key_inputs.sanitized_argv):
        return None  # a pass on a retry says less than a pass
    try:
        return jcs_sha256(
            {
                "agent_version": __version__,
                "backend": backend_for(job).name,
                "environment": _environment(worker, job),
                "job_key": job.job_key,
                "tools": tools_of(job.job_key_inputs.toolchain),
                "verdict_policy": _policy(worker, config),
            }
        )
    except (Failure, ValueError):  # no backend, or a config with values that no digest is made of
        return None


def _policy(worker: Worker, config: dict[str, Any]) -> dict[str, Any]:
    """What decides about the end: in the job's config, and the sizes that a set and a log may have."""
    limits = worker.config.max_artifact_bytes, worker.config.max_log_bytes
    return {**verdict_policy(config), "max_artifact_bytes": limits[0], "max_log_bytes": limits[1]}


def _is_narrowed_by_host(worker: Worker, job: Job) -> bool:
    """Whether the argv is less than the full gate, and not by what a step of the repo's own config names.

    The bundle's file decides, which is part of the key: a host may say of itself what it likes.
    """
    scope = set(_scope(job.job_key_inputs.sanitized_argv))
    if not scope:
        return False
    if {flag for flag, _ in scope} - _ONLY:
        return True
    facts = worker.sources.facts(job.job_key_inputs.source_sha256)
    names = {value for _, value in scope}
    return not any(names == set(own) for own in own_selectors(facts.config))


def _scope(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each narrowing flag of a sanitized argv with its value, of whichever tool."""
    words = iter(argv)
    for word in words:
        flag, colon, value = word.partition(":")
        if flag in _NARROWING:
            yield flag, value if colon else next(words, "")


def _environment(worker: Worker, job: Job) -> str:
    """A digest of the variables that the tool would see, but for its TMPDIR, which no two jobs share."""
    toolchain_dir = job.job_key_inputs.toolchain.get("toolchain_dir", "")
    env = job_env(worker.env, toolchain_dir=toolchain_dir, tmp=Path(), pass_env=worker.config.pass_env)
    del env["TMPDIR"]
    pairs = (os.fsencode(f"{name}={value}") for name, value in sorted(env.items()))
    return hashlib.sha256(b"\0".join(pairs)).hexdigest()


# --- entries ------------------------------------------------------------------------------


def find(worker: Worker, job: Job) -> tuple[str, Entry] | None:
    """The key of `job` and the entry that answers for it; None where it has to be executed."""
    key = key_of(worker, job)
    try:
        entry = None if key is None else lookup(worker, key, job.artifact_profile)
    except OSError:
        return None
    return None if key is None or entry is None else (key, entry)


def lookup(worker: Worker, key: str, profile: str) -> Entry | None:
    """The entry of `key`, if its set covers `profile`; one that cannot be read is dropped."""
    try:
        entry = decode_json(_place(worker, key).read_bytes(), Entry)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        drop(worker, key)
        return None
    return entry if covers(entry.artifact_profile, profile) else None


def store(worker: Worker, key: str, job: Job, ended_at: str) -> None:
    """Keep the sealed set of `job` as an origin, if it may be one. The caller owns the job's lock."""
    artifacts, summary = worker.jobs.artifacts(job.job_id), worker.jobs.summary(job.job_id)
    if artifacts is None or summary is None or not _may_answer(summary):
        return
    listed = (artifacts / "manifest.json").read_bytes()
    if sum(each.size for each in decode_record(listed, Manifest).entries) > MAX_BYTES:
        return
    before = lookup(worker, key, "rich")
    if job.artifact_profile != "rich" and before and worker.jobs.artifacts(before.job_id) is not None:
        return  # what is there answers for more
    entry = Entry(
        job_id=job.job_id,
        artifact_profile=job.artifact_profile,
        manifest_sha256=hashlib.sha256(listed).hexdigest(),
        executed_at=ended_at,
    )
    make_dirs(worker.paths.results)
    write_atomic(_place(worker, key), msgspec.json.encode(entry), mode=0o600)


def _may_answer(summary: Summary) -> bool:
    """A success of real tools, at the first execution, with all of its log, and no served one."""
    if summary.status != "success" or summary.exit_code != 0 or summary.simulated:
        return False
    served = summary.cached_from_job_id is not msgspec.UNSET
    return summary.attempts == 1 and not served and summary.log_truncated is msgspec.UNSET


def drop(worker: Worker, key: str) -> None:
    """Forget an entry that does not hold."""
    _place(worker, key).unlink(missing_ok=True)


def _place(worker: Worker, key: str) -> Path:
    return worker.paths.results / f"{key}.json"


# --- upkeep -------------------------------------------------------------------------------


def sweep_results(worker: Worker, now: float) -> None:
    """Remove entries whose origin is gone, those beyond the bound, and what a killed writer left.

    An entry that is written meanwhile may go with them: then the next such job executes.
    """
    folder = worker.paths.results
    found: list[tuple[float, Path]] = []
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            found.append((now - place.lstat().st_mtime, place))
    kept = 0
    for age, place in sorted(found):
        if is_temp_name(place.name):
            stale = age > _DRAFT_SECONDS
        else:
            stale = kept >= MAX_ENTRIES or not _stands(worker, place)
            kept += not stale
        if stale:
            place.unlink(missing_ok=True)


def _stands(worker: Worker, place: Path) -> bool:
    try:
        entry = decode_json(place.read_bytes(), Entry)
    except (OSError, msgspec.MsgspecError):
        return False
    return worker.jobs.artifacts(entry.job_id) is not None
