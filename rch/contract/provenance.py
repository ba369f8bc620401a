"""The in-toto statements about a job: SLSA provenance v1, and test-result v0.1 of a `test` (section 10).

Every member follows from the files of the set. The worker makes the statements of it and signs them; the
host makes them again and holds what was signed to that, member by member. What a newer worker adds
beside is left alone. docs/attestation.md has the form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from rch.contract.canonical import jcs_sha256
from rch.contract.dsse import Statement
from rch.contract.ids import parse_timestamp, timestamp
from rch.contract.junit_names import names_in
from rch.contract.records import Attestation, Entry, Job, JobStateRecord, Summary, TestSummary

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
BUILD_TYPE, SIMULATED_BUILD_TYPE = "rch-xcode:job@1", "rch-xcode:simulated-job@1"
MAX_BUNDLE_SUBJECTS = 64
"""Of a result bundle so many files are subjects of their own; the manifest has all of them."""

_MAIN = (
    "summary.json",
    "build.log",
    "build_summary.json",
    "test_summary.json",
    "junit.xml",
    "events.jsonl",
)
_CONFIGURATION = ("effective_config.json", "invocation.json", "toolchain.json", "destination.json")
_BUNDLE = "result.xcresult/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a set says of itself. `attestation` names its key, its signature is not looked at."""

    attestation: Attestation
    job: Job
    summary: Summary
    state: JobStateRecord
    entries: Sequence[Entry]
    tests: TestSummary | None = None
    junit: bytes | None = None


def statements(told: Told) -> tuple[Statement, ...]:
    """Provenance, and the test result where the job is a `test`."""
    found = [_statement(PROVENANCE, _subjects(told), _provenance(told))]
    if told.job.action == "test":
        subjects = [_source(told), _manifest(told)]
        found.append(_statement(TEST_RESULT, subjects, _test_result(told)))
    return tuple(found)


def _statement(kind: str, subject: list[dict[str, Any]], predicate: dict[str, Any]) -> Statement:
    return {"_type": STATEMENT, "subject": subject, "predicateType": kind, "predicate": predicate}


# --- provenance ---------------------------------------------------------------------------


def _provenance(told: Told) -> dict[str, Any]:
    job, said = told.job, told.attestation
    inputs = job.job_key_inputs
    began = parse_timestamp(told.state.updated_at) - told.summary.duration_ms / 1000
    return {
        "buildDefinition": {
            "buildType": SIMULATED_BUILD_TYPE if said.simulated else BUILD_TYPE,
            "externalParameters": {
                "action": job.action,
                "argv": list(inputs.sanitized_argv),
                "artifact_profile": job.artifact_profile,
                "destination": dict(inputs.destination),
                "original_constraint": job.original_constraint,
                "configuration": list(_listed(told, _CONFIGURATION[:1])),
            },
            "internalParameters": {**_facts(told), **_left_out(told)},
            "resolvedDependencies": [_source(told), _toolchain(job)],
        },
        "runDetails": {
            "builder": {"id": f"rch-xcode:worker/{said.worker.get('fingerprint')}"},
            "metadata": {
                "invocationId": job.job_id,
                "startedOn": timestamp(began),
                "finishedOn": told.state.updated_at,
            },
        },
    }


def _facts(told: Told) -> dict[str, Any]:
    """What the attestation and the summary say too, to be compared."""
    said, summary = told.attestation, told.summary
    facts = {
        "run_id": said.run_id,
        "job_id": said.job_id,
        "job_key": said.job_key,
        "host_nonce": said.host_nonce,
        "source_sha256": said.source_sha256,
        "manifest_sha256": said.manifest_sha256,
        "capabilities_sha256": said.capabilities_sha256,
        "backend": dict(said.backend),
        "worker": dict(said.worker),
        "simulated": said.simulated,
        "status": summary.status,
        "exit_code": summary.exit_code,
        "failure_kind": summary.failure_kind,
    }
    if summary.cached_from_job_id is not UNSET:
        facts["cached_from_job_id"] = summary.cached_from_job_id
    return facts


def _source(told: Told) -> dict[str, Any]:
    digest = told.attestation.source_sha256
    return {"name": "source", "uri": f"rch-xcode:source/{digest}", "digest": {"sha256": digest}}


def _toolchain(job: Job) -> dict[str, Any]:
    """By name alone: nobody has read its bytes, so there is no digest of them."""
    members = dict(job.job_key_inputs.toolchain)
    uri = f"rch-xcode:toolchain/{jcs_sha256(members)}"
    return {"name": "toolchain", "uri": uri, "annotations": members}


