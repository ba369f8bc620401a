"""`rchctl rpc`: JSON-RPC over pipes (spec section 12)."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import support.fake_daemon
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon

from rch.contract.framing import FrameError
from rch.contract.local_api import METHODS
from rchctl.bridge import MAX_MESSAGE, Incoming, Outgoing

HELLO = {"client": "editor", "version": "1", "protocol": [1, 1]}


def request(number: int, method: str, params: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


def framed(body: bytes) -> bytes:
    return b"Content-Type: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def bridged(cli: Cli, said: bytes, *argv: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "rchctl", "rpc", "--no-autostart", *argv],
        env=cli.environment,
        input=said,
        capture_output=True,
        timeout=30,
        check=False,
    )


def bodies(out: bytes) -> list[dict[str, Any]]:
    """The messages of framed output."""
    found = []
    while out:
        head, _, out = out.partition(b"\r\n\r\n")
        length = int(head.removeprefix(b"Content-Length: "))
        found.append(json.loads(out[:length]))
        out = out[length:]
    return found


@pytest.mark.spec("12")
def test_lines_go_to_the_daemon_and_its_answers_come_back(cli: Cli, daemon: FakeDaemon) -> None:
    said = (
        request(1, "hello", HELLO) + b"\n\n" + request(2, "runs.get", {"run": "latest"})
    )  # no last newline
    done = bridged(cli, said)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, b"")
    assert [each["id"] for each in answers] == [1, 2]
    assert answers[1]["result"]["run_id"] == RUN_ID
    assert daemon.calls[-2] == ("hello", HELLO)


@pytest.mark.spec("12")
def test_framed_messages_are_answered_in_kind_whatever_their_layout(cli: Cli, daemon: FakeDaemon) -> None:
    pretty = json.dumps(json.loads(request(7, "runs.get", {"run": "latest"})), indent=2).replace(
        "\n", "\r\n"
    )
    done = bridged(cli, framed(pretty.encode()) + framed(request(8, "runs.list", {"limit": 1})), "--hello")
    answers = bodies(done.stdout)
    assert [each["id"] for each in answers] == [7, 8]
    assert daemon.count("hello") == 1


def test_what_is_told_meanwhile_comes_through_and_a_large_answer_whole(
    cli: Cli, daemon: FakeDaemon
) -> None:
    large = {"runs": [], "padding": "ü" * (3 << 20)}
    daemon.on("runs.list", large)

    def tell_and_answer(_params: dict[str, Any], connection: Any) -> dict[str, Any]:
        connection.notify(1, "heartbeat", None)
        return {"padding": '"method":'}

    daemon.on("runs.get", tell_and_answer)
    said = request(1, "runs.list", {}) + b"\n" + request(2, "runs.get", {"run": "x"}) + b"\n"
    answers = [json.loads(line) for line in bridged(cli, said, "--hello").stdout.splitlines()]
    assert answers[0]["result"] == large
    assert [each.get("method") for each in answers[1:]] == ["runs.event", None]


def test_a_refusal_is_an_answer_and_no_failure_of_the_bridge(cli: Cli, daemon: FakeDaemon) -> None:
    assert daemon.runs
    done = bridged(cli, request(1, "runs.get", {"run": "nothing"}) + b"\n", "--hello")
    assert json.loads(done.stdout)["error"]["data"]["subkind"] == "UNKNOWN_RUN"
    assert done.returncode == 0


def test_a_daemon_that_hangs_up_is_told_of_with_4(cli: Cli, daemon: FakeDaemon) -> None:
    def drop(_params: dict[str, Any], _connection: Any) -> dict[str, Any]:
        daemon.drop()
        return {}

    daemon.on("daemon.health", drop)
    done = bridged(cli, request(1, "daemon.health", {}) + b"\n", "--hello")
    assert done.returncode == 4
    assert b"the daemon closed the connection" in done.stderr


@pytest.mark.parametrize(
    "said",
    [
        b"Content-Length: 12\r\n\r\n{}",
        b"Content-Length: x\r\n\r\n{}",
        b"Content-Length: %d\r\n\r\n" % (MAX_MESSAGE + 1),
        b"Content-Type: x\r\n\r\n",
        b"C" * 9000,
        b"{" + b"x" * (MAX_MESSAGE + 1),
    ],
)
def test_bytes_that_are_no_messages_end_it_with_2(cli: Cli, daemon: FakeDaemon, said: bytes) -> None:
    assert daemon.runs
    done = bridged(cli, said, "--hello")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"rchctl: stdin: ")


@pytest.mark.parametrize("piece", [1, 3, 1 << 16])
def test_it_does_not_matter_where_the_pieces_are_cut(piece: int) -> None:
    said = b"\n" + framed(b'{"id":1,\n"method":"a"}') + framed(b'{"method":"told"}') + framed(b"\xff\x00")
    incoming, lines = Incoming(), b""
    for at in range(0, len(said), piece):
        lines += incoming.feed(said[at : at + piece])
    assert lines == b'{"id":1, "method":"a"}\n{"method":"told"}\n\xff\x00\n'
    assert incoming.awaited == 2  # the request, and what is no message
    outgoing, told = Outgoing(incoming), b""
    answer = b'{"method":"runs.event"}\n{"id":1}\n'
    for at in range(0, len(answer), piece):
        told += outgoing.feed(answer[at : at + piece])
    assert told == b'Content-Length: 23\r\n\r\n{"method":"runs.event"}Content-Length: 8\r\n\r\n{"id":1}'
    assert incoming.awaited == 1


@pytest.mark.spec("12")
def test_the_daemon_is_started_for_it_and_its_refusals_come_through(cli: Cli) -> None:
    tests = str(Path(support.fake_daemon.__file__).parents[1])
    daemon = f"{shlex.quote(sys.executable)} {shlex.quote(support.fake_daemon.__file__)}"
    cli.env |= {"RCH_RCHD": daemon, "PYTHONPATH": tests}
    done = subprocess.run(
        [sys.executable, "-m", "rchctl", "rpc", "--hello"],
        env=cli.environment,
        input=request(1, "daemon.health", {}),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)["result"]["status"]) == (0, "ok"), done.stderr
    assert cli("daemon", "stop").returncode == 0


def test_nothing_without_an_end_is_kept_beyond_the_limit() -> None:
    incoming = Incoming()
    with pytest.raises(FrameError):  # noqa: PT012  (which piece is one too many is what is asked)
        for _ in range(64):
            incoming.feed(b"x" * (1 << 16))


def test_describe_prints_every_method_without_a_daemon(cli: Cli) -> None:
    done = cli("rpc", "--describe", "--no-autostart")
    assert set(json.loads(done.stdout)) == set(METHODS)
    assert set(json.loads(cli("rpc", "--describe", "--json").stdout)["data"]["methods"]) == set(METHODS)
    assert cli("rpc", "--json", "--no-autostart").returncode == 2
