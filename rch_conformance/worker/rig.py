"""What the checks share: the probe, one uploaded source, one lease, and a few jobs that are run once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rch_conformance.checks import Broken, NotOffered
from rch_conformance.worker.forms import sha256
from rch_conformance.worker.jobs import (
    TERMINAL,
    ArtifactSet,
    Fetched,
    Job,
    Log,
    fetch,
    follow,
    make_job,
    take,
    unpack,
    wait_for_end,
)
from rch_conformance.worker.once import Once
from rch_conformance.worker.orphans import orphaned
from rch_conformance.worker.peer import Answer, Peer, new_id, request_line
from rch_conformance.worker.project import TICK, project_for

LEASE_SECONDS = 600
"""What a lease is asked for: long enough for the jobs of a run, short enough to be forgotten."""
LATE_SEQ = 5
"""The `job_state_seq` with which `extended` is submitted."""
UNKNOWN: dict[str, Any] = {"x_future": {"deep": [1, "two", None]}}
"""A member that no version 1 knows."""
_PAUSE_SECONDS = 0.2
_CLOSING_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A job that came to its end: what its submit, its tails, its status and its set said.

    `cancel` is the answer of the cancel that ended it, empty where none did.
    """

    job: Job
    submitted: dict[str, Any]
    log: Log
    status: dict[str, Any]
    fetched: Fetched
    cancel: dict[str, Any] = field(default_factory=dict)

    @property
    def set(self) -> ArtifactSet:
        """Its set."""
        return unpack(self.fetched)


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as it was granted."""

    run_id: str
    lease_id: str
    fence: int
    granted: Mapping[str, Any]

    @property
    def members(self) -> dict[str, Any]:
        """What a call under it carries."""
        return {"lease_id": self.lease_id, "fence": self.fence}


class Rig:
    """One worker under examination. `job_timeout` is how long a job may take, in seconds."""

    def __init__(self, peer: Peer, job_timeout: float) -> None:
        self.peer = peer
        self.job_timeout = job_timeout
        self.run_id = new_id()
        self.probe = Once(self._probe)
        self.project = Once(lambda: project_for(self.capabilities))
        self.source = Once(self._uploaded)
        self.built = Once(lambda: self._run("build"))
        self.passed = Once(lambda: self._run("passing"))
        self.failed = Once(lambda: self._run("failing"))
        self.cancelled = Once(self._cancelled)
        self.buried = Once(self._buried)
        self.plain = Once(self._plain)
        self.extended = Once(self._extended)
        self.served = Once(self._served)
        self.orphan = Once(lambda: orphaned(self))
        self._running: tuple[Job, dict[str, Any], Log] | None = None
        self._followed: Job | None = None
        self._leases: dict[str, Lease] = {}
        self._about = ""

    # --- asking ---------------------------------------------------------------------------

    def _probe(self) -> dict[str, Any]:
        told = self.peer.exchange(request_line("probe")).payload
        self.peer.sessions = "session" in (told.get("features") or ())
        return told

    @property
    def features(self) -> tuple[str, ...]:
        """What the worker offers."""
        features = self.probe().get("features")
        return tuple(map(str, features)) if isinstance(features, list) else ()

    @property
    def capabilities(self) -> dict[str, Any]:
        """What the worker says of itself."""
        told = self.probe().get("capabilities")
        return dict(told) if isinstance(told, dict) else {}

    def limit(self, name: str) -> int:
        """A bound of the worker's in bytes; `NotOffered` where it has none."""
        limits = self.capabilities.get("limits")
        value = limits.get(name, 0) if isinstance(limits, dict) else 0
        if not isinstance(value, int) or value <= 0:
            raise NotOffered(name, "the worker says that it has no such limit")
        return value

    def need(self, feature: str) -> None:
        """`NotOffered` for a feature that the worker does not name."""
        if feature not in self.features:
            raise NotOffered(feature, "not among the features of the probe")

    def ask(self, op: str, payload: Any = None, **members: Any) -> Answer:
        """One request, after the probe that says whether channels serve several."""
        self.probe()
        return self.peer.ask(op, payload, **members)

    def result(self, op: str, **payload: Any) -> dict[str, Any]:
        """The payload of a result."""
        return self.ask(op, payload).payload

    # --- sources --------------------------------------------------------------------------

    def upload(self, tar: bytes, body: bytes | None = None, **changes: Any) -> Answer:
        """Upload a tar, as it is unless another `body` is given; `changes` replace members.

        Those called `content_length`, `content_sha256`, `compression` and `format` go into the stream.
        """
        sent = tar if body is None else body
        return self.peer.exchange(upload_line(tar, sent, **changes), sent)

    def has(self, source_sha256: str) -> bool:
        """Whether the worker says that it has a source."""
        return self.result("has_source", source_sha256=source_sha256).get("exists") is True

    def _uploaded(self) -> str:
        self.probe()
        tar = self.project().tar
        told = self.upload(tar).payload
        if told.get("stored") is not True:
            raise Broken(f"the source was not stored: {told}")
        return sha256(tar)

    # --- leases ---------------------------------------------------------------------------

    def reserve(self, run_id: str, **more: Any) -> Answer:
        """Ask for a lease."""
        return self.ask("reserve", {"run_id": run_id, "host_id": "rch-conformance", **more})

    def lease(self, run_id: str, **more: Any) -> Lease:
        """A lease for a run; waits where the worker is busy."""
        deadline = time.monotonic() + self.peer.timeout
        while True:
            answer = self.reserve(run_id, **more)
            if answer.ok:
                granted = answer.payload
                held = Lease(run_id, str(granted.get("lease_id")), _int(granted, "fence"), granted)
                self._leases[run_id] = held
                return held
            if answer.code != "BUSY":
                raise Broken(f"reserve: {answer.shown()}")
            if time.monotonic() > deadline:
                raise Broken(f"no slot came free within {self.peer.timeout:g} s: is the worker in use?")
            time.sleep(_PAUSE_SECONDS)

    def release(self, lease: Lease) -> None:
        """Give a lease back."""
        self._leases.pop(lease.run_id, None)
        self.result("release", **lease.members)

    def forget(self, lease: Lease) -> None:
        """A lease that is over needs no release."""
        self._leases.pop(lease.run_id, None)

    def hand_back(self, job: Job) -> None:
        """Release the lease under which the running job runs, which ends it."""
        lease = self._leases[job.run_id]
        self._running = None
        self.release(lease)

    def free_slots(self) -> None:
        """Give back every lease that we have, and end what runs: the worker is as it was."""
        self.end_running()
        for lease in tuple(self._leases.values()):
            self.release(lease)

    # --- jobs -----------------------------------------------------------------------------

    def job(self, argv: Sequence[str] | None = None, **more: Any) -> Job:
        """A job of the project, in the run of this rig unless `run_id` says otherwise."""
        run_id = str(more.pop("run_id", self.run_id))
        return make_job(self.project(), run_id, argv or self.project().argv("build"), **more)

    def submit(self, job: Job, **changes: Any) -> Answer:
        """Submit a job, under a lease of its run where leases are offered."""
        self.source()
        return self.ask("submit", {**job.payload, **self.under(job), **changes})

    def under(self, job: Job) -> dict[str, Any]:
        """The lease of a job's run, as a call carries it; nothing where leases are not offered."""
        if "lease" not in self.features:
            return {}
        return self.lease(job.run_id, ttl_seconds=LEASE_SECONDS).members

    def _run(self, which: str) -> Outcome:
        self.end_running()
        job = self.job(self.project().argv(which))
        return self.end_of(job, self.submit(job).payload, Log())

    def end_of(self, job: Job, submitted: dict[str, Any], log: Log, cursor: str | None = None) -> Outcome:
        """Follow a job to its end, and fetch its set."""
        self._followed = job  # an interrupt leaves it so, and `close` cancels it
        try:
            if "tail" in self.features:
                follow(self.peer, job.job_id, self.job_timeout, cursor=cursor, log=log)
            status = wait_for_end(self.peer, job.job_id, self.job_timeout)
        except Exception:
            self._followed = None
            raise
        self._followed = None
        fetched = fetch(self.peer, job.job_id)
        return Outcome(job=job, submitted=submitted, log=log, status=status, fetched=fetched)

    def running(self) -> tuple[Job, dict[str, Any]]:
        """A slow job that runs, started where none does, and what its submit said."""
        if self._running is not None:
            job, submitted, _ = self._running
            if self.result("status", job_id=job.job_id).get("state") not in TERMINAL:
                return job, submitted
        job = self.job(self.project().argv("slow"))
        submitted = self._submit_and_hang_up(job)
        self._running = (job, submitted, Log())
        self._until_it_ticks(job)
        return job, submitted

    def _submit_and_hang_up(self, job: Job) -> dict[str, Any]:
        """Submit a job on a channel that is killed as soon as it has answered, as a lost line would be."""
        self.source()
        under = self.under(job)
        with self.peer.open() as channel:
            channel.send(request_line("submit", {**job.payload, **under}))
            submitted = self.peer.read(channel).payload
            channel.kill()
        return submitted

    def _until_it_ticks(self, job: Job) -> None:
        """Wait until its test runs, which is later than that the job does."""
        deadline = time.monotonic() + self.job_timeout
        while time.monotonic() < deadline:
            status = self.result("status", job_id=job.job_id)
            if status.get("state") in TERMINAL:
                raise Broken(f"the slow job is at its end before it was cancelled: {status}")
            if "tail" not in self.features or not self.project().prints:
                if status.get("state") == "RUNNING":
                    return
            elif TICK.search(self._log_so_far(job)):
                return
            time.sleep(_PAUSE_SECONDS)
        raise Broken(f"the slow job's test did not begin within {self.job_timeout:g} s")

    def _log_so_far(self, job: Job) -> str:
        log, cursor = Log(), None
        while True:
            news = self.result("tail", job_id=job.job_id, cursor=cursor)
            take(news, log)
            cursor = news.get("next_cursor")
            if not news.get("log_chunk") or cursor is None or TICK.search(log.text):
                return log.text  # a log that grows faster than it is read is not chased

    def end_running(self) -> None:
        """Cancel the slow job, if one runs; what came of the first one is kept."""
        if self._running is not None:
            self.cancelled()
        if self._running is not None:
            (job, _, _), self._running = self._running, None
            self.result("cancel", job_id=job.job_id, reason="USER")
            wait_for_end(self.peer, job.job_id, self.job_timeout)

    def _cancelled(self) -> Outcome:
        """The end of a slow job that was cancelled."""
        job, submitted = self.running()
        log = self._running[2] if self._running else Log()
        under = self._leases[job.run_id].members if job.run_id in self._leases else {}
        told = self.result("cancel", job_id=job.job_id, reason="USER", **under)
        self._running = None
        return replace(self.end_of(job, submitted, log), cancel=told)

    def _buried(self) -> Outcome:
        """A job that was cancelled before it was submitted; it asks for the minimal profile."""
        job = self.job(profile="minimal")
        self.result("cancel", job_id=job.job_id, reason="USER")
        return self.end_of(job, self.submit(job).payload, Log())

    def _plain(self) -> Outcome:
        """A build without a lease, on a worker of which we hold nothing, in the minimal profile."""
        self.free_slots()
        self.source()
        job = self.job(profile="minimal")
        return self.end_of(job, self.ask("submit", dict(job.payload)).payload, Log())

    def _extended(self) -> Outcome:
        """A build that a host of a later version asks for, after five transitions of its own."""
        self.end_running()
        job = self.job()
        for name in ("job", "invocation", "classifier_policy"):
            job.payload[name].update(UNKNOWN)
        submitted = self.submit(job, job_state_seq=LATE_SEQ, **UNKNOWN).payload
        return self.end_of(job, submitted, Log())

    def _served(self) -> Outcome:
        """The second of two equal builds, both of which may be answered by earlier ones."""
        self.end_running()
        outcomes = []
        for _ in range(2):
            job = self.job()
            job.payload["job"]["effective_config"]["config"]["cache"] = {"results": True}
            outcomes.append(self.end_of(job, self.submit(job).payload, Log()))
        return outcomes[-1]

    # --- the end --------------------------------------------------------------------------

    def each(self, *makes: Callable[[], Outcome]) -> Iterator[Outcome]:
        """These, one after the other: what is wrong with the first needs no second. `heard` names it."""
        for make in makes:
            outcome = make()
            words = " ".join(map(str, outcome.job.inputs["sanitized_argv"]))
            self._about = f"of the job {outcome.job.job_id}: {words}; it is {outcome.status.get('state')}"
            yield outcome
        self._about = ""

    def heard(self) -> list[str]:
        """What a failure shows besides: the job that was looked at, and what the peer was asked."""
        about, self._about = self._about, ""
        return [*filter(None, (about,)), *self.peer.heard()]

    def close(self) -> None:
        """Leave nothing running and nothing reserved, whatever the worker makes of it, and that soon."""
        self.peer.timeout = min(self.peer.timeout, _CLOSING_SECONDS)
        for job in filter(None, (self._running and self._running[0], self._followed)):
            with contextlib.suppress(Exception):
                self.peer.result("cancel", job_id=job.job_id, reason="USER")
                wait_for_end(self.peer, job.job_id, self.peer.timeout)
        for lease in tuple(self._leases.values()):
            with contextlib.suppress(Exception):
                self.release(lease)
        self.peer.close()


def _int(table: Mapping[str, Any], name: str) -> int:
    value = table.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Broken(f"{name} {value!r} is no integer")
    return value


def upload_line(tar: bytes, body: bytes | None = None, **changes: Any) -> bytes:
    """The line before `body` in an upload of `tar`, of which it may be a part; see `Rig.upload`."""
    sent = tar if body is None else body
    stream: dict[str, Any] = {
        "content_length": len(sent),
        "content_sha256": sha256(sent),
        "compression": "none",
        "format": "tar",
    }
    stream |= {name: changes.pop(name) for name in tuple(changes) if name in stream}
    return request_line("upload_source", {"source_sha256": sha256(tar), "stream": stream, **changes})
