"""What one connection may say, line by line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rch.contract import local_api as api
from rch.contract.errors import Failure, Kind
from rchd.core.session import (
    MAX_IN_FLIGHT,
    MAX_SUBSCRIPTIONS,
    MAX_TOLD,
    WITHOUT_HELLO,
    Call,
    Refusal,
    Session,
    refusal_line,
    result_line,
)


def line(method: str, params: object = None, call_id: object = 1, **members: Any) -> bytes:
    said = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params, **members}
    return json.dumps(said).encode()


def ready() -> Session:
    session = Session()
    said = session.receive(line("hello", {"client": "test", "version": "1"}))
    assert isinstance(said, Call)
    session.answered()
    return session


def refused(said: Call | Refusal | None) -> dict[str, Any]:
    assert isinstance(said, Refusal), said
    assert said.line.endswith(b"\n")
    assert said.line.count(b"\n") == 1
    answer: dict[str, Any] = json.loads(said.line)
    assert answer["jsonrpc"] == "2.0"
    assert set(answer["error"]["data"]) >= {"kind", "exit_code", "retryable", "hint"}
    return answer


@pytest.mark.spec("12")
def test_a_call_after_hello_comes_through_with_its_params() -> None:
    call = ready().receive(line("runs.get", {"run": "latest"}, "my-id"))
    assert isinstance(call, Call)
    assert (call.id, call.method, call.params) == ("my-id", "runs.get", api.RunParams(run="latest"))
    assert json.loads(result_line(call, {"a": 1})) == {"jsonrpc": "2.0", "id": "my-id", "result": {"a": 1}}


@pytest.mark.spec("12")
@pytest.mark.parametrize("method", sorted(api.METHODS))
def test_only_what_works_across_all_versions_is_answered_before_hello(method: str) -> None:
    needed = {
        "runs.submit": {"start": "/"},
        "hello": {"client": "test", "version": "1"},
        "runs.unwatch": {"subscription": 1},
    }
    said = Session().receive(line(method, needed.get(method, {"run": "x"} if "runs." in method else {})))
    if method in WITHOUT_HELLO:
        assert isinstance(said, Call)
    else:
        assert refused(said)["error"]["message"] == f"{method} before hello"


@pytest.mark.spec("12")
def test_an_unknown_method_lists_the_known_ones() -> None:
    answer = refused(ready().receive(line("runs.explode")))
    assert answer["error"]["code"] == api.METHOD_NOT_FOUND
    assert all(name in answer["error"]["message"] for name in api.METHODS)
    assert answer["id"] == 1


@pytest.mark.spec("12")
def test_a_long_method_name_is_not_said_back_whole() -> None:
    assert len(refused(ready().receive(line("x" * 100_000)))["error"]["message"]) < 1000


@pytest.mark.spec("12")
@pytest.mark.parametrize(
    ("asked", "spoken"),
    [([1, 1], 1), ([0, 9], 1), ([1, 7], 1), ([2, 9], None), ([0, 0], None), ([3, 2], None)],
)
def test_the_highest_common_protocol_is_spoken_or_the_ranges_are_told(
    asked: list[int], spoken: int | None
) -> None:
    session = Session()
    said = session.receive(line("hello", {"client": "rchctl", "version": "9.9", "protocol": asked}))
    if spoken is not None:
        assert isinstance(said, Call)
        assert session.protocol == spoken
        return
    error = refused(said)["error"]
    assert f"client rchctl 9.9 speaks socket protocol {asked[0]} to {asked[1]}" in error["message"]
    assert "this daemon 1 to 1" in error["message"]
    assert error["data"]["hint"] == "rchctl daemon stop && rchctl daemon start"
    assert error["data"]["exit_code"] == 4
    refused(session.receive(line("runs.list")))


@pytest.mark.spec("12")
def test_hello_of_a_newer_client_with_more_members_is_understood() -> None:
    said = Session().receive(line("hello", {"client": "x", "version": "9", "colour": "blue"}))
    assert isinstance(said, Call)


@pytest.mark.spec("12")
@pytest.mark.parametrize(
    "params",
    [
        {"run": 7},
        {},
        {"run": "x", "runs": "y"},
        ["x"],
        "x",
        7,
        {"run": None},
    ],
)
def test_params_that_do_not_fit_are_refused_by_name(params: object) -> None:
    error = refused(ready().receive(line("runs.get", params)))["error"]
    assert error["code"] == api.INVALID_PARAMS
    assert error["data"]["exit_code"] == 2
    assert error["message"].startswith("params: ")


@pytest.mark.spec("12")
@pytest.mark.fault("C3")
@pytest.mark.parametrize("number", ["1" + "0" * 30, "-9007199254740993", "1e999", "18446744073709551616"])
def test_numbers_that_cannot_be_kept_are_refused(number: str) -> None:
    session = ready()
    for method, params in (
        ("runs.list", f'{{"limit": {number}}}'),
        ("runs.submit", f'{{"start": "/", "overrides": {{"a": [{{"b": {number}}}]}}}}'),
    ):
        text = f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}'
        error = refused(session.receive(text.encode()))["error"]
        assert "beyond 2^53" in error["message"]


@pytest.mark.spec("12")
@pytest.mark.fault("C3")
@pytest.mark.parametrize("call_id", [True, 1.5, [], {}, 10**30, -(10**17), "x" * 257])
def test_an_id_that_cannot_be_said_back_is_refused(call_id: object) -> None:
    answer = refused(ready().receive(line("runs.list", {}, call_id)))
    assert answer["id"] is None
    assert answer["error"]["code"] == api.INVALID_REQUEST


@pytest.mark.spec("12")
@pytest.mark.parametrize("call_id", ["", "x" * 256, 0, -1, 1 << 53, None])
def test_an_id_comes_back_as_it_was(call_id: object) -> None:
    call = ready().receive(line("runs.list", {}, call_id))
    assert isinstance(call, Call)
    assert json.loads(result_line(call, 1))["id"] == call_id
    assert not call.notification


@pytest.mark.spec("12")
def test_a_call_without_an_id_wants_no_answer() -> None:
    call = ready().receive(b'{"jsonrpc":"2.0","method":"runs.list"}')
    assert isinstance(call, Call)
    assert call.notification


@pytest.mark.spec("12")
@pytest.mark.parametrize("said", [b"{}", b'{"jsonrpc":"1.0","id":1,"method":"hello"}'])
def test_what_is_no_json_rpc_is_refused_and_the_line_stays(said: bytes) -> None:
    answer = ready().receive(said)
    assert refused(answer)["error"]["code"] == api.INVALID_REQUEST
    assert isinstance(answer, Refusal)
    assert not answer.close


HOSTILE = {
    "no json": b"hello there",
    "nan": b'{"jsonrpc":"2.0","id":NaN,"method":"hello"}',
    "infinity": b'{"jsonrpc":"2.0","id":1,"params":{"a":-Infinity}}',
    "duplicate keys": b'{"jsonrpc":"2.0","id":1,"id":2,"method":"hello"}',
    "nesting": b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "open nesting": b"[" * 10_000,
    "invalid utf-8": b'{"jsonrpc":"2.0","method":"\xff\xfe"}',
    "overlong utf-8": b'{"jsonrpc":"2.0","method":"\xc0\xaf"}',
    "nul": b'{"jsonrpc":"2.0"\x00}',
    "lone surrogate": b'{"jsonrpc":"2.0","id":"\\ud800","method":"hello"}',
    "bom": b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"hello"}',
    "array": b'[{"jsonrpc":"2.0","id":1,"method":"hello"}]',
    "text": b'"hello"',
    "long number": b'{"id":' + b"9" * 5000 + b"}",
    "two objects": b"{}{}",
}


@pytest.mark.spec("12")
@pytest.mark.fault("C3")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_get_a_structured_error_and_the_line_is_closed(name: str) -> None:
    said = ready().receive(HOSTILE[name])
    answer = refused(said)
    assert isinstance(said, Refusal)
    assert said.close
    assert answer["id"] is None
    assert len(said.line) < 1000


@pytest.mark.spec("12")
def test_empty_lines_are_nothing() -> None:
    session = ready()
    assert [session.receive(said) for said in (b"", b"   ", b"\r")] == [None, None, None]


@pytest.mark.spec("12")
def test_requests_in_flight_are_capped_and_the_refusal_names_the_cap() -> None:
    session = ready()
    for _ in range(MAX_IN_FLIGHT):
        assert isinstance(session.receive(line("daemon.health")), Call)
    error = refused(session.receive(line("daemon.health")))["error"]
    assert f"over {MAX_IN_FLIGHT} requests in flight" in error["message"]
    session.answered()
    assert isinstance(session.receive(line("daemon.health")), Call)


@pytest.mark.spec("12")
def test_subscriptions_are_capped_and_the_refusal_names_the_cap() -> None:
    session = ready()
    session.subscriptions |= set(range(MAX_SUBSCRIPTIONS))
    with pytest.raises(Failure, match=f"over {MAX_SUBSCRIPTIONS} subscriptions"):
        session.may_follow()


@pytest.mark.spec("12")
def test_a_refusal_carries_its_place_in_the_registry() -> None:
    call = ready().receive(line("runs.list"))
    assert isinstance(call, Call)
    failure = Failure(Kind.CONFIG, "no such key", subkind="UNKNOWN_KEY", data={"nearest": "queue"})
    body = json.loads(refusal_line(call, failure))["error"]
    assert (body["code"], body["message"]) == (api.REFUSED, "no such key")
    assert body["data"]["exit_code"] == 3
    assert body["data"]["subkind"] == "UNKNOWN_KEY"
    assert body["data"]["detail"] == {"nearest": "queue"}
    internal = json.loads(refusal_line(call, Failure(Kind.INTERNAL, "oh")))["error"]
    assert internal["code"] == api.INTERNAL_ERROR


@pytest.mark.spec("12")
@pytest.mark.parametrize("beyond", [0, 1])
def test_the_message_of_a_refusal_has_an_end(beyond: int) -> None:
    call = ready().receive(line("runs.list"))
    assert isinstance(call, Call)
    failure = Failure(Kind.USAGE, "x" * (MAX_TOLD + beyond))
    told = json.loads(refusal_line(call, failure))["error"]["message"]
    assert told == "x" * MAX_TOLD + "…" * beyond
