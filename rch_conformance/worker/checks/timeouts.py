"""Section 4: the timeouts of a job, which its worker keeps by itself."""

from __future__ import annotations

import time

from rch_conformance.worker.channel import Silence
from rch_conformance.worker.jobs import Log, wait_for_end
from rch_conformance.worker.rig import Rig
from rch_conformance.worker.suite import check, expect_same

_OVERALL_SECONDS = 2
_PAUSE_SECONDS = 0.05
_PATIENCE_SECONDS = 30.0
"""Beyond `overall_seconds`: for the graces of signals, and for the set to be sealed."""


@check("4", "a job that outlasts timeouts.overall_seconds is ended by its worker: FAILED with 40")
def overall_timeout_is_kept(rig: Rig) -> None:
    rig.end_running()
    job = rig.job(rig.project().argv("slow"))
    config = job.payload["job"]["effective_config"]["config"]
    config["timeouts"] = {"overall_seconds": _OVERALL_SECONDS, "idle_log_seconds": _OVERALL_SECONDS}
    rig.submit(job).payload  # noqa: B018  (`Broken` for a refusal)
    try:
        status = wait_for_end(rig.peer, job.job_id, min(rig.job_timeout, _PATIENCE_SECONDS))
    except Silence:
        rig.ask("cancel", {"job_id": job.job_id, "reason": "USER"})
        wait_for_end(rig.peer, job.job_id, rig.job_timeout)
        raise
    expect_same("state", status.get("state"), "FAILED")
    expect_same("exit_code", status.get("exit_code"), 40)


@check("4", "a job that its host cancels for TIMEOUT_IDLE is timed out: FAILED with 40, and says so")
def timeout_of_the_host_is_a_failure(rig: Rig) -> None:
    rig.end_running()
    job = rig.job(rig.project().argv("slow"))
    submitted = rig.submit(job).payload
    deadline = time.monotonic() + rig.job_timeout
    while rig.result("status", job_id=job.job_id).get("state") == "QUEUED" and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    rig.result("cancel", job_id=job.job_id, reason="TIMEOUT_IDLE")
    outcome = rig.end_of(job, submitted, Log())
    expect_same("state", outcome.status.get("state"), "FAILED")
    expect_same("exit_code", outcome.status.get("exit_code"), 40)
    summary = outcome.set.record("summary.json")
    told = [summary.get(name) for name in ("status", "failure_kind", "failure_subkind")]
    expect_same("status, kind and subkind of its summary", told, ["failed", "EXECUTOR", "TIMEOUT_IDLE"])
