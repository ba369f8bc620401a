"""Mutants of submit, tail, cancel and leases (sections 3.3, 3.4, 4)."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import Any

from conformance.mutants import module, mutant, refusal, replaced, wrap


def _nothing(*_given: Any, **_named: Any) -> None:
    """Does nothing."""


# --- submit -------------------------------------------------------------------------------


@mutant("second execution of a job at its end", "submit-again-at-the-end")
def _second_execution() -> None:
    def anew(real: Any) -> Any:
        def submit(worker: Any, request: Any) -> Any:
            if worker.jobs.standing(request.job.job_id).terminal:
                shutil.rmtree(worker.jobs.folder(request.job.job_id))
            return real(worker, request)

        return submit

    wrap(module("worker_agent.submit"), "submit", anew)


@mutant("second execution of a job that runs", "submit-again-while-it-runs")
def _second_life() -> None:
    def anew(real: Any) -> Any:
        def submit(worker: Any, request: Any) -> Any:
            jobs, job_id = worker.jobs, request.job.job_id
            if jobs.alive(job_id):
                os.kill(int(jobs.lock_path(job_id).read_text().split()[1]), signal.SIGKILL)
                while jobs.alive(job_id):
                    time.sleep(0.01)
            return real(worker, request)

        return submit

    wrap(module("worker_agent.submit"), "submit", anew)


@mutant("job key not checked", "job-key-is-checked")
def _job_key_unchecked() -> None:
    module("worker_agent.submit")._check_request = _nothing


@mutant("one job_id is two jobs", "one-id-is-one-job")
def _two_jobs() -> None:
    module("worker_agent.submit")._check_same = _nothing


@mutant("toolchain not checked", "toolchain-is-checked")
def _toolchain_unchecked() -> None:
    module("worker_agent.submit")._check_toolchain = _nothing


@mutant("argv executed as it came", "argv-is-classified-again")
def _unclassified() -> None:
    submit = module("worker_agent.submit")

    def believe(worker: Any, request: Any) -> Any:
        facts = worker.sources.facts(request.job.job_key_inputs.source_sha256)
        invocation = module("rch.config.invocation")
        return invocation.policy_from_bundle(facts.config, worker.config, top_level=facts.top_level)

    submit._classify = believe


@mutant("bundle's names not heeded", "names-come-from-the-bundle")
def _own_names() -> None:
    invocation = module("rch.config.invocation")
    wrap(
        invocation,
        "policy_from_bundle",
        lambda real: lambda _toml, *given, **named: real(None, *given, **named),
    )


@mutant("package built wherever it is said to lie", "package-is-inside")
def _package_anywhere() -> None:
    swiftpm = module("worker_agent.backends.swiftpm")
    swiftpm.package_folder = lambda job, layout: layout.tree / swiftpm.config_of(job)["project"]["package"]


@mutant("job dies with its channel", "job-outlives-its-channel")
def _no_session() -> None:
    nursery = module("worker_agent.nursery")

    def stay(real: Any) -> Any:
        def leave(*given: Any) -> None:
            os.setsid = _nothing
            real(*given)

        return leave

    wrap(nursery, "_leave_the_parent", stay)


@mutant("job beside a full house", "slots-bound-the-jobs")
def _no_slot_needed() -> None:
    module("worker_agent.leases").Leases._require_slot = _nothing


# --- states -------------------------------------------------------------------------------


def _seqs(change: Any) -> None:
    for name in ("worker_agent.life", "worker_agent.results.finish"):

        def other(real: Any) -> Any:
            def move(state: Any, seq: int, to: Any) -> Any:
                state, after = real(state, seq, to)
                return state, change(after)

            return move

        wrap(module(name), "move_job", other)


@mutant("seq skips", "seq-rises-by-one")
def _seq_skips() -> None:
    _seqs(lambda seq: seq + 1)


@mutant("seq falls", "seq-rises-by-one")
def _seq_falls() -> None:
    _seqs(lambda seq: 2 if seq < 3 else 1)


@mutant("log not counted", "status-counts-the-log")
def _no_log_bytes() -> None:
    module("worker_agent.jobs").Jobs.log_bytes = lambda *_: 0


# --- tail ---------------------------------------------------------------------------------


@mutant("log bytes lost", "max-bytes-loses-nothing")
def _lost_bytes() -> None:
    def shorter(real: Any) -> Any:
        def read(path: Any, offset: int, size: int) -> bytes:
            data = bytes(real(path, offset, size))
            return data if path.suffix != ".log" or not offset or len(data) < 9 else b"?" + data[2:]

        return read

    wrap(module("worker_agent.tail"), "_slice", shorter)


@mutant("characters cut in two", "pieces-hold-whole-characters")
def _cut_characters() -> None:
    module("worker_agent.tail")._characters = lambda data, **_: data


@mutant("next_cursor null before the end", "null-cursor-is-the-end")
def _early_null() -> None:
    module("worker_agent.tail")._Reader._more = lambda *_: False


@mutant("events come again", "events-are-numbered")
def _events_again() -> None:
    tail = module("worker_agent.tail")
    wrap(tail, "_events", lambda real: lambda lines: (replaced(each, n=1) for each in real(lines)))


@mutant("held tail sleeps", "held-tail-wakes")
def _deaf_tail() -> None:
    module("worker_agent.tail")._Ears.wait = lambda _self, left: time.sleep(left)


# --- cancel -------------------------------------------------------------------------------


@mutant("cancel does not end the job", "cancelled-job-has-its-set")
def _deaf_cancel() -> None:
    module("worker_agent.jobs").Jobs.request_cancel = _nothing


@mutant("no tombstone", "tombstone")
def _no_tombstone() -> None:
    status = module("worker_agent.status")

    def forgetful(real: Any) -> Any:
        def cancel(worker: Any, request: Any) -> Any:
            if worker.jobs.standing(request.job_id).state is None:
                return status.CancelResult(state="CANCELLED")
            return real(worker, request)

        return cancel

    wrap(status, "cancel", forgetful)


# --- leases -------------------------------------------------------------------------------


def _leases() -> Any:
    return module("worker_agent.leases").Leases


@mutant("busy without retry_after_seconds", "leases-are-bounded")
def _busy_without_retry() -> None:
    module("worker_agent.leases")._busy = lambda why: refusal("BUSY", why)


@mutant("more leases than slots", "leases-are-bounded")
def _many_leases() -> None:
    _leases()._taken = lambda *_: 0


@mutant("stale fence accepted", "stale-fence-changes-nothing")
def _stale_fence() -> None:
    def blind(real: Any) -> Any:
        def require(self: Any, table: Any, lease_id: str, _fence: int) -> Any:
            found = module("worker_agent.leases")._find(table, lease_id)
            return real(self, table, lease_id, found.fence if found else _fence)

        return require

    wrap(_leases(), "_require", blind)


@mutant("fence does not rise", "fences-rise")
def _flat_fence() -> None:
    wrap(_leases(), "read", lambda real: lambda self: replaced(real(self), fence=7))


@mutant("release of a stale lease is an error", "releases-are-idempotent")
def _strict_release() -> None:
    def strict(real: Any) -> Any:
        def release(self: Any, lease_id: str, fence: int) -> Any:
            self.require(lease_id, fence)
            return real(self, lease_id, fence)

        return release

    wrap(_leases(), "release", strict)


@mutant("stale release ends the lease", "releases-are-idempotent")
def _blind_release() -> None:
    def blind(real: Any) -> Any:
        def release(self: Any, lease_id: str, fence: int) -> Any:
            found = module("worker_agent.leases")._find(self.read(), lease_id)
            return real(self, lease_id, found.fence if found else fence)

        return release

    wrap(_leases(), "release", blind)


@mutant("release does not cancel", "release-cancels")
def _soft_release() -> None:
    def soft(real: Any) -> Any:
        def release(self: Any, lease_id: str, fence: int) -> Any:
            real(self, lease_id, fence)
            return ()

        return release

    wrap(_leases(), "release", soft)
    _leases().is_over = lambda *_: False  # else the job's supervisor sees it by itself


@mutant("lease serves any run", "leases-serve-their-run")
def _shared_lease() -> None:
    def anonymous(real: Any) -> Any:
        def require(*given: Any) -> None:
            real(*given)

        return require

    wrap(_leases(), "require", anonymous)


@mutant("lease never expires", "leases-expire")
def _eternal_lease() -> None:
    _leases().is_live = lambda _self, lease: not lease.released


@mutant("a new lease for each question", "one-run-has-one-lease")
def _many_for_one() -> None:
    _leases()._held_by = lambda *_: None
    _leases()._refusal = lambda *_: None
