"""Section 3.1: requests, answers, versions, refusals."""

from __future__ import annotations

import json
import re
from typing import Any

from rch.contract.worker_rpc import Code, ProbeResult
from rch_conformance.worker.forms import Item, canonical_tar, sha256
from rch_conformance.worker.peer import PROTOCOL, new_id, request_line
from rch_conformance.worker.rig import UNKNOWN, Rig
from rch_conformance.worker.suite import check, expect, expect_same, shaped

_CODES = frozenset(map(str, Code))
_END_SECONDS = 4.0
_TRACE = re.compile(
    r"Traceback|File \".*\", line \d+|\bat 0x[0-9a-f]+|\.(py|swift|go|rs|ts|js):\d+|panicked at"
)
_PATH = re.compile(r"(?<![\w.])/(?:[\w.@+-]+/)+[\w.@+-]+|[A-Z]:\\\w+")


@check("3.1", "a probe in protocol version 0 is answered, in version 0")
def probe_in_version_0(rig: Rig) -> None:
    answer = rig.ask("probe")
    expect(answer.ok, f"the probe was refused: {answer.shown()}")
    expect_same("protocol_version", answer.raw.get("protocol_version"), 0)


@check("3.1", "a probe names lane version, protocol range, features and capabilities")
def probe_has_its_members(rig: Rig) -> None:
    told = shaped(rig.probe(), ProbeResult, "the probe")
    expect(
        1 <= told.protocol_min <= told.protocol_max,
        f"protocol_min {told.protocol_min} and protocol_max {told.protocol_max} are no range",
    )
    expect(told.rch_xcode_lane_version, "rch_xcode_lane_version is empty")
    expect(len(set(told.features)) == len(told.features), f"a feature is named twice: {told.features}")


@check("3.1", "the worker speaks protocol 1 and takes uploads, as every host needs")
def speaks_what_hosts_need(rig: Rig) -> None:
    low, high = rig.probe().get("protocol_min"), rig.probe().get("protocol_max")
    expect(
        isinstance(low, int) and isinstance(high, int) and low <= PROTOCOL <= high,
        f"it speaks {low}-{high}, and {PROTOCOL} is not in it",
    )
    expect("upload" in rig.features, f"the feature upload is not among {', '.join(rig.features)}")


@check("3.1", "two probes tell the same protocol range and the same features")
def probes_agree(rig: Rig) -> None:
    first, second = rig.ask("probe").payload, rig.ask("probe").payload
    for name in ("rch_xcode_lane_version", "protocol_min", "protocol_max", "features"):
        expect_same(f"{name} of the second probe", second.get(name), first.get(name))


@check("3.1", "a probe in another version than 0 is refused with UNSUPPORTED_PROTOCOL")
def probe_in_another_version(rig: Rig) -> None:
    for version in (1, 2, -1):
        rig.ask("probe", protocol_version=version).refused_with("UNSUPPORTED_PROTOCOL")


@check("3.1", "version 0 serves no other operation, nor does one beyond protocol_max")
def versions_out_of_range(rig: Rig) -> None:
    beyond = int(rig.probe().get("protocol_max", PROTOCOL)) + 1
    for version in (0, beyond, -1):
        answer = rig.ask("status", {"job_id": new_id()}, protocol_version=version)
        answer.refused_with("UNSUPPORTED_PROTOCOL")
        expect_same("the protocol_version of the refusal", answer.raw.get("protocol_version"), version)


@check("3.1", "results and refusals echo the request_id")
def request_id_is_echoed(rig: Rig) -> None:
    for op, payload in (
        ("probe", {}),
        ("status", {"job_id": new_id()}),
        ("has_source", {"source_sha256": "0" * 64}),
    ):
        request_id = new_id()
        answer = rig.ask(op, payload, request_id=request_id)
        expect_same(f"the request_id in the answer of {op}", answer.raw.get("request_id"), request_id)


