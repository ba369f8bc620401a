"""The plainest calls go a short way, and say what the whole client says; all else goes the whole one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon

from rch.contract.errors import Failure, Kind
from rch.files.paths import host_paths
from rchctl import quick

HEAVY = {"argparse", "json", "pathlib", "typing", "socket", "urllib", "rch.contract.errors", "rchctl.whole"}
PROBE = """
import sys
from rchctl.__main__ import main
code, modules = main(sys.argv[1:]), sorted(sys.modules)
import json
sys.stderr.write(json.dumps([code, modules]))
"""
DONE: dict[str, Any] = {"state": "SUCCEEDED", "exit_code": 0}


@pytest.fixture
def idle(daemon: FakeDaemon) -> FakeDaemon:
    daemon.change(**DONE)
    return daemon


def probed(cli: Cli, *argv: str) -> tuple[int, set[str], str]:
    """Exit code, imported modules and stdout."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *argv],
        env=cli.environment,
        cwd=cli.home,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules), done.stdout


@pytest.mark.parametrize("verb", ["status", "submit"])
def test_the_plainest_calls_import_next_to_nothing(cli: Cli, idle: FakeDaemon, verb: str) -> None:
    assert idle.runs
    code, modules, out = probed(cli, verb)
    assert (code, HEAVY & modules) == (0, set())
    assert out.startswith("rchd 0.1.0: ok, pid ") if verb == "status" else out == f"{RUN_ID}\n"


@pytest.mark.parametrize("seconds", [0, 5, 59, 60, 3725])
def test_the_short_way_says_what_the_whole_one_says(cli: Cli, idle: FakeDaemon, seconds: int) -> None:
    health = idle._daemon_health({}, None)  # type: ignore[arg-type]  # it does not look at the connection
    idle.on("daemon.health", {**health, "uptime_seconds": seconds})
    assert cli("status").stdout == cli("status", RCH_DEBUG="1").stdout


def test_the_socket_is_that_of_the_whole_client() -> None:
    home = {"HOME": "/home/ann"}
    for extra in (
        {},
        {"RCH_HOME": "/x"},
        {"RCH_SOCKET": "/tmp/s/a.sock", "RCH_HOME": "/x"},
        {"XDG_RUNTIME_DIR": "/run/user/7"},
        {"XDG_STATE_HOME": "/s"},
        {"RCH_HOME": "", "XDG_STATE_HOME": ""},
    ):
        env = {**home, **extra}
        assert Path(quick.socket_path(env)) == host_paths(env).socket


@pytest.mark.parametrize(
    "env", [{"RCH_HOME": "rel"}, {"RCH_HOME": "~/x"}, {"RCH_STATE_DIR": "/x"}, {"HOME": ""}, {}]
)
def test_what_is_no_whole_path_is_left_to_the_whole_client(env: dict[str, str]) -> None:
    with pytest.raises(quick._NotPlain):
        quick.socket_path(env)


def test_a_run_that_is_not_over_is_shown_by_the_whole_client(cli: Cli, daemon: FakeDaemon) -> None:
    assert daemon.runs
    assert RUN_ID in cli("status").stdout


def test_words_that_are_not_plain_cannot_steer(cli: Cli, idle: FakeDaemon) -> None:
    health = idle._daemon_health({}, None)  # type: ignore[arg-type]  # as above
    idle.on("daemon.health", {**health, "activity": "a\x1b]0;owned\x07b"})
    assert cli("status").stdout.endswith("; ab\n")


@pytest.mark.spec("12")
def test_a_submit_that_was_refused_on_the_short_way_is_the_same_request(cli: Cli, idle: FakeDaemon) -> None:
    idle.on("runs.submit", Failure(Kind.CONFIG, "no .rch/xcode.toml here"))
    result = cli("submit")
    assert (result.returncode, result.stdout) == (3, "")
    assert "no .rch/xcode.toml here" in result.stderr
    first, second = (params for method, params in idle.calls if method == "runs.submit")
    assert first == second
    assert len(first["client_token"]) == 32


def test_without_a_daemon_the_whole_client_says_so(cli: Cli) -> None:
    result = cli("status", RCH_NO_AUTOSTART="1")
    assert (result.returncode, "no daemon answers" in result.stderr) == (4, True)


def test_another_version_is_told_of(cli: Cli) -> None:
    with FakeDaemon(cli.socket, version="0.0.9") as old:
        old.change(**DONE)
        assert "rchd 0.0.9 is running" in cli("status").stderr
