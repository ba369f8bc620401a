"""JSON of strangers: whatever is wrong with it is the reader's own refusal, or does no harm."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rch.config.keys import from_text
from rch.config.sources import parse_toml
from rch.contract.attestation import check
from rch.contract.decoding import decode_json
from rch.contract.errors import Failure
from rch.contract.framing import FrameError, decode_object
from rch.contract.records import Manifest, Summary, decode_record
from rch.contract.signing import Untrusted
from rch.contract.worker_envelope import decode_fetch_header, decode_request, decode_response
from rch.contract.worker_rpc import ProbeResult, RpcError
from rchctl.indices import _read
from rchctl.parser import UsageError
from rchctl.request import overrides
from rchd.core.session import Refusal, Session
from worker_agent.results.places import Places
from worker_agent.results.strictjson import decode
from worker_agent.results.xcresult_summary import parse_build, parse_summary
from worker_agent.results.xcresult_tests import parse_tests
from worker_agent.toolchains.simulators import Simulators, read_simulators

ROOT = Path(__file__).parents[2]
PACKAGES = ("rch", "rchd", "rchctl", "worker_agent")

# Each is a whole document, or the value of a member `x` that a reader may not know.
DOCUMENTS = {
    "nothing": b"",
    "no UTF-8": b'{"schema_id": "\xff"}',
    "UTF-16": '{"schema_id": "x"}'.encode("utf-16"),
    "a BOM": b'\xef\xbb\xbf{"schema_id": "x"}',
    "a NUL": b'{"schema_id": "\x00"}',
    "cut": b'{"schema_id": "x',
    "two values": b"{} {}",
    "a list 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects 100,000 deep": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    "a list that never ends": b"[" * 1_000_000,
    "a number": b"1" * 5000,
    "a text": b'"' + b"x" * 100_000 + b'"',
}
VALUES = {
    "5,000 deep": b"[" * 5000 + b"]" * 5000,
    "900 deep": b"[" * 900 + b"]" * 900,
    "5,000 digits": b"9" * 5000,
    "2^63": b"9223372036854775808",
    "1e400": b"1e400",
    "NaN": b"NaN",
    "minus infinity": b"-Infinity",
    "a lone surrogate": b'"\\ud800"',
    "surrogates the wrong way": b'"\\udc00\\ud800"',
    "a member twice": b'{"a":1,"a":2}',
}
FORMS = {**DOCUMENTS, **{name: b'{"schema_id": 1, "x":' + value + b"}" for name, value in VALUES.items()}}
JOB = "job-000000001"


def session(data: bytes) -> None:
    """The answer to whatever is no request is a line, never an exception."""
    told = Session().receive(data)
    if data.strip():
        assert isinstance(told, Refusal)
        decode_object(told.line.rstrip(b"\n"))
        raise FrameError


def index(data: bytes) -> None:
    place = Path("index.json")
    place.write_bytes(data)
    _read(place, "rch-xcode/run_index@1")


def a_problem(read: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    """For readers that never raise: what they give has to say that it is no pass."""

    def reader(data: bytes) -> None:
        assert read(data).problem is not None
        raise ValueError

    return reader


def no_simulators(data: bytes) -> None:
    assert read_simulators(data.decode(errors="replace")) == Simulators()
    raise ValueError


# Every reader of strangers' JSON, and the one error that it may raise.
READERS: dict[str, tuple[Callable[[bytes], Any], type[Exception] | tuple[type[Exception], ...]]] = {
    "decode_json": (lambda data: decode_json(data, Manifest), msgspec.DecodeError),
    "a manifest": (lambda data: decode_record(data, Manifest), ValueError),
    "a summary": (lambda data: decode_record(data, Summary), ValueError),
    "a request": (decode_request, RpcError),
    "an answer": (lambda data: decode_response(data, "r" * 12, ProbeResult), Failure),
    "a fetch header": (lambda data: decode_fetch_header(data, "r" * 12, JOB), Failure),
    "an attestation": (lambda data: check(data, ["SHA256:x"]), Untrusted),
    "the local socket": (session, FrameError),
    "an index": (index, Failure),
    "a tool's tests": (a_problem(parse_tests), ValueError),
    "a tool's summary": (a_problem(parse_summary), ValueError),
    "a tool's build": (a_problem(lambda data: parse_build(data, Places(Path("/t"), None))), ValueError),
    "simulators": (no_simulators, ValueError),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.spec("3.2")
@pytest.mark.fault("C3")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reader", READERS)
def test_a_bad_document_is_the_reader_s_own_refusal(reader: str, form: str) -> None:
    read, error = READERS[reader]
    if (reader, form) == ("the local socket", "nothing"):
        assert read(b"") is None  # an empty line between two messages
        return
    with pytest.raises(error) as caught:
        read(FORMS[form])
    assert type(caught.value) is not RecursionError
    assert len(str(caught.value)) < 2000


@pytest.mark.fault("A5")
@pytest.mark.parametrize("form", VALUES)
def test_a_bad_value_in_an_attestation_is_no_signed_fact(form: str) -> None:
    whole = b'{"x":' + VALUES[form] + b"}"
    try:
        assert check(whole, []).result == "unsigned"
    except Untrusted as error:
        assert form not in {"5,000 digits", "2^63", "1e400"} or "JSON" in str(error)  # noqa: PT017
    with pytest.raises(Untrusted):
        check(whole, ["SHA256:x"])


@pytest.mark.fault("A5")
@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b"[[[]]]", b"true"])
@pytest.mark.parametrize("member", [b"public_key_fingerprint", b"signature", b"public_key", b"worker"])
def test_a_member_of_another_type_is_no_signature(member: bytes, value: bytes) -> None:
    import base64

    key = base64.b64encode(bytes(32))
    members = {
        b"public_key": b'"%b"' % key,
        b"public_key_fingerprint": b'"x"',
        b"signature": b'"%b"' % base64.b64encode(bytes(64)),
        b"worker": b'{"fingerprint": "x"}',
        member: value,
    }
    data = b"{" + b",".join(b'"%b":%b' % each for each in members.items()) + b"}"
    with pytest.raises(Untrusted):
        check(data, [])


@pytest.mark.fault("A5")
def test_an_attestation_that_names_a_member_twice_is_refused() -> None:
    with pytest.raises(Untrusted, match="twice"):
        check(b'{"public_key": null, "public_key": null}', [])


def test_a_number_of_any_length_is_told_by_a_tool_and_harms_nothing() -> None:
    told = decode(b'{"unknown": ' + b"9" * 5000 + b', "deep": {"more": 1e99999}}', dict[str, msgspec.Raw])
    assert set(told) == {"unknown", "deep"}
    summary = parse_summary(b'{"result": "Passed", "totalTestCount": 1, "x": ' + b"9" * 5000 + b"}")
    assert summary.problem is None or "digits" not in summary.problem


@pytest.mark.spec("6")
@pytest.mark.parametrize("opening", ["[", "{ a = "])
def test_what_a_user_types_may_nest_as_deep_as_it_likes(opening: str) -> None:
    text = opening * 5000
    with pytest.raises(UsageError):
        overrides("verify", [f"key=[{text}]"])
    with pytest.raises(Failure):
        from_text(text, int, "the command line", "key")
    with pytest.raises(Failure):
        parse_toml(f"a = {text}".encode(), "config.toml")


# Whoever decodes elsewhere has to catch what those do: the list is short, and each was looked at.
ALONE = {
    "json.loads": {
        "rch/contract/framing.py",
        "rchctl/bridge.py",
        "rchctl/commands/check.py",
        "rchctl/commands/debug.py",
        "rchctl/diagnose/gather.py",
        "rchctl/indices.py",
        "rchctl/request.py",
        "rchd/edges/landing.py",  # these two run at the far end, of which they ask what it is
        "rchd/edges/landing_look.py",
        "worker_agent/results/strictjson.py",
        "worker_agent/standin/bundle.py",
        "worker_agent/standin/context.py",
        "worker_agent/standin/project.py",
    },
    "msgspec.json.decode": {"rch/contract/decoding.py"},
    "json.load": set(),
}


@pytest.mark.parametrize("call", ALONE)
def test_json_is_decoded_in_a_few_places_that_take_any_of_it(call: str) -> None:
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
            if any(ast.unparse(node.func) == call for node in calls):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == ALONE[call]