@check("3.1", "results and refusals echo the protocol version")
def version_is_echoed(rig: Rig) -> None:
    for op, payload in (("has_source", {"source_sha256": "0" * 64}), ("status", {"job_id": new_id()})):
        answer = rig.ask(op, payload)
        expect_same(
            f"the protocol_version in the answer of {op}", answer.raw.get("protocol_version"), PROTOCOL
        )


@check("3.1", "unknown members of envelope and payload are ignored")
def unknown_members_are_ignored(rig: Rig) -> None:
    answer = rig.ask("probe", UNKNOWN, **UNKNOWN)
    expect(answer.ok, f"a probe with unknown members was refused: {answer.shown()}")
    answer = rig.ask("has_source", {"source_sha256": "0" * 64, **UNKNOWN}, **UNKNOWN)
    expect(answer.ok, f"a has_source with unknown members was refused: {answer.shown()}")


@check("3.1", "unknown members are ignored by every operation, also those deep within a record")
def unknown_members_everywhere(rig: Rig) -> None:
    outcome = rig.extended()  # its submit had them in its payload and in its records
    expect_same("the state of a job with unknown members", outcome.status.get("state"), "SUCCEEDED")
    known = {"job_id": outcome.job.job_id}
    _taken(rig, "status", known)
    _taken(rig, "cancel", {**known, "reason": "USER"})
    if "tail" in rig.features:
        _taken(rig, "tail", known)
    if "lease" in rig.features:
        rig.free_slots()
        granted = _taken(rig, "reserve", {"run_id": new_id(), "host_id": "rch-conformance"})
        _taken(rig, "release", {name: granted.get(name) for name in ("lease_id", "fence")})


def _taken(rig: Rig, op: str, payload: dict[str, Any]) -> dict[str, Any]:
    answer = rig.ask(op, {**payload, **UNKNOWN}, **UNKNOWN)
    expect(answer.ok, f"{op} with unknown members was refused: {answer.shown()}")
    return answer.payload


@check("3.1", "unknown members are ignored by the framed operations")
def unknown_members_of_framed_operations(rig: Rig) -> None:
    tar = canonical_tar([Item(path="note.txt", data=new_id().encode())])
    stream = {"content_length": len(tar), "content_sha256": sha256(tar), "compression": "none"}
    payload = {"source_sha256": sha256(tar), "stream": {**stream, "format": "tar", **UNKNOWN}, **UNKNOWN}
    answer = rig.peer.exchange(request_line("upload_source", payload, **UNKNOWN), tar)
    expect(answer.ok, f"upload_source with unknown members was refused: {answer.shown()}")
    payload = {"job_id": rig.extended().job.job_id, **UNKNOWN}
    answer = rig.peer.exchange(request_line("fetch", payload, **UNKNOWN))
    expect(answer.ok, f"fetch with unknown members was refused: {answer.shown()}")


@check("3.1", "a missing payload is tolerated for probe, and refused for every other operation")
def missing_payload(rig: Rig) -> None:
    answer = rig.ask("probe", payload=...)
    expect(answer.ok, f"a probe without a payload was refused: {answer.shown()}")
    for op in ("has_source", "status", "cancel", "fetch", "submit"):
        rig.ask(op, payload=...).refused_with("INVALID_REQUEST")


@check("3.1", "an operation that there is not is answered UNKNOWN_OPERATION")
def unknown_operation(rig: Rig) -> None:
    for op in ("shell", "exec", "Probe"):
        rig.ask(op, {"command": "id"}, protocol_version=PROTOCOL).refused_with("UNKNOWN_OPERATION")
    nameless = rig.ask("", {"command": "id"}, protocol_version=PROTOCOL)
    nameless.refused_with("UNKNOWN_OPERATION", "INVALID_REQUEST")


@check("3.1", "what is no request is answered INVALID_REQUEST")
def no_request(rig: Rig) -> None:
    rig.probe()
    for line in (b"hello\n", b"[]\n", b'"probe"\n', b"{}\n", b'{"op": "probe"\n', b"\n", b"null\n"):
        answer = rig.peer.exchange(line)
        expect(
            not answer.ok and answer.code == "INVALID_REQUEST", f"{line!r} was answered {answer.shown()}"
        )


