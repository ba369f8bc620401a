"""Limits that a table can try: what is at one is taken, what is one beyond is not (docs/limits.md)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from rch.config import daemon_config, inventory, notify, schema, worker_config
from rch.contract.classifier import classify
from rch.contract.errors import Failure
from rch.contract.framing import (
    MAX_DEPTH,
    MAX_FETCH_HEADER,
    MAX_LINE,
    FrameError,
    LineReader,
    decode_object,
)
from rch.contract.local_api import MAX_MESSAGE
from rch.contract.messages import MessageReader
from rch.contract.policy import ClassifierPolicy
from rch.contract.words import MAX_TOKEN_CHARS, MAX_TOKENS
from rch.contract.worker_envelope import (
    MAX_REQUEST_ID_ECHO,
    decode_response,
    request_id_to_echo,
)
from rch.contract.worker_rpc import (
    MAX_CURSOR,
    MAX_NUMBER,
    HasSourceResult,
    JobEvent,
    RpcError,
    SubmitResult,
    TailRequest,
    TailResult,
)
from rchd.core.session import MAX_ID, Call, Session
from rchd.edges import performer
from rchd.edges.channels import Channel
from rchd.edges.wire import MAX_ANSWER, MAX_PROBE_ANSWER, Wire
from worker_agent import tail

ID = "request-00000001"
REFUSALS = (FrameError, Failure, RpcError, msgspec.ValidationError)
Try = Callable[[int], object]


def line_of(length: int, most: int) -> bytes | None:
    """A line of so many bytes out of a reader of lines of at most `most`."""
    reader = LineReader(most)
    reader.feed(b"x" * length + b"\n")
    return reader.line()


def message_of(length: int, *, framed: bool) -> object:
    """A message of so many bytes on the local socket."""
    reader = MessageReader(MAX_MESSAGE)
    body = b"x" * length
    reader.feed(b"Content-Length: %d\r\n\r\n%b" % (length, body) if framed else body + b"\n")
    return reader.message()


def answer(**payload: Any) -> bytes:
    """A worker's result."""
    said = {"protocol_version": 1, "request_id": ID, "ok": True, "payload": payload}
    return json.dumps(said).encode()


def tailed(**members: Any) -> TailResult:
    """A worker's answer to `tail`."""
    news = {"log_chunk": "", "events": [], "next_cursor": None, "state": "RUNNING", **members}
    return decode_response(answer(**news), ID, TailResult)


def classified(*words: str) -> None:
    """`Failure` where the gate cannot read a command line, whatever it thinks of what it says."""
    verdict = classify(("swift", "build", *words), ClassifierPolicy(backend="swiftpm"))
    for reason in getattr(verdict, "reasons", ()):
        if reason.code == "PARSE_ERROR" and ("more than" in reason.message or "over" in reason.message):
            raise FrameError(reason.message)


def said_back(call_id: object) -> None:
    """`FrameError` where an id of a call is not taken."""
    line = json.dumps({"jsonrpc": "2.0", "id": call_id, "method": "daemon.health"}).encode()
    if not isinstance(Session().receive(line), Call):
        raise FrameError("refused")


def echoed(length: int) -> None:
    """`FrameError` where a bad request's id is not said back."""
    if request_id_to_echo(json.dumps({"request_id": "!" * length}).encode()) is None:
        raise FrameError("not said back")


def events_of(size: int) -> None:
    """A worker's events of so many encoded bytes."""
    bare = (JobEvent(n=1, at="t", type="note", data={"x": ""}),)
    text = "y" * (size - len(msgspec.json.encode(bare)))
    performer._refuse_too_much("mini", b"", (JobEvent(n=1, at="t", type="note", data={"x": text}),))


