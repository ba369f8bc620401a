"""Targets for words: both protocols, records, signatures, and what a worker reads of tools and configs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec
from fuzz.places import place

from rch.config.inventory import load_inventory
from rch.config.invocation import policy_from_bundle
from rch.config.worker_config import WorkerConfig
from rch.contract import worker_rpc as rpc
from rch.contract.attestation import check
from rch.contract.canonical import jcs
from rch.contract.errors import Failure, Kind
from rch.contract.framing import decode_object
from rch.contract.local_api import MAX_MESSAGE
from rch.contract.manifest import differences, root_sha256, sort_entries
from rch.contract.messages import MessageReader
from rch.contract.records import Manifest, decode_record, encode_record
from rch.contract.signing import Untrusted, fingerprint_of, public_key_of
from rch.contract.worker_envelope import (
    Request,
    decode_fetch_header,
    decode_request,
    decode_response,
    encode_error,
    encode_request,
    encode_result,
    failure_of,
    request_id_to_echo,
)
from rchctl.terminal import LogFilter, neutral
from rchd.core.session import Call
from rchd.edges.socket import Connection, Server
from worker_agent.results.buildlog import MAX_HAPPENINGS, LogReader
from worker_agent.results.places import Places
from worker_agent.results.xcresult_db import NAME, read_database
from worker_agent.results.xcresult_summary import parse_build, parse_summary
from worker_agent.results.xcresult_tests import parse_tests
from worker_agent.results.xunit import MAX_CASES, parse_xunit

REQUEST_ID, JOB_ID = "request-0001", "job-0000000001"
KEY = bytes(range(32))
FINGERPRINT = fingerprint_of(public_key_of(KEY))
TREE = Path("/tree")
MOST_LOG = 4096
OUTCOMES = frozenset({"passed", "failed", "skipped", "expected_failure", "unknown"})

RESULTS: tuple[type[msgspec.Struct], ...] = (
    rpc.ProbeResult,
    rpc.HasSourceResult,
    rpc.ReserveResult,
    rpc.SubmitResult,
    rpc.StatusResult,
    rpc.TailResult,
    rpc.UploadResult,
    rpc.FetchHeader,
    rpc.Empty,
)


# --- the worker protocol ------------------------------------------------------------------


def request(data: bytes) -> None:
    """A request that is taken goes out and comes in again as it is; a refusal can be said back."""
    echo = request_id_to_echo(data)
    try:
        taken = decode_request(data)
    except rpc.RpcError as error:
        line = encode_error(error, echo, 1)
        assert line.count(b"\n") == 1
        assert decode_object(line[:-1])["ok"] is False
        assert len(line) < 4096
        return
    line = encode_request(taken.op, taken.request_id, taken.payload, taken.protocol_version)
    assert line.count(b"\n") == 1
    assert decode_request(line[:-1]) == taken


def response(data: bytes) -> None:
    """An answer that is taken is the same when it is said again; all else is a failure with a code."""
    for kind in RESULTS:
        try:
            payload = decode_response(data, REQUEST_ID, kind)
        except rpc.RpcError as refusal:
            assert failure_of(refusal, "submit").exit_code
            continue
        except Failure as failure:
            assert (failure.kind, failure.subkind) == (Kind.EXECUTOR, "PROTOCOL_ERROR")
            continue
        asked = Request(protocol_version=1, op="status", request_id=REQUEST_ID, payload=rpc.ProbeRequest())
        line = encode_result(asked, payload)
        assert decode_response(line[:-1], REQUEST_ID, kind) == payload
    with suppress(rpc.RpcError, Failure):
        assert decode_fetch_header(data, REQUEST_ID, JOB_ID).job_id == JOB_ID


# --- records ------------------------------------------------------------------------------


def manifest(data: bytes) -> None:
    """Two manifests with a NUL between them: each agrees with itself, and both name their difference."""
    found = []
    for part in data.split(b"\0", 1):
        try:
            one = decode_record(part, Manifest)
        except ValueError:
            return
        assert decode_record(encode_record(one), Manifest) == one
        with suppress(ValueError):
            assert root_sha256(one.entries) == root_sha256(one.entries)
        paths = [entry.path for entry in one.entries]
        clean = len(set(paths)) == len(paths) and sort_entries(one.entries) == one.entries
        clean = clean and not {"manifest.json", "attestation.json", "job_index.json"} & set(paths)
        assert (differences(one.entries, one.entries) == []) == clean
        found.append(one.entries)
    if len(found) == 2:
        same = {entry.path: entry for entry in found[0]} == {entry.path: entry for entry in found[1]}
        assert same or differences(*found) or differences(*reversed(found))


def attestation(data: bytes) -> None:
    """Nothing but what the key has signed is ever verified."""
    try:
        trust = check(data, [FINGERPRINT])
    except Untrusted:
        with suppress(Untrusted):
            assert check(data, []).result in {"unsigned", "unpinned"}
        return
    assert trust.result == "verified"
    assert jcs(decode_object(data)) == SIGNED, "something else than what was signed is verified"


SIGNED = jcs(decode_object((Path(__file__).parent / "seeds" / "attestation" / "signed.json").read_bytes()))


# --- the local socket ---------------------------------------------------------------------


class _Transport(asyncio.Transport):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock, self.sent, self.closed = sock, bytearray(), False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sock if name == "socket" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del high, low

    def get_write_buffer_size(self) -> int:
        return len(self.sent)


class _Group:
    def __init__(self) -> None:
        self.calls: list[Coroutine[Any, Any, None]] = []

    def start_soon(self, call: Any, *arguments: Any) -> None:
        self.calls.append(call(*arguments))


async def _answer(call: Call, _connection: Connection) -> object:
    """Echoes what was understood; every fourth method refuses."""
    if len(call.method) % 4 == 0:
        raise Failure(Kind.USAGE, f"no {call.method}", hint="none")
    return call.params


_PAIR = socket.socketpair()
_LOOP = asyncio.new_event_loop()


def dispatch(data: bytes) -> None:
    """A client's bytes through the daemon's own connection: every call that has an id is answered once."""
    _LOOP.run_until_complete(_dispatch(data))


async def _dispatch(data: bytes) -> None:
    group, transport = _Group(), _Transport(_PAIR[0])
    connection = Connection(Server(cast("Any", group), _answer))
    connection.connection_made(transport)
    cut = 1 + data[0] % 64 if data else 1
    for at in range(1, len(data), cut):
        if transport.closed:
            break
        connection.data_received(data[at : at + cut])
        assert connection._reader.pending <= MAX_MESSAGE
        calls, group.calls = group.calls, []
        for call in calls:
            await call
    assert connection.session.in_flight == 0
    await asyncio.sleep(0)
    connection.connection_lost(None)
    # Each in the kind of what it answers: a line, or a header block and a body.
    answers = MessageReader()
    answers.feed(bytes(transport.sent))
    while (message := answers.message()) is not None:
        said = decode_object(message.body)
        assert said["jsonrpc"] == "2.0"
        assert ("result" in said) != ("error" in said)
    assert not answers.pending


# --- what a worker reads of tools ---------------------------------------------------------


def xunit(data: bytes) -> None:
    """Never an exception; what was read has the form of a case."""
    read = parse_xunit("x.xml", data)
    assert len(read.cases) <= MAX_CASES
    for case in read.cases:
        assert case.outcome in OUTCOMES
        assert case.milliseconds >= 0
    assert read.problem is None or "\n" not in read.problem


def xcresult(data: bytes) -> None:
    """Never an exception, whichever of the tool's documents it is taken for."""
    tests = parse_tests(data)
    assert all(case.outcome in OUTCOMES for case in tests.cases)
    assert tests.problem is None or not tests.cases
    parse_summary(data)
    parse_build(data, Places(TREE))


