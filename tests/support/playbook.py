"""Drives the core by hand: events in, effects out, in the manner of `>> event / << effect`."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from rch.contract.records import (
    Accepted,
    AcceptedStep,
    Capabilities,
    Capacity,
    Limits,
    Reason,
    RunOptions,
    Source,
    Summary,
    ToolchainEntry,
)
from rch.contract.worker_rpc import HeardProbe
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core

E = TypeVar("E", bound=fx.Effect)

T0 = 1_700_000_000.0
SOURCE = "a" * 64


def capabilities(**changes: Any) -> Capabilities:
    """A Linux worker with one Swift toolchain."""
    base: dict[str, Any] = {
        "hostname": "host",
        "agent_version": "0.1.0",
        "probed_at": "2023-11-14T22:13:20.000Z",
        "os_name": "Linux",
        "os_version": "debian-12",
        "os_build": None,
        "arch": "x86_64",
        "toolchains": (ToolchainEntry(kind="swift", version="6.3.1", path="/opt/swift/usr", active=True),),
        "capacity": Capacity(
            cpus=2, memory_bytes=1, slots_total=1, slots_free=1, disk_free_bytes=1, load_milli=0
        ),
        "limits": Limits(max_upload_bytes=0, max_artifact_bytes=0, max_log_bytes=0),
    }
    return Capabilities(**{**base, **changes})


def report(worker: str = "mac", *, priority: int = 100, **changes: Any) -> ev.ProbeReport:
    """A worker that answered its probe."""
    base: dict[str, Any] = {
        "worker": worker,
        "host": f"{worker}.example",
        "priority": priority,
        "tags": (),
        "duration_ms": 3,
        "age_seconds": 0,
        "fresh": True,
        "result": HeardProbe(
            rch_xcode_lane_version="1",
            protocol_min=1,
            protocol_max=1,
            features=("session", "upload", "tail", "lease", "lease_renew"),
            capabilities=capabilities(),
        ),
    }
    return ev.ProbeReport(**{**base, **changes})


def caching(worker: str = "mac", **changes: Any) -> ev.ProbeReport:
    """A worker that offers the result cache."""
    told = report(worker, **changes)
    if told.result is None:
        raise AssertionError("a worker that says nothing offers nothing")
    features = (*told.result.features, "result_cache")
    return msgspec.structs.replace(told, result=msgspec.structs.replace(told.result, features=features))


def unleased(worker: str = "mac", *, slots: int = 1, **changes: Any) -> ev.ProbeReport:
    """A worker that gives no leases, with so many slots."""
    told = report(worker, **changes)
    if told.result is None:
        raise AssertionError("a worker that says nothing offers nothing")
    features = tuple(each for each in told.result.features if not each.startswith("lease"))
    room = msgspec.structs.replace(told.result.capabilities.capacity, slots_total=slots)
    capabilities = msgspec.structs.replace(told.result.capabilities, capacity=room)
    result = msgspec.structs.replace(told.result, features=features, capabilities=capabilities)
    return msgspec.structs.replace(told, result=result)


def unreachable(worker: str = "mac", *, priority: int = 100, tags: tuple[str, ...] = ()) -> ev.ProbeReport:
    """A worker that could not be asked."""
    return report(
        worker,
        priority=priority,
        tags=tags,
        result=None,
        error="connection refused",
        error_kind="SSH",
        error_subkind="UNREACHABLE",
    )


def accepted(
    run_id: str = "run-00000001",
    actions: tuple[str, ...] = ("build", "test"),
    *,
    rejected: bool = False,
    **options: Any,
) -> Accepted:
    """A run of a Swift package as intake would accept it."""
    knobs: dict[str, Any] = {
        "backend": "swiftpm",
        "artifact_profile": "rich",
        "continue_on_failure": False,
        "queue": True,
        "priority": 100,
        "tags": (),
        "on_busy": "next",
        "max_wait_seconds": 3600,
        "probe_ttl_seconds": 300,
        "overall_seconds": 1800,
        "idle_log_seconds": 300,
        "connect_timeout_seconds": 30,
        "toolchain": {},
        "destination": None,
    }
    reasons = (Reason(code="DENIED_ACTION", subject="archive", message="archive is denied"),)
    return Accepted(
        created_at="2023-11-14T22:13:20.000Z",
        run_id=run_id,
        project="demo",
        root="/src/demo",
        origin="terminal",
        client_token=None,
        steps=tuple(
            AcceptedStep(
                index=index,
                action=action,
                job_id=f"{run_id}-job-{index}",
                host_nonce="n" * 32,
                original_argv=("swift", action),
                sanitized_argv=None if rejected and index == 0 else (action, "--configuration", "debug"),
                reasons=reasons if rejected and index == 0 else (),
            )
            for index, action in enumerate(actions)
        ),
        options=RunOptions(**{**knobs, **options}),
        source=Source(
            source_sha256=SOURCE,
            content_sha256="b" * 64,
            spool_name="spool.tar.zst",
            tar_bytes=10_240,
            compressed_bytes=900,
            files=7,
        ),
        git=None,
        effective_config={"backend": "swiftpm"},
        config_sources=(),
        redactions=(),
        policy={"backend": "swiftpm"},
        policy_sha256="c" * 64,
    )


def summary(run: m.Run, index: int, status: str = "success", **changes: Any) -> Summary:
    """The worker's summary of a step."""
    job = run.steps[index].job
    assert job is not None
    failed = status == "failed"
    base: dict[str, Any] = {
        "created_at": "2023-11-14T22:13:30.000Z",
        "run_id": run.run_id,
        "job_id": job.job_id,
        "job_key": job.job_key,
        "status": status,
        "failure_kind": "SWIFTPM" if failed else "CANCELLED" if status == "cancelled" else None,
        "exit_code": {"success": 0, "failed": 50, "cancelled": 80}[status],
        "attempts": 1,
        "backend": "swiftpm",
        "human_summary": f"{job.action} {status}",
        "duration_ms": 5,
        "artifact_profile": "rich",
        "simulated": False,
    }
    return Summary(**{**base, **changes})