LIMITS: dict[str, tuple[int, Try]] = {
    "socket line": (MAX_MESSAGE, lambda n: message_of(n, framed=False)),
    "socket body": (MAX_MESSAGE, lambda n: message_of(n, framed=True)),
    "request line": (MAX_LINE, lambda n: line_of(n, MAX_LINE)),
    "nesting": (MAX_DEPTH, lambda n: decode_object(b'{"a":' * (n - 1) + b"[]" + b"}" * (n - 1))),
    "number of a worker": (
        MAX_NUMBER,
        lambda n: decode_response(answer(state="RUNNING", seq=n), ID, SubmitResult),
    ),
    "number of a client": (MAX_NUMBER, said_back),
    "id of a client": (MAX_ID, lambda n: said_back("x" * n)),
    "cursor": (MAX_CURSOR, lambda n: tailed(next_cursor="x" * n)),
    "echoed request id": (MAX_REQUEST_ID_ECHO, echoed),
    "words": (MAX_TOKENS, lambda n: classified(*["-v"] * (n - 2))),
    "characters of a word": (MAX_TOKEN_CHARS, lambda n: classified("x" * n)),
    "log of one answer": (
        performer.TAIL_MAX_BYTES,
        lambda n: performer._refuse_too_much("mini", b"x" * n, ()),
    ),
    "events of one answer": (performer.MAX_EVENT_BYTES, events_of),
}


@pytest.mark.spec("3.2")
@pytest.mark.spec("12")
@pytest.mark.fault("C3")
@pytest.mark.fault("W7")
@pytest.mark.parametrize("name", LIMITS)
def test_what_is_at_the_limit_is_taken(name: str) -> None:
    limit, attempt = LIMITS[name]
    attempt(limit)


@pytest.mark.spec("3.2")
@pytest.mark.spec("12")
@pytest.mark.fault("C3")
@pytest.mark.fault("W7")
@pytest.mark.parametrize("name", LIMITS)
def test_what_is_one_beyond_is_refused(name: str) -> None:
    limit, attempt = LIMITS[name]
    with pytest.raises(REFUSALS):
        attempt(limit + 1)


@pytest.mark.faults_long
@pytest.mark.spec("3.2")
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_header_of_a_set_is_as_long_as_the_limit_and_no_longer(beyond: int) -> None:
    if beyond:
        with pytest.raises(FrameError):
            line_of(MAX_FETCH_HEADER + beyond, MAX_FETCH_HEADER)
    else:
        assert len(line_of(MAX_FETCH_HEADER, MAX_FETCH_HEADER) or b"") == MAX_FETCH_HEADER


class Said:
    """A channel on which these bytes have come."""

    stderr_tail = ""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def send(self, data: bytes) -> None:
        del data

    async def send_eof(self) -> None:
        pass

    async def receive(self, max_bytes: int = 64 << 10) -> bytes:
        part, self._data = self._data[:max_bytes], self._data[max_bytes:]
        return part

    async def exit_status(self, wait_seconds: float = 1.0) -> int | None:
        del wait_seconds
        return 0

    async def close(self) -> None:
        pass


@pytest.mark.fault("W7")
@pytest.mark.parametrize("most", [MAX_ANSWER, MAX_PROBE_ANSWER])
@pytest.mark.parametrize("beyond", [0, 1])
async def test_an_answer_is_as_long_as_the_limit_and_no_longer(most: int, beyond: int) -> None:
    channel: Channel = Said(b"{" + b"x" * (most - 1 + beyond) + b"\n")
    wire = Wire(channel, "mini", max_line=most)
    if beyond:
        with pytest.raises(Failure, match=f"worker mini: a line is over {most} bytes") as caught:
            await wire.read_line()
        assert (caught.value.subkind, caught.value.exit_code) == ("PROTOCOL_ERROR", 40)
    else:
        assert len(await wire.read_line()) == most


@pytest.mark.fault("W7")
@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (0, 0.0),
        (-7, 0.0),
        (2.5, 2.5),
        (performer.MAX_RETRY_AFTER_SECONDS, performer.MAX_RETRY_AFTER_SECONDS),
        (performer.MAX_RETRY_AFTER_SECONDS + 1, performer.MAX_RETRY_AFTER_SECONDS),
        (1e9, performer.MAX_RETRY_AFTER_SECONDS),
        (True, None),
        ("soon", None),
        (None, None),
    ],
)
def test_a_busy_worker_is_asked_again_within_minutes(said: object, meant: float | None) -> None:
    assert performer._pause_of(said) == meant


@pytest.mark.fault("W7")
@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1E+16", b"9007199254740993", b"99999999999e9"])
def test_a_number_that_nobody_can_hold_is_no_answer(number: bytes) -> None:
    line = answer(exists=True).replace(b'"exists": true', b'"exists": true, "more": ' + number)
    with pytest.raises(Failure, match="beyond 2"):
        decode_response(line, ID, HasSourceResult)


