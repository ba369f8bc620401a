"""`rchd` with one thing or more that it does wrong: `RCH_TEST_BREAKS` names them. For `RCH_RCHD`.

`BREAKS` maps each to what makes it so, and to the check of a host's conformance that has to find it.
"""

from __future__ import annotations

import itertools
import os
import time
import types
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from rch.contract import attested, sets, worker_envelope
from rch.contract.attestation import Trust
from rch.contract.errors import Failure, Kind
from rch.contract.worker_rpc import Code, FetchHeader
from rchd import __main__ as program
from rchd.core import ask, jobs, placing, projections, run, select, step, trouble
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.edges import artifacts, intake, performer, uploads, worker_client
from rchd.edges.timers import Timers
from rchd.edges.worker_client import WorkerClient


def _put(module: Any, name: str, made: Callable[[Any], Any]) -> Callable[[], None]:
    """Puts what `made` makes of a function in its place."""

    def apply() -> None:
        vars(module)[name] = made(vars(module)[name])

    return apply


def _no_release(_real: Any) -> Any:
    async def release(_client: WorkerClient, effect: fx.Release) -> ev.Answer:
        return ev.Released(at=time.time(), run_id=effect.run_id, op=effect.op)

    return release


def _changed(**members: Any) -> Callable[[Any], Any]:
    """An operation that is called with other members of its effect."""

    def made(real: Any) -> Any:
        async def call(client: WorkerClient, effect: Any) -> Any:
            return await real(client, msgspec.structs.replace(effect, **members))

        return call

    return made


def _no_source(_real: Any) -> Any:
    async def has_source(_client: WorkerClient, effect: fx.HasSource) -> ev.Answer:
        return ev.SourceKnown(at=time.time(), run_id=effect.run_id, op=effect.op, exists=False)

    return has_source


def _trusting(real: Any) -> Any:
    def attested(*args: Any) -> Any:
        out = real(*args)
        out.errors.clear()
        out.trust = out.trust or Trust(result="verified", detail="believed")
        return out

    return attested


def _adding(real: Any) -> Any:
    def publish(at: Any) -> bool:
        found = bool(real(at))
        if found:
            (at.step / "note.txt").write_text("of the host\n")
        return found

    return publish


def _wrong_code(real: Any) -> Any:
    def failure_of(error: Any, op: str) -> Failure:
        failure: Failure = real(error, op)
        return Failure(Kind.EXECUTOR, failure.message) if op == "submit" else failure

    return failure_of


def _never_skips(_real: Any) -> Any:
    return lambda of: next((index for index, one in enumerate(of.steps) if one.summary is None), None)


def _another_key(real: Any) -> Any:
    return lambda inputs: real({"more": "operational", "inputs": real(inputs)})


def _impatient() -> None:
    real = Timers.start

    def start(self: Timers, run_id: str, name: str, seconds: float, op: int) -> None:
        real(self, run_id, name, 0.05 if name == "busy" else seconds, op)

    setattr(Timers, "start", start)  # noqa: B010  (what is broken here; mypy would not have it)


def _deaf() -> None:
    real = Timers.start

    def start(self: Timers, run_id: str, name: str, seconds: float, op: int) -> None:
        real(self, run_id, "overall" if name == "idle" else name, seconds, op)

    setattr(Timers, "start", start)  # noqa: B010  (as above)


def _knows_one_worker(real: Any) -> Any:
    def next_candidate(one: m.Run, phase: m.Reserving, why: m.Trouble, now: str) -> Any:
        last = len(one.selection.choices) - 1 if one.selection else 0
        return real(one, msgspec.structs.replace(phase, index=last, busy=None), why, now)

    return next_candidate


def _fetch_once() -> None:
    table: dict[Any, Any] = vars(run)["MOVES"]
    real = table[m.Fetching, ev.FetchRefused]
    table[m.Fetching, ev.FetchRefused] = lambda one, phase, event, now: real(
        one, msgspec.structs.replace(phase, again=True), event, now
    )


def _constant(module: Any, name: str, value: Any) -> Callable[[], None]:
    return _put(module, name, lambda _real: value)


def _nonce_again() -> None:
    given = itertools.count()
    intake_tokens = types.SimpleNamespace(token_hex=lambda _size: f"nonce-{next(given) % 2}-of-every-run")
    vars(intake)["secrets"] = intake_tokens


def _without_lease(real: Any) -> Any:
    return lambda **members: real(**{**members, "lease_id": None, "fence": None})


def _refusing_members(real: Any) -> Any:
    def convert(raw: Any, kind: Any) -> Any:
        known = {field.encode_name for field in msgspec.structs.fields(kind)}
        if kind is not FetchHeader and set(raw) - known:
            raise worker_envelope.protocol_error("an unknown member")
        return real(raw, kind)

    return convert