@check("3.1", "a member of a wrong type is answered INVALID_REQUEST")
def wrong_types(rig: Rig) -> None:
    rig.ask("probe", protocol_version="0").refused_with("INVALID_REQUEST")
    rig.ask("probe", payload=[]).refused_with("INVALID_REQUEST")
    rig.ask("has_source", {"source_sha256": 12}).refused_with("INVALID_REQUEST")
    rig.ask("has_source", {"source_sha256": "zz"}).refused_with("INVALID_REQUEST")
    if "tail" in rig.features:
        rig.ask("tail", {"job_id": new_id(), "max_bytes": "many"}).refused_with("INVALID_REQUEST")
    rig.ask("status", {}).refused_with("INVALID_REQUEST")


@check("3.1", "a refusal has a code of the list, a message of one line, and data that is an object")
def refusals_have_their_form(rig: Rig) -> None:
    _provoke(rig)
    for answer in rig.peer.refusals:
        error = answer.error
        expect(error.get("code") in _CODES, f"the code {error.get('code')!r} is not in the list")
        message = error.get("message")
        expect(isinstance(message, str) and message.strip(), f"the message is empty: {answer.shown()}")
        expect(len(str(message).splitlines()) == 1, f"the message is not one line: {message!r}")
        expect(isinstance(error.get("data", {}), dict), f"data is no object: {answer.shown()}")


@check("3.1", "a message holds no stack trace and no path outside the job")
def messages_tell_no_secrets(rig: Rig) -> None:
    _provoke(rig)
    for answer in rig.peer.refusals:
        message = str(answer.error.get("message"))
        expect(not _TRACE.search(message), f"a stack trace is told: {message!r}")
        told = {path for path in _PATH.findall(message) if path not in _asked(rig)}
        expect(not told, f"paths of the worker are told: {', '.join(sorted(told))} in {message!r}")


@check("3.1", "one-shot: one request, one answer, and the command ends with 0")
def one_shot(rig: Rig) -> None:
    with rig.peer.open() as channel:
        channel.send(request_line("probe"))
        channel.end_input()
        rig.peer.read(channel)
        more = channel.rest()
        expect(not more, f"after the answer this came: {more[:200]!r}")
        expect_same("the exit code", channel.exit_code(), 0)


@check("3.1", "a channel ends when its input does, before a request as well as after one")
def channel_ends_with_its_input(rig: Rig) -> None:
    for lines in ((), (request_line("probe"),)):
        with rig.peer.open() as channel:
            for line in lines:
                channel.send(line)
                rig.peer.read(channel)
            channel.end_input()
            expect(
                channel.ends_within(_END_SECONDS), f"{_END_SECONDS:g} s after its input the channel is open"
            )


@check("3.1", "an answer is one line of UTF-8 JSON without members that come twice")
def answers_are_lines(rig: Rig) -> None:
    answer = rig.ask("probe")
    again = json.loads(answer.line)
    expect_same("the answer, read by another reader", again, answer.raw)


def _provoke(rig: Rig) -> None:
    """Refusals of many kinds."""
    for op in ("status", "tail", "fetch"):
        rig.ask(op, {"job_id": new_id()})
    rig.ask("cancel", {"job_id": new_id(), "reason": "BOREDOM"})
    rig.ask("has_source", {"source_sha256": "x"})
    rig.ask("shell", {})
    rig.ask("upload_source", {"source_sha256": "0" * 64})
    rig.peer.exchange(b"\xff\xfe\n")


def _asked(rig: Rig) -> set[str]:
    """Paths that a message may name: they stand in the request."""
    try:
        project = rig.project()
    except Exception:  # noqa: BLE001  (a worker without a toolchain has none)
        return set()
    return {
        str(value)
        for value in (*project.toolchain.values(), *(w for words in project.denied for w in words))
    }
