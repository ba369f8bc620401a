"""Section 3.3: what `submit` checks before anything is executed."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

from rch_conformance.checks import Broken, NotOffered
from rch_conformance.worker.forms import jcs_sha256, sha256
from rch_conformance.worker.jobs import Job, make_job, wait_for_end
from rch_conformance.worker.peer import Answer, new_id
from rch_conformance.worker.project import CONFIG
from rch_conformance.worker.rig import Rig
from rch_conformance.worker.suite import check, expect

_END_SECONDS = 30.0
_REJECTED = 10
_OUTSIDE = ("/tmp/rch-conformance-elsewhere", "../rch-conformance-elsewhere", "Sources/../../elsewhere")  # noqa: S108  (never opened)


def never_ran(rig: Rig, job: Job, answer: Answer, *codes: str) -> None:
    """`Broken` unless a submit was refused and the worker knows nothing of the job.

    One that was taken is ended first, so that it takes no slot from the checks that follow.
    """
    if answer.ok:
        _end(rig, job)
    answer.refused_with(*codes)
    rig.ask("status", {"job_id": job.job_id}).refused_with("JOB_NOT_FOUND")


def _end(rig: Rig, job: Job) -> None:
    with contextlib.suppress(Exception):  # what is wrong with the worker is told by the caller
        rig.ask("cancel", {"job_id": job.job_id, "reason": "USER"})
        wait_for_end(rig.peer, job.job_id, min(rig.job_timeout, _END_SECONDS))


@check("3.3", "a submit whose job_key is not that of job_key_inputs is refused")
def job_key_is_checked(rig: Rig) -> None:
    job = rig.job(job_key="ab" * 32)
    never_ran(rig, job, rig.submit(job), "INVALID_REQUEST", "JOB_KEY_MISMATCH")


@check("3.3", "a submit whose source is not stored is answered SOURCE_MISSING")
def source_is_needed(rig: Rig) -> None:
    job = rig.job(inputs={"source_sha256": sha256(new_id().encode())})
    never_ran(rig, job, rig.submit(job), "SOURCE_MISSING")


@check("3.3", "a submit that names a toolchain that is not there is answered TOOLCHAIN_CHANGED")
def toolchain_is_checked(rig: Rig) -> None:
    for name in rig.project().toolchain:
        if name != "arch":
            changed = {**rig.project().toolchain, name: f"{rig.project().toolchain[name]}9"}
            job = rig.job(inputs={"toolchain": changed})
            never_ran(rig, job, rig.submit(job), "TOOLCHAIN_CHANGED")


@check("3.3", "a submit that names a destination that is not there is answered TOOLCHAIN_CHANGED")
def destination_is_checked(rig: Rig) -> None:
    there = rig.project().destination
    runtime = {name: f"{value}9" for name, value in there.items() if name.startswith("sim_runtime")}
    for changes in ({"os_version": "0.0.9", **runtime}, {"name": "Elsewhere 9"}):
        job = rig.job(inputs={"destination": {**there, **changes}})
        never_ran(rig, job, rig.submit(job), "TOOLCHAIN_CHANGED")
    job = rig.job(inputs={"destination": {**there, "provisioning": "elsewhere"}})
    never_ran(rig, job, rig.submit(job), "TOOLCHAIN_CHANGED", "INVALID_REQUEST")


@check("3.3", "a submit whose job_id or run_id is no id is refused, whatever path it spells")
def ids_of_a_submit_are_ids(rig: Rig) -> None:
    rig.source()
    under = rig.under(rig.job())
    for bad in ("../../../etc/passwd", "a/b/../../../../escaped", "", "." * 20):
        for job in (rig.job(job_id=bad or "-"), rig.job(run_id=bad)):
            answer = rig.ask("submit", {**job.payload, **under})
            if answer.ok:
                rig.ask("cancel", {"job_id": job.job_id, "reason": "USER"})
            answer.refused_with("INVALID_REQUEST")


@check("3.3", "the worker classifies sanitized_argv again, and rejects what its grammar does not know")
def argv_is_classified_again(rig: Rig) -> None:
    for argv in rig.project().denied:
        job = rig.job(argv)
        job.payload["job"]["action"] = job.payload["invocation"]["accepted_action"] = "build"
        never_ran(rig, job, rig.submit(job), "CLASSIFIER_REJECTED")


@check("3.3", "a policy that comes with the submit permits nothing")
def policy_of_a_host_permits_nothing(rig: Rig) -> None:
    job = rig.job(rig.project().denied[1])
    policy = {
        "backend": rig.project().backend,
        "allow_narrowing": True,
        "allow_flags": ["-Xswiftc", "-arch"],
    }
    record = {**job.payload["classifier_policy"], "policy": policy}
    job.payload["invocation"]["classifier_policy_sha256"] = jcs_sha256(policy)  # no lie but the permission
    never_ran(rig, job, rig.submit(job, classifier_policy=record), "CLASSIFIER_REJECTED")


@check("3.3", "names are taken from the bundle's own .rch/xcode.toml, not from what the host says")
def names_come_from_the_bundle(rig: Rig) -> None:
    items = tuple(item for item in rig.project().items if item.path != CONFIG)
    text = b'schema_version = 1\nbackend = "xcodebuild"\n[project]\nproject = "Elsewhere.xcodeproj"\n'
    text += b'schemes = ["Elsewhere"]\n[destination]\nvalue = "platform=macOS"\n'
    other = replace(rig.project(), items=(*items, replace(items[0], path=CONFIG, data=text)))
    expect(rig.upload(other.tar).ok, "the source was refused")
    job = make_job(other, rig.run_id, rig.project().argv("build"))
    never_ran(rig, job, rig.submit(job), "CLASSIFIER_REJECTED")


@check(
    "3.3", "a project.package outside of the source is refused, or its job rejected, and not built there"
)
def package_is_inside(rig: Rig) -> None:
    if rig.project().backend != "swiftpm":
        raise NotOffered("swift", "a project.package is a Swift package's, and the worker has no Swift")
    for place in _OUTSIDE:
        job = rig.job()
        told: dict[str, Any] = job.payload["job"]["effective_config"]
        told["config"] = {**told["config"], "project": {"package": place}}
        answer = rig.submit(job)
        if not answer.ok:
            never_ran(rig, job, answer, "CLASSIFIER_REJECTED", "INVALID_REQUEST")
            continue
        try:
            ended = wait_for_end(rig.peer, job.job_id, rig.job_timeout)
        except Broken:
            _end(rig, job)
            raise
        expect(
            ended.get("exit_code") == _REJECTED,
            f"project.package {place!r} leaves the source; the job ended {ended.get('state')}, exit_code"
            f" {ended.get('exit_code')!r}: neither was the submit refused, nor is the end a rejection (10)",
        )


@check("3.3", "an invocation that is not that of job_key_inputs is refused")
def invocation_is_the_jobs_own(rig: Rig) -> None:
    job = rig.job()
    other = {**job.payload["invocation"], "sanitized_argv": list(rig.project().argv("passing"))}
    never_ran(rig, job, rig.submit(job, invocation=other), "INVALID_REQUEST", "CLASSIFIER_REJECTED")


@check("3.3", "an action beside build and test is refused")
def other_actions_are_refused(rig: Rig) -> None:
    for action in ("archive", "clean", "shell"):
        job = rig.job((action,))
        never_ran(rig, job, rig.submit(job), "INVALID_REQUEST", "CLASSIFIER_REJECTED")


@check("3.3", "a job_state_seq that is no positive number is refused")
def seq_of_a_submit_is_positive(rig: Rig) -> None:
    for seq in (0, -3, "one"):
        job = rig.job()
        never_ran(rig, job, rig.submit(job, job_state_seq=seq), "INVALID_REQUEST")


@check("3.3", "floats and integers beyond 2^53 in job_key_inputs are refused")
def numbers_beyond_the_canonical_form(rig: Rig) -> None:
    for value in (2**53 + 1, 1.5):
        job = rig.job()
        job.payload["job"]["job_key_inputs"] = {**job.inputs, "toolchain": {"n": value}}
        never_ran(rig, job, rig.submit(job), "INVALID_REQUEST")
