"""Section 8: whether a set says what was asked for, and what was seen while its job ran."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rch.contract.framing import FrameError, decode_object
from rch_conformance.checks import Broken
from rch_conformance.worker.forms import jcs_sha256
from rch_conformance.worker.jobs import ArtifactSet
from rch_conformance.worker.rig import Outcome, Rig
from rch_conformance.worker.suite import check, expect, expect_same

_OF_RICH_ALONE = ("events.jsonl", "build_summary.json", "test_summary.json", "junit.xml")


def _ended(rig: Rig) -> Iterator[Outcome]:
    return rig.each(rig.built, rig.passed, rig.failed, rig.cancelled)


@check("8", "the summary has the verdict with its outcome, and the evidence that was used")
def verdict_is_on_record(rig: Rig) -> None:
    for outcome in _ended(rig):
        verdict = outcome.set.record("summary.json").get("verdict")
        expect(isinstance(verdict, dict), f"verdict of summary.json is {verdict!r}, no object")
        told = verdict if isinstance(verdict, dict) else {}
        expect(
            isinstance(told.get("outcome"), str) and told["outcome"],
            f"verdict is {told!r}, and its outcome no word",
        )
        evidence = told.get("evidence")
        expect(isinstance(evidence, list), f"verdict.evidence is {evidence!r}, no list")
        ended_by_itself = outcome.status.get("state") != "CANCELLED"
        expect(evidence or not ended_by_itself, "a job that came to its end has a verdict without evidence")


@check("8", "effective_config.json has the configuration and the sources that the host sent")
def configuration_is_kept(rig: Rig) -> None:
    sent = rig.built().job.payload["job"]["effective_config"]
    found = rig.built().set.record("effective_config.json")
    for name in ("config", "sources"):
        expect_same(f"{name} of effective_config.json", found.get(name), sent[name])


@check("8", "classifier_policy.json has the policy whose SHA-256 the invocation names")
def policy_is_kept(rig: Rig) -> None:
    found = rig.built().set
    wanted = rig.built().job.payload["invocation"]["classifier_policy_sha256"]
    named = found.record("invocation.json").get("classifier_policy_sha256")
    expect_same("classifier_policy_sha256 of invocation.json", named, wanted)
    try:
        digest = jcs_sha256(found.record("classifier_policy.json").get("policy"))
    except ValueError as error:
        raise Broken(f"policy of classifier_policy.json: {error}") from error
    expect_same("the SHA-256 of policy in classifier_policy.json", digest, wanted)


@check("8", "each pointer of job_index.json leads to the file of its name")
def pointers_are_right(rig: Rig) -> None:
    for outcome in _ended(rig):
        files = outcome.set.record("job_index.json").get("files")
        expect(isinstance(files, dict), f"files of job_index.json is {files!r:.200}, no object")
        for name, path in dict(files or {}).items():
            at = str(path).partition("/")[0].replace(".", "_")
            word = str(name).replace(".", "_").replace("-", "_")
            expect(
                at in {word, *(f"{word}_{kind}" for kind in _KINDS)},
                f"{name} points to {path!r}, another name",
            )


_KINDS = ("json", "jsonl", "log", "xml", "xcresult")


@check("8", "job_index.json and summary.json name the profile that was asked for")
def profile_is_named(rig: Rig) -> None:
    for outcome in rig.each(rig.built, rig.failed, rig.plain):
        wanted = outcome.job.payload["job"]["artifact_profile"]
        for name in ("job_index.json", "summary.json"):
            expect_same(
                f"artifact_profile of {name}", outcome.set.record(name).get("artifact_profile"), wanted
            )


@check("8", "the minimal profile of a job that ran has none of what rich adds")
def minimal_job_that_ran(rig: Rig) -> None:
    extra = [name for name in _OF_RICH_ALONE if name in rig.plain().set.files]
    expect(not extra, f"the minimal set of a build has {', '.join(extra)}")


@check("8", "events.jsonl has an event at least, and the events that tails gave", needs=("tail",))
def events_are_those_of_the_tail(rig: Rig) -> None:
    for make in (rig.built, rig.passed):
        found = _events(make().set)
        expect(found, "events.jsonl of a job that ran has no event")
        told = [each.get("n") for each in make().log.events]
        expect_same("the numbers of the events that were tailed", told, [each.get("n") for each in found])
        expect(make().log.events == found, "the events that were tailed are not those of events.jsonl")


def _events(found: ArtifactSet) -> list[dict[str, Any]]:
    try:
        return [decode_object(line) for line in found.files.get("events.jsonl", b"").splitlines()]
    except FrameError as error:
        raise Broken(f"events.jsonl: {error}") from error
