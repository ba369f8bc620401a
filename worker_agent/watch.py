"""Why a running job is to end: an intent, its lease, its time (spec sections 3.4, 4)."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from rch.contract.records import Job
from rch.contract.worker_rpc import Code, RpcError
from worker_agent.backends.config import config_of
from worker_agent.jobs import Jobs
from worker_agent.leases import Leases

DEFAULT_OVERALL_SECONDS = 1800.0
DEFAULT_IDLE_SECONDS = 300.0
MAX_SECONDS = 86_400
_LEASE_LOOK_SECONDS = 0.5


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one job in seconds."""

    overall: float = DEFAULT_OVERALL_SECONDS
    idle: float = DEFAULT_IDLE_SECONDS


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a job. `requested`: from outside, so that CANCEL_REQUESTED comes in between."""

    reason: str
    requested: bool


class Watch:
    """Looks out for the end of one job, cheaply enough to be asked every few milliseconds."""

    def __init__(self, job: Job, lease_id: str | None, *, jobs: Jobs, leases: Leases, began: float) -> None:
        """`began` is in seconds of `time.monotonic`; a machine that sleeps does not use up the time."""
        limits = timeouts(job)
        self.idle_seconds = limits.idle
        self._job_id = job.job_id
        self._lease_id = lease_id
        self._jobs = jobs
        self._leases = leases
        self._deadline = began + limits.overall
        self._next_lease_look = 0.0

    def look(self) -> Stop | None:
        """Why the job is to end now, if it is."""
        if self._jobs.is_cancelled(self._job_id):
            intent = self._jobs.cancel_intent(self._job_id)
            return Stop(reason=intent.reason if intent else "USER", requested=True)
        now = time.monotonic()
        if now > self._deadline:
            return Stop(reason="TIMEOUT_OVERALL", requested=False)
        if self._lease_id is not None and now > self._next_lease_look:
            self._next_lease_look = now + _LEASE_LOOK_SECONDS
            if self._leases.is_over(self._lease_id):
                return Stop(reason="LEASE_EXPIRED", requested=True)
        return None


def timeouts(job: Job) -> Timeouts:
    """The job's bounds; `RpcError` INVALID_REQUEST for what the contract does not allow."""
    table = config_of(job).get("timeouts", {})
    if not isinstance(table, dict):
        raise RpcError(Code.INVALID_REQUEST, "effective_config.timeouts is no table")
    overall = _seconds(table, "overall_seconds", DEFAULT_OVERALL_SECONDS, MAX_SECONDS)
    idle = _seconds(table, "idle_log_seconds", min(DEFAULT_IDLE_SECONDS, overall), overall)
    return Timeouts(overall=overall, idle=idle)


def _seconds(table: dict[str, Any], key: str, default: float, most: float) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise RpcError(
            Code.INVALID_REQUEST, f"timeouts.{key} {str(value)[:40]} is not over 0 and up to {most:g}"
        )
    return float(value)