def database(data: bytes) -> None:
    """Never an exception, and nothing is written beside the file."""
    bundle = place("bundle")
    (bundle / NAME).write_bytes(data)
    read = read_database(bundle, seconds=2.0)
    assert read is not None
    assert read.problem is None or read.total == 0
    assert [path.name for path in bundle.iterdir()] == [NAME]
    assert (bundle / NAME).read_bytes() == data


def log(data: bytes) -> None:
    """The same facts and the same text on a terminal, however the log is cut; nothing that steers one."""
    cut, text = 7 + data[0] % 64 if data else 7, data[1:MOST_LOG]
    for tool in ("swiftpm", "xcodebuild"):
        assert _facts(text, cut, tool) == _facts(text, len(text) or 1, tool)
    whole, pieces = LogFilter(), LogFilter()
    shown = whole.feed(text, last=True)
    parts = [pieces.feed(text[at : at + cut]) for at in range(0, len(text), cut)]
    assert "".join([*parts, pieces.feed(b"", last=True)]) == shown
    assert not [char for char in shown if (ord(char) < 32 and char not in "\t\n") or 126 < ord(char) < 160]
    assert neutral(shown) == shown


def _facts(text: bytes, cut: int, tool: str) -> object:
    reader, told = LogReader(TREE, tool=tool), 0
    for at in range(0, len(text), cut):
        told += len(reader.feed(text[at : at + cut]))
    told += len(reader.end())
    assert told <= MAX_HAPPENINGS
    return told, reader.facts()


# --- configs ------------------------------------------------------------------------------


def toml(data: bytes) -> None:
    """A bundle's own config and an inventory: a refusal of ours, or one that is understood."""
    with suppress(Failure):
        policy_from_bundle(data, WorkerConfig(), top_level=("Package.swift",))
    file = place("toml") / "workers.toml"
    file.write_bytes(data)
    try:
        names = [worker.name for worker in load_inventory(file).workers]
        assert len(set(names)) == len(names)
    except Failure as failure:
        assert failure.kind is Kind.CONFIG
    finally:
        file.unlink()
