"""Section 3.3: results, idempotent submits, unknown jobs."""

from __future__ import annotations

import time

from rch.contract.worker_rpc import CancelResult, HasSourceResult, StatusResult, SubmitResult
from rch_conformance.worker.forms import sha256
from rch_conformance.worker.jobs import fetch
from rch_conformance.worker.peer import new_id
from rch_conformance.worker.rig import Rig
from rch_conformance.worker.suite import check, expect, expect_same, operations_on_jobs, shaped

_LOOK_SECONDS = 1.0
_REASONS = ("USER", "SIGNAL", "TIMEOUT_OVERALL", "TIMEOUT_IDLE", "SUPERSEDED")


@check("3.3", "has_source answers {exists}")
def has_source_has_its_shape(rig: Rig) -> None:
    told = shaped(rig.result("has_source", source_sha256=rig.source()), HasSourceResult, "has_source")
    expect_same("exists, of the source that was uploaded", told.exists, True)
    unknown = sha256(new_id().encode())
    expect_same(
        "exists, of an unknown source", rig.result("has_source", source_sha256=unknown).get("exists"), False
    )


@check("3.3", "submit answers {state, seq}")
def submit_has_its_shape(rig: Rig) -> None:
    told = shaped(rig.built().submitted, SubmitResult, "submit")
    # A build may come to its end before its submit is answered.
    legal = {("QUEUED", 1), ("RUNNING", 2), ("SUCCEEDED", 3)}
    expect(
        (told.state, told.seq) in legal,
        f"a fresh job is {told.state} with seq {told.seq}, not one of {sorted(legal)}",
    )


@check(
    "3.3", "status answers {state, seq, job_key, created_at, updated_at, log_bytes, artifacts_available}"
)
def status_has_its_shape(rig: Rig) -> None:
    outcome = rig.built()
    told = shaped(outcome.status, StatusResult, "status")
    expect_same("job_key", told.job_key, outcome.job.key)
    expect_same("artifacts_available, of a job at its end", told.artifacts_available, True)
    expect_same("exit_code, of a build that succeeds", told.exit_code, 0)
    expect_same("state, of a build that succeeds", told.state, "SUCCEEDED")


@check("3.3", "status counts the bytes of the log")
def status_counts_the_log(rig: Rig) -> None:
    log = rig.built().set.files.get("build.log", b"")
    expect_same("log_bytes", rig.built().status.get("log_bytes"), len(log))


@check("3.3", "a submit of a job at its end answers its state, and executes nothing")
def submit_again_at_the_end(rig: Rig) -> None:
    outcome = rig.built()
    again = rig.submit(outcome.job).payload
    wanted = (outcome.status.get("state"), outcome.status.get("seq"))
    expect(
        (again.get("state"), again.get("seq")) == wanted, f"the second submit says {again}, not {wanted}"
    )
    deadline = time.monotonic() + _LOOK_SECONDS
    while time.monotonic() < deadline:
        now = rig.result("status", job_id=outcome.job.job_id)
        expect(
            (now.get("state"), now.get("seq")) == wanted,
            f"after a second submit the job went on: {now.get('state')}, seq {now.get('seq')}",
        )
        time.sleep(0.1)
    anew = fetch(rig.peer, outcome.job.job_id)
    expect(sha256(anew.body) == sha256(outcome.fetched.body), "after a second submit the set is another")


@check("3.3", "a job is executed once: its summary tells of one attempt")
def one_attempt(rig: Rig) -> None:
    for make in (rig.built, rig.passed):
        expect_same("attempts", make().set.record("summary.json").get("attempts"), 1)


@check("3.3", "a submit of a known job_id with another job_key is answered JOB_KEY_MISMATCH")
def one_id_is_one_job(rig: Rig) -> None:
    job = rig.job(rig.project().argv("passing"), job_id=rig.built().job.job_id)
    rig.submit(job).refused_with("JOB_KEY_MISMATCH")


@check("3.3", "status, tail and fetch of a job that is not known are answered JOB_NOT_FOUND")
def unknown_jobs(rig: Rig) -> None:
    for op in operations_on_jobs(rig):
        rig.ask(op, {"job_id": new_id()}).refused_with("JOB_NOT_FOUND")


@check("3.3", "a cancel of a job that is not known leaves a tombstone: a late submit of it ends cancelled")
def tombstone(rig: Rig) -> None:
    outcome = rig.buried()
    expect_same("the state of the late submit's job", outcome.status.get("state"), "CANCELLED")
    expect_same("its exit code", outcome.status.get("exit_code"), 80)
    summary = outcome.set.record("summary.json")
    expect_same("its summary's status", summary.get("status"), "cancelled")
    expect(
        "backend_exit_code" not in summary, "a tool was run for a job that was cancelled before its submit"
    )


@check("3.3", "a cancel answers {state}, and leaves a job at its end as it is")
def cancel_at_the_end(rig: Rig) -> None:
    job_id = rig.built().job.job_id
    told = shaped(rig.result("cancel", job_id=job_id, reason="USER"), CancelResult, "cancel")
    expect_same("state", told.state, rig.built().status.get("state"))
    after = rig.result("status", job_id=job_id)
    expect_same("seq after the cancel", after.get("seq"), rig.built().status.get("seq"))


@check("3.3", "a cancel is taken for each of the five reasons")
def reasons_are_taken(rig: Rig) -> None:
    for reason in _REASONS:
        answer = rig.ask("cancel", {"job_id": new_id(), "reason": reason})
        expect(answer.ok, f"a cancel for {reason} was refused: {answer.shown()}")


@check("3.3", "the cancel of a running job answers where that job stands")
def cancel_of_a_running_job(rig: Rig) -> None:
    state = rig.cancelled().cancel.get("state")
    legal = ("RUNNING", "CANCEL_REQUESTED", "CANCELLED")
    expect(state in legal, f"the cancel is answered {state!r}, not one of {', '.join(legal)}")


@check("3.3", "a cancel for a reason that there is not is refused")
def reasons_are_known(rig: Rig) -> None:
    rig.ask("cancel", {"job_id": new_id(), "reason": "BOREDOM"}).refused_with("INVALID_REQUEST")
