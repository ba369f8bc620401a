"""Standard streams that are closed at the start, and a stdout that takes nothing."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon

FULL = "standard output cannot be written: No space left on device"


def shell(cli: Cli, words: str, *redirections: str) -> subprocess.CompletedProcess[str]:
    """`rchctl` as a shell starts it, with redirections."""
    command = f"exec {shlex.quote(sys.executable)} -m rchctl {words} {' '.join(redirections)}"
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env=cli.environment,
        cwd=cli.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def ended(daemon: FakeDaemon, exit_code: int = 0) -> None:
    daemon.change(
        state="FAILED" if exit_code else "SUCCEEDED",
        exit_code=exit_code,
        warnings=["the embedded worker serves"],
    )


@pytest.mark.parametrize("closed", [("2>&-",), ("<&-", "2>&-"), ("<&-", ">&-", "2>&-"), (">&-",)])
@pytest.mark.parametrize("words", ["verify", "wait latest", "list"])
def test_no_message_goes_into_the_socket_where_a_stream_is_closed(
    cli: Cli, daemon: FakeDaemon, words: str, closed: tuple[str, ...]
) -> None:
    ended(daemon)
    done = shell(cli, words, *closed)
    assert done.returncode == 0, done
    assert {name for name, _ in daemon.calls} <= {
        "hello",
        "runs.submit",
        "runs.get",
        "runs.watch",
        "runs.list",
    }


@pytest.mark.parametrize(
    "words", ["list", "list --json", "artifacts --help", "submit", "verify --detach", "status"]
)
@pytest.mark.usefixtures("daemon")
def test_data_that_is_lost_is_no_success(cli: Cli, words: str) -> None:
    done = shell(cli, words, ">/dev/full")
    assert done.returncode == 1
    assert FULL in done.stderr


@pytest.mark.usefixtures("daemon")
def test_a_run_whose_id_could_not_be_printed_is_named(cli: Cli) -> None:
    assert f"run {RUN_ID}: QUEUED" in shell(cli, "submit", "--json", ">/dev/full").stderr


@pytest.mark.parametrize("code", [0, 50])
@pytest.mark.parametrize("words", ["verify", "verify --json", "wait latest"])
def test_a_verdict_that_is_lost_keeps_its_code_and_says_so(
    cli: Cli, daemon: FakeDaemon, words: str, code: int
) -> None:
    ended(daemon, code)
    done = shell(cli, words, ">/dev/full")
    state = "FAILED" if code else "SUCCEEDED"
    assert done.returncode == code
    assert f"{FULL}; run {RUN_ID}: {state}, exit code {code}\n" in done.stderr


def test_a_reader_that_left_is_not_told_of(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("wait", "latest")
    daemon.wait_for_watcher()
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    ended(daemon, 50)
    assert "cannot be written" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 50


@pytest.mark.usefixtures("daemon")
def test_a_refusal_that_could_not_be_printed_keeps_its_code(cli: Cli) -> None:
    assert json.loads(cli("wait", "nope", "--json").stdout)["exit_code"] == 2
    assert shell(cli, "wait nope --json", ">/dev/full").returncode == 2