def _manifest(told: Told) -> dict[str, Any]:
    return {"name": "manifest.json", "digest": {"sha256": told.attestation.manifest_sha256}}


def _subjects(told: Told) -> list[dict[str, Any]]:
    bundle = _bundle(told)[:MAX_BUNDLE_SUBJECTS]
    return [_manifest(told), *_listed(told, (*_MAIN, *bundle))]


def _bundle(told: Told) -> list[str]:
    """The files of a result bundle, in the manifest's order."""
    return [each.path for each in told.entries if each.type == "file" and each.path.startswith(_BUNDLE)]


def _left_out(told: Told) -> dict[str, int]:
    """How many subjects there would be beyond those that are named; not a word where there are none."""
    beyond = len(_bundle(told)) - MAX_BUNDLE_SUBJECTS
    return {"subjects_left_out": beyond} if beyond > 0 else {}


def _listed(told: Told, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Those of the files that the set has, with their digests."""
    found = {entry.path: entry.sha256 for entry in told.entries if entry.type == "file"}
    for name in names:
        if name in found:
            yield {"name": name, "digest": {"sha256": found[name]}}


# --- test result --------------------------------------------------------------------------


def _test_result(told: Told) -> dict[str, Any]:
    names = names_in(told.junit)
    predicate: dict[str, Any] = {
        "result": _result(told),
        "configuration": list(_listed(told, _CONFIGURATION)),
        "rch_facts": _facts(told),
    }
    if names is not None:
        predicate |= {
            "passedTests": names.passed,
            "warnedTests": names.warned,
            "failedTests": names.failed,
            "rch_names_left_out": names.left_out,
        }
    if (tests := told.tests) is not None:
        predicate["rch_counts"] = {
            "total": tests.total,
            "passed": tests.passed,
            "failed": tests.failed,
            "skipped": tests.skipped,
            "expected_failures": tests.expected_failures,
            "flaky": len(tests.flaky),
        }
    return predicate


def _result(told: Told) -> str:
    """PASSED is what ran to its end with real tools and no retry; stand-ins pass nothing."""
    if told.summary.status != "success":
        return "FAILED"
    flaky = told.tests is not None and bool(told.tests.flaky)
    return "WARNED" if flaky or told.attestation.simulated else "PASSED"


# --- what does not agree ------------------------------------------------------------------


def disagreements(want: Any, told: Any, where: str = "") -> Iterator[str]:
    """Where a statement does not say what it should, a path each; members beside are its own affair.

    Lists of descriptors are compared by the descriptors' names, all others as they are. A list holds what
    it should and nothing else, a digest too; for subjects that is `strange_subjects`.
    """
    if isinstance(want, dict):
        if not isinstance(told, dict):
            yield where or "statement"
            return
        for key, value in want.items():
            inner = f"{where}.{key}" if where else key
            if key not in told:
                yield inner
            else:
                yield from disagreements(value, told[key], inner)
        if where.endswith(".digest"):
            yield from (f"{where}.{key}" for key in told if key not in want)
    elif want and _is_named(want) and _is_named(told):
        by_name = {each["name"]: each for each in told}
        for each in want:
            yield from disagreements(each, by_name.pop(each["name"], None), f"{where}[{each['name']}]")
        if where != "subject":
            yield from (f"{where}[{name}]" for name in by_name)
    elif isinstance(want, bool) is not isinstance(told, bool) or want != told:
        yield where


def _is_named(value: Any) -> bool:
    """Whether it is a list of descriptors with a name each, no name twice."""
    if not isinstance(value, list) or not all(isinstance(each, dict) and "name" in each for each in value):
        return False
    names = [each["name"] for each in value]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def strange_subjects(statement: Statement, told: Told) -> Iterator[str]:
    """Subjects that are neither of the set nor what it was made from."""
    known = {entry.path: entry.sha256 for entry in told.entries if entry.type == "file"}
    known |= {"manifest.json": told.attestation.manifest_sha256, "source": told.attestation.source_sha256}
    subjects = statement.get("subject")
    for each in subjects if isinstance(subjects, list) else [None]:
        name = each.get("name") if isinstance(each, dict) else None
        digest = each.get("digest") if isinstance(each, dict) else None
        if not isinstance(name, str) or name not in known or digest != {"sha256": known[name]}:
            yield f"subject[{name}]" if isinstance(name, str) else "subject"