@pytest.mark.spec("3.3")
@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (TailRequest(job_id="j"), (tail.MAX_CHUNK_BYTES, tail.MAX_EVENTS)),
        (TailRequest(job_id="j", max_bytes=tail.MAX_CHUNK_BYTES), (tail.MAX_CHUNK_BYTES, tail.MAX_EVENTS)),
        (
            TailRequest(job_id="j", max_bytes=tail.MAX_CHUNK_BYTES + 1, max_events=tail.MAX_EVENTS + 1),
            (tail.MAX_CHUNK_BYTES, tail.MAX_EVENTS),
        ),
        (TailRequest(job_id="j", max_bytes=1, max_events=0), (4, 0)),
    ],
)
def test_a_worker_gives_no_more_of_a_log_at_once_than_its_own_limit(
    asked: TailRequest, given: tuple[int, int]
) -> None:
    assert tail._limits(asked) == given


@pytest.mark.spec("3.3")
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_worker_holds_an_answer_no_longer_than_its_own_limit(beyond: int) -> None:
    asked = TailRequest(job_id="j", wait_seconds=tail.MAX_WAIT_SECONDS + beyond)
    assert tail._wait_seconds(asked) == tail.MAX_WAIT_SECONDS


KEYS: list[tuple[type[msgspec.Struct], dict[str, Any], str, Any, Any]] = [
    (schema.Timeouts, {}, "connect_timeout_seconds", 300, 301),
    (schema.Timeouts, {}, "overall_seconds", 86_400, 86_401),
    (schema.Timeouts, {}, "idle_log_seconds", 86_400, 86_401),
    (schema.Selection, {}, "probe_ttl_seconds", 86_400, 86_401),
    (schema.Selection, {}, "tags", ["x" * 128], ["x" * 129]),
    (schema.Queue, {}, "max_wait_seconds", 604_800, 604_801),
    (schema.Actions, {}, "verify", ["build"] * 100, ["build"] * 101),
    (schema.Actions, {}, "step", [{"action": "build"}] * 100, [{"action": "build"}] * 101),
    (schema.Bundle, {}, "max_bytes", 2**53 - 1, 2**53),
    (schema.Run, {}, "retry_tests", 5, 6),
    (schema.Run, {}, "retry_infrastructure", 1, 2),
    (daemon_config.Gc, {}, "keep_runs", 100_000, 100_001),
    (daemon_config.Gc, {}, "keep_days", 36_500, 36_501),
    (daemon_config.Gc, {}, "max_runs", 1_000_000, 1_000_001),
    (daemon_config.Log, {}, "keep", 100, 101),
    (notify.Notify, {}, "timeout_seconds", 300, 301),
    (notify.Notify, {}, "finished_after_seconds", 86_400, 86_401),
    (daemon_config.Metrics, {}, "interval_seconds", 3600, 3601),
    (worker_config.WorkerConfig, {}, "max_concurrent_jobs", 64, 65),
    (worker_config.WorkerConfig, {}, "orphan_grace_seconds", 86_400, 86_401),
    (worker_config.WorkerConfig, {}, "cache_wait_seconds", 86_400, 86_401),
    (worker_config.WorkerConfig, {}, "boot_seconds", 3600, 3601),
    (worker_config.WorkerConfig, {}, "keep_caches_days", 3650, 3651),
    (worker_config.WorkerConfig, {}, "labels", ["x" * 128], ["x" * 129]),
    (inventory.WorkerEntry, {"name": "w"}, "priority", 1_000_000, 1_000_001),
    (inventory.WorkerEntry, {"name": "w"}, "port", 65_535, 65_536),
    (inventory.WorkerEntry, {"name": "w"}, "host", "h" * 255, "h" * 256),
    (inventory.WorkerEntry, {"name": "w"}, "ssh_key_path", "/" + "k" * 4095, "/" + "k" * 4096),
]


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("kind", "base", "key", "at", "beyond"), KEYS, ids=[f"{row[0].__name__}.{row[2]}" for row in KEYS]
)
def test_a_key_takes_its_limit_and_nothing_beyond(
    kind: type[msgspec.Struct], base: dict[str, Any], key: str, at: object, beyond: object
) -> None:
    assert msgspec.convert({**base, key: at}, kind) is not None
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**base, key: beyond}, kind)