def _leases_of_everybody() -> None:
    for module in (ask, placing):
        vars(module)["offered"] = lambda _probe: m.Terms.RENEWED


def _codes_unmapped() -> None:
    table: dict[Any, Any] = vars(worker_envelope)["_KIND_OF_CODE"]
    for code in (Code.UNSUPPORTED_PROTOCOL, Code.FEATURE_MISSING):
        table.pop(code)
    table[Code.INVALID_REQUEST] = (Kind.TRANSFER, None)


def _one_priority(real: Any) -> Any:
    return lambda options, reports: real(
        options, [msgspec.structs.replace(report, priority=1) for report in reports]
    )


def _skipping_seq(real: Any) -> Any:
    def state(run: m.Run) -> Any:
        made = real(run)
        over = str(made.state) in {"FAILED", "CANCELLED"}
        return msgspec.structs.replace(made, seq=made.seq + 7) if over else made

    return state


def _gives_up_without_a_base() -> None:
    async def has_base(self: Any, thin: Any) -> bool:
        await self._send(thin)
        return True

    setattr(uploads.Upload, "_has_base", has_base)  # noqa: B010  (as above)


BREAKS: dict[str, tuple[Callable[[], None], str]] = {
    "keeps its leases": (_put(performer, "_release", _no_release), "lease-is-released"),
    "names an old fence": (_put(performer, "_submit", _changed(fence=0)), "submits-bear-the-lease"),
    "uploads always": (_put(performer, "_has_source", _no_source), "known-source-is-not-sent"),
    "gives no right reason": (
        _put(performer, "_cancel", _changed(reason="TIMEOUT_IDLE")),
        "interrupt-cancels",
    ),
    "takes every file": (_put(sets, "differences", lambda _real: lambda *_: []), "ends-extra-file"),
    "believes everybody": (_put(sets, "attested", _trusting), "ends-wrong-nonce"),
    "adds to a set": (_put(artifacts, "publish", _adding), "sets-are-what-they-say"),
    "mixes codes up": (_put(performer, "failure_of", _wrong_code), "ends-toolchain-changed"),
    "skips no step": (_put(step, "next_index", _never_skips), "later-steps-are-skipped"),
    "never waits": (_impatient, "busy-is-respected"),
    "takes stand-ins for real": (
        _put(select, "require_kind", lambda _real: lambda *_: None),
        "simulated-worker-serves-no-real-run",
    ),
    "makes keys of more": (_put(jobs, "jcs_sha256", _another_key), "submits-are-whole"),
    "has one request id": (
        _constant(worker_client, "new_request_id", lambda: "request-of-them-all"),
        "request-ids-are-distinct",
    ),
    "has ids of no order": (
        lambda: vars(intake).update(uuid_utils=types.SimpleNamespace(uuid7=uuid.uuid4)),
        "ids-are-sortable",
    ),
    "has two nonces": (_nonce_again, "nonces-differ-over-runs"),
    "uploads without a lease": (_put(uploads, "UploadRequest", _without_lease), "uploads-bear-the-lease"),
    "gives up without a base": (_gives_up_without_a_base, "base-missing-uploads-all"),
    "holds no tail": (_constant(performer, "TAIL_WAIT_SECONDS", 0.0), "tails-are-held"),
    "knows every member": (
        _put(worker_envelope, "_convert", _refusing_members),
        "unknown-members-are-taken",
    ),
    "maps no code": (_codes_unmapped, "ends-feature-missing"),
    "takes the first by name": (_put(run, "select", _one_priority), "priority-is-heeded"),
    "skips a seq": (_put(projections, "_state", _skipping_seq), "run-seq-rises-by-one"),
    "reads no statement": (_put(attested, "_envelopes", lambda _real: lambda *_: ()), "ends-bad-statement"),
    "believes every root": (
        _put(sets, "_root", lambda _real: lambda manifest: manifest.artifact_root_sha256),
        "ends-wrong-root",
    ),
    "knows no silence": (_deaf, "idle-timeout"),
    "knows one worker": (_put(trouble, "_next_candidate", _knows_one_worker), "next-worker-serves"),
    "fetches once": (_fetch_once, "bad-set-is-fetched-twice"),
    "asks everybody for leases": (_leases_of_everybody, "without-lease"),
    "submits at once again": (
        _put(trouble, "_busy_pause", lambda _real: lambda *_: 0.05),
        "busy-without-lease",
    ),
    "asks for a minute": (
        _put(ask, "whole_seconds", lambda _real: lambda _run: 60),
        "lease-for-the-whole-run",
    ),
}

if __name__ == "__main__":
    for name in os.environ["RCH_TEST_BREAKS"].split(","):
        BREAKS[name][0]()
    program.main()
