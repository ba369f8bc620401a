"""A worker with one slot, as simple as can be: what it does and says, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import msgspec
from support.playbook import caching, capabilities, report, summary

from rch.contract.records import ToolchainEntry
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m

GOOD = "good"
TEMPERS = (GOOD, "gone", "another protocol", "another toolchain", "broken", "wrong key")
ERRORS = {
    "gone": ("SSH", "UNREACHABLE"),
    "broken": ("EXECUTOR", "PROTOCOL_ERROR"),
    "wrong key": ("SSH", "HOST_KEY"),
}
KINDS = {"BUSY": "WORKER_BUSY", "LEASE_EXPIRED": "WORKER_BUSY", "SOURCE_MISSING": "TRANSFER"}
STATUS = {"SUCCEEDED": "success", "FAILED": "failed", "CANCELLED": "cancelled"}


class Refused(Exception):  # noqa: N818  (the contract's word)
    """The worker says no, with this code."""


class NaiveWorker:
    """`leases` maps ids to runs, `jobs` ids to states; `taken`: somebody else has the slot.

    Without `leasing` it gives none, and a job that it does not know needs a free slot.
    """

    def __init__(self, *, leasing: bool = True) -> None:
        self.leasing = leasing
        self.temper = GOOD
        self.taken = False
        self.leases: dict[str, str] = {}
        self.jobs: dict[str, str] = {}
        self.executions: dict[str, int] = {}
        self.sources: set[str] = set()
        self.grants = 0

    def probe(self, effect: fx.Probe, *, cached: bool = False) -> ev.ProbeReport:
        """Its report as the edge makes it."""
        if effect.aside.get("mac") == "m":
            return report(mark="m", result=None)
        if self.temper in ERRORS:
            kind, subkind = ERRORS[self.temper]
            broken = self.temper == "broken"
            return report(
                mark="m",
                result=None,
                error=self.temper,
                error_kind=kind,
                error_subkind=subkind,
                broken=broken,
            )
        result = caching().result
        assert result is not None
        if not self.leasing:
            features = tuple(each for each in result.features if not each.startswith("lease"))
            result = msgspec.structs.replace(result, features=features)
        if self.temper == "another protocol":
            result = msgspec.structs.replace(result, protocol_min=7, protocol_max=9)
        if self.temper == "another toolchain":
            entry = ToolchainEntry(kind="swift", version="7.1", path="/opt/swift/usr", active=True)
            result = msgspec.structs.replace(result, capabilities=capabilities(toolchains=(entry,)))
        return report(mark="m", result=result, fresh=not cached)

    def answer(self, effect: fx.WorkerCall, base: dict[str, Any]) -> ev.Answer:
        """What it does and says; `Refused` where it says no."""
        if self.temper == "another protocol":
            raise Refused("UNSUPPORTED_PROTOCOL")
        match effect:
            case fx.Reserve():
                return self._reserve(effect, base)
            case fx.Release():
                self.leases.pop(effect.lease_id, None)
                return ev.Released(**base)
            case fx.HasSource():
                return ev.SourceKnown(**base, exists=effect.source_sha256 in self.sources)
            case fx.Upload():
                self.sources.add(effect.source.source_sha256)
                return ev.Uploaded(**base)
            case fx.Submit():
                return self._submit(effect, base)
            case fx.CancelJob():
                if self.jobs.get(effect.job_id, "RUNNING") == "RUNNING":
                    # Where it is not known, that is the tombstone.
                    self.jobs.setdefault(effect.job_id, "CANCELLED")
                    self.jobs[effect.job_id] = "CANCELLED"
                return ev.CancelNoted(**base, state=self.jobs[effect.job_id])
            case fx.Tail():
                return self._tail(effect, base)
            case _:
                raise AssertionError(effect)

    def _reserve(self, effect: fx.Reserve, base: dict[str, Any]) -> ev.Reserved:
        own = [lease for lease, run_id in self.leases.items() if run_id == effect.run_id]
        if effect.lease_id is not None and effect.lease_id not in self.leases:
            raise Refused("LEASE_EXPIRED")
        if not own and (self.leases or self.taken):
            raise Refused("BUSY")
        if not own:
            self.grants += 1
            own = [f"lease-{self.grants:06d}"]
            self.leases[own[0]] = effect.run_id
        granted: dict[str, Any] = {"worker": "mac", "lease_id": own[0], "fence": 1, "ttl_seconds": 90}
        return ev.Reserved(**base, **granted, renewal=effect.lease_id is not None)

    def _submit(self, effect: fx.Submit, base: dict[str, Any]) -> ev.Submitted:
        job_id = effect.job.job_id
        if job_id not in self.jobs:
            if self.temper == "another toolchain":
                raise Refused("TOOLCHAIN_CHANGED")
            if self.leasing and effect.lease_id not in self.leases:
                raise Refused("LEASE_EXPIRED")
            if not self.leasing and (self.taken or "RUNNING" in self.jobs.values()):
                raise Refused("BUSY")
            if effect.job.job_key_inputs.source_sha256 not in self.sources:
                raise Refused("SOURCE_MISSING")
            self.jobs[job_id] = "RUNNING"
            self.executions[job_id] = self.executions.get(job_id, 0) + 1
        return ev.Submitted(**base, state=self.jobs[job_id], seq=effect.job_state_seq + 1)

    def _tail(self, effect: fx.Tail, base: dict[str, Any]) -> ev.TailNews:
        news: dict[str, Any]
        state = self.jobs.get(effect.job_id)
        if state is None:
            raise Refused("JOB_NOT_FOUND")
        if state == "RUNNING" and effect.cursor is None:
            news = {"state": "RUNNING", "seq": 2, "next_cursor": "c", "log_offset": 0, "log_bytes": 3}
            return ev.TailNews(**base, **news)
        if state == "RUNNING":
            state = self.jobs[effect.job_id] = "FAILED" if self.grants % 3 == 2 else "SUCCEEDED"
        news = {"state": state, "seq": 3, "next_cursor": None, "log_offset": 3, "log_bytes": 0}
        return ev.TailNews(**base, **news)

    def fetch(self, effect: fx.Fetch, run: m.Run, base: dict[str, Any], seq: int = 3) -> ev.Fetched:
        """The set of a job that is over."""
        state = self.jobs.get(effect.job.job_id)
        if state not in STATUS:
            raise Refused("JOB_NOT_FOUND")
        index = next(i for i, step in enumerate(run.accepted.steps) if step.job_id == effect.job.job_id)
        told: dict[str, Any] = {
            "summary": summary(run, index, STATUS[state]),
            "state": state,
            "seq": seq,
            "updated_at": "x",
        }
        return ev.Fetched(**base, **told)


def refusal(effect: fx.WorkerCall, code: str, at: float) -> ev.WorkerRefused:
    """A worker's no, as the edge tells it."""
    kind = "WORKER_INCOMPATIBLE" if code in {"UNSUPPORTED_PROTOCOL", "TOOLCHAIN_CHANGED"} else "EXECUTOR"
    return ev.WorkerRefused(
        at=at,
        run_id=effect.run_id,
        op=effect.op,
        operation=type(effect).__name__.lower(),
        code=code,
        message=code,
        kind=KINDS.get(code, kind),
        subkind="TOOLCHAIN_CHANGED" if code == "TOOLCHAIN_CHANGED" else None,
        retry_after=1.0,
    )