class Playbook:
    """A core and the effects of the last event."""

    def __init__(self, *runs: m.Run) -> None:
        self.core = Core("/artifacts", runs)
        self.effects: list[fx.Effect] = []
        self.at = T0
        self.all_effects: list[fx.Effect] = []

    def feed(self, event: ev.AnyEvent) -> list[fx.Effect]:
        """`>> event`."""
        self.at += 0.25
        self.effects = self.core.handle(event)
        self.all_effects += self.effects
        return self.effects

    def accept(self, run: Accepted) -> m.Run:
        """A run comes in."""
        self.feed(ev.RunAccepted(at=self.at, accepted=run, reply=1))
        return self.core.runs[run.run_id]

    def answer(self, run: m.Run, event: type[Any], /, **members: Any) -> list[fx.Effect]:
        """The answer to what `run` awaits now."""
        return self.feed(event(at=self.at, run_id=run.run_id, op=run.op, **members))

    def of(self, kind: type[E]) -> list[E]:
        """`<< effects` of one kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def one(self, kind: type[E]) -> E:
        """The only `<< effect` of its kind."""
        found = self.of(kind)
        assert len(found) == 1, f"{kind.__name__}: {self.effects}"
        return found[0]

    # --- the usual way of a run -------------------------------------------------------

    def reserve(self, run: m.Run, worker: str = "mac") -> list[fx.Effect]:
        """Probe and lease succeed."""
        self.answer(run, ev.Probed, reports=(report(worker),), embedded=False)
        return self.grant(run, worker)

    def grant(self, run: m.Run, worker: str = "mac") -> list[fx.Effect]:
        """The lease that is asked for is granted."""
        return self.answer(
            run, ev.Reserved, worker=worker, lease_id=f"lease-{run.run_id}", fence=1, ttl_seconds=90
        )

    def offered(self, run: m.Run, *workers: str) -> list[fx.Effect]:
        """These workers answer, each with the result cache."""
        reports = tuple(caching(worker) for worker in workers or ("mac",))
        return self.answer(run, ev.Probed, reports=reports, embedded=False)

    def to_step(self, run: m.Run) -> list[fx.Effect]:
        """Up to the first step's submit."""
        self.reserve(run)
        return self.answer(run, ev.SourceKnown, exists=True)

    def follow(self, run: m.Run) -> list[fx.Effect]:
        """The step that is submitted runs."""
        return self.answer(run, ev.Submitted, state="RUNNING", seq=2)

    def news(self, run: m.Run, state: str, seq: int, cursor: str | None) -> list[fx.Effect]:
        """The tail of the step that runs answers."""
        return self.answer(
            run, ev.TailNews, state=state, seq=seq, next_cursor=cursor, log_offset=0, log_bytes=0, ms=1000
        )

    def finish_step(self, run: m.Run, index: int, status: str = "success") -> list[fx.Effect]:
        """Submit, run, end, fetch and publish one step."""
        self.follow(run)
        state = {"success": "SUCCEEDED", "failed": "FAILED", "cancelled": "CANCELLED"}[status]
        self.news(run, state, 3, None)
        self.answer(
            run,
            ev.Fetched,
            summary=summary(run, index, status),
            state=state,
            seq=3,
            updated_at="2023-11-14T22:13:30.000Z",
        )
        return self.answer(run, ev.Published, found=True)
