"""Section 8: what the records of a set say, and whether they agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

from rch.contract import records as types
from rch.contract.records import Record, decode_record
from rch_conformance.checks import Broken
from rch_conformance.worker.jobs import ArtifactSet
from rch_conformance.worker.rig import Outcome, Rig
from rch_conformance.worker.suite import check, expect, expect_same

_TYPES: dict[str, type[Record]] = {
    "job.json": types.Job,
    "job_state.json": types.JobStateRecord,
    "invocation.json": types.Invocation,
    "classifier_policy.json": types.ClassifierPolicyRecord,
    "effective_config.json": types.EffectiveConfig,
    "toolchain.json": types.Toolchain,
    "destination.json": types.Destination,
    "summary.json": types.Summary,
    "metrics.json": types.Metrics,
    "executor_env.json": types.ExecutorEnv,
    "manifest.json": types.Manifest,
    "attestation.json": types.Attestation,
    "job_index.json": types.JobIndex,
    "build_summary.json": types.BuildSummary,
    "test_summary.json": types.TestSummary,
}


def _ended(rig: Rig) -> Iterator[Outcome]:
    return rig.each(rig.built, rig.passed, rig.failed, rig.cancelled)


@check("8", "every record is of its type, with the schema_id and a version 1 of it")
def records_are_of_their_types(rig: Rig) -> None:
    for outcome in _ended(rig):
        found = outcome.set
        for name, kind in _TYPES.items():
            if name in found.files:
                try:
                    decode_record(found.files[name], kind)
                except ValueError as error:
                    raise Broken(f"{name}: {error}") from error


@check("8", "every record names its run, its job and its job_key")
def records_name_their_job(rig: Rig) -> None:
    for outcome in _ended(rig):
        names_its_job(outcome)


def names_its_job(outcome: Outcome) -> None:
    """`Broken` for a record of another run, job or key."""
    wanted = {"run_id": outcome.job.run_id, "job_id": outcome.job.job_id, "job_key": outcome.job.key}
    for name in _TYPES:
        if name in outcome.set.files:
            record = outcome.set.record(name)
            for member, value in wanted.items():
                expect_same(f"{member} of {name}", record.get(member), value)


@check("8", "what the host sent stands in the set as it was sent")
def given_records_are_kept(rig: Rig) -> None:
    found, job = rig.built().set, rig.built().job
    inputs = job.inputs
    expect_same("job_key_inputs of job.json", found.record("job.json").get("job_key_inputs"), inputs)
    expect_same("action of job.json", found.record("job.json").get("action"), "build")
    argv = found.record("invocation.json").get("sanitized_argv")
    expect_same("sanitized_argv of invocation.json", argv, inputs["sanitized_argv"])
    for name in ("toolchain", "destination"):
        record = found.record(f"{name}.json")
        for member, value in inputs[name].items():
            expect_same(f"{member} of {name}.json", record.get(member), value)


@check("8", "a build that succeeds has a summary of success with exit code 0")
def summary_of_success(rig: Rig) -> None:
    for make, action in ((rig.built, "build"), (rig.passed, "test")):
        outcome = make()
        summary = outcome.set.record("summary.json")
        what = f"of a {action} that succeeds"
        expect_same(f"status {what}", summary.get("status"), "success")
        expect_same(f"failure_kind {what}", summary.get("failure_kind"), None)
        expect_same(f"exit_code {what}", summary.get("exit_code"), 0)
        expect_same(f"exit_code {what}, by status", outcome.status.get("exit_code"), 0)


@check("8", "a failed test makes a summary of failure with exit code 50, told by status as well")
def summary_of_failure(rig: Rig) -> None:
    outcome = rig.failed()
    summary = outcome.set.record("summary.json")
    expect_same("status", summary.get("status"), "failed")
    kind = "SWIFTPM" if rig.project().backend == "swiftpm" else "XCODEBUILD"
    expect_same("failure_kind", summary.get("failure_kind"), kind)
    expect_same("failure_subkind", summary.get("failure_subkind"), "TESTS_FAILED")
    expect_same("exit_code", summary.get("exit_code"), 50)
    expect_same("exit_code by status", outcome.status.get("exit_code"), 50)
    expect(summary.get("backend_exit_code"), "the summary does not tell the tool's own exit code")


@check("8", "a cancelled job has a summary of cancellation with exit code 80")
def summary_of_cancellation(rig: Rig) -> None:
    summary = rig.cancelled().set.record("summary.json")
    expect_same("status", summary.get("status"), "cancelled")
    expect_same("failure_kind", summary.get("failure_kind"), "CANCELLED")
    expect_same("exit_code", summary.get("exit_code"), 80)


@check("8", "the summary names backend, profile, attempts, and whether stand-in tools made it")
def summary_has_its_members(rig: Rig) -> None:
    simulated = bool(rig.capabilities.get("simulated"))
    for outcome in _ended(rig):
        summary = outcome.set.record("summary.json")
        expect_same("backend", summary.get("backend"), rig.project().backend)
        expect_same("artifact_profile", summary.get("artifact_profile"), "rich")
        expect_same("simulated", summary.get("simulated"), simulated)
        expect(summary.get("human_summary"), "human_summary is empty")


@check("8", "the verdict of a narrowed test job has the scope on record")
def scope_is_on_record(rig: Rig) -> None:
    scope = rig.passed().set.record("summary.json").get("scope")
    expect(
        isinstance(scope, list) and scope,
        f"the scope of a narrowed test job is {scope!r}, no list of flags",
    )


@check("8", "test_summary.json counts the tests that ran, and junit.xml has a case for each")
def tests_are_counted(rig: Rig) -> None:
    for outcome, failed in zip(rig.each(rig.passed, rig.failed), (0, 1), strict=True):
        _counted(outcome.set, total=1, failed=failed)


def _counted(found: ArtifactSet, *, total: int, failed: int) -> None:
    told: dict[str, Any] = found.record("test_summary.json")
    expect_same("total of test_summary.json", told.get("total"), total)
    expect_same("failed of test_summary.json", told.get("failed"), failed)
    try:
        tree = ET.fromstring(found.files.get("junit.xml", b""))  # noqa: S314  (expat expands no more than it has)
    except ET.ParseError as error:
        raise Broken(f"junit.xml is no XML: {error}") from error
    expect_same("cases in junit.xml", len(list(tree.iter("testcase"))), total)
    expect_same("failures in junit.xml", len(list(tree.iter("failure"))), failed)


@check("8", "executor_env.json has names of variables, and no values")
def environment_has_no_values(rig: Rig) -> None:
    keys = rig.built().set.record("executor_env.json").get("keys")
    names = keys if isinstance(keys, list) else []
    expect(names, "executor_env.json names no variable")
    bad = [name for name in names if not isinstance(name, str) or "=" in name]
    expect(not bad, f"executor_env.json has more than names: {bad[:3]}")
