"""`rchctl wait` for several runs: for all of them, or for the first that is over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon, run_view

OTHER = "0198c2f0-7a11-7c3e-9b52-3f6f5d1e0a02"
DONE: dict[str, Any] = {"state": "SUCCEEDED", "exit_code": 0}
FAILED: dict[str, Any] = {"state": "FAILED", "exit_code": 50, "failure_kind": "SWIFTPM"}
BUSY: dict[str, Any] = {"state": "FAILED", "exit_code": 90, "failure_kind": "WORKER_BUSY"}


@pytest.fixture(autouse=True)
def _two_runs(daemon: FakeDaemon) -> None:
    daemon.runs[OTHER] = run_view(OTHER)


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(DONE, DONE, 0), (DONE, FAILED, 50), (FAILED, BUSY, 50), (BUSY, FAILED, 90)],
)
def test_all_of_them_exit_with_the_first_code_that_is_not_0_as_they_were_named(
    cli: Cli, daemon: FakeDaemon, first: dict[str, Any], second: dict[str, Any], code: int
) -> None:
    daemon.change(OTHER, **second)
    process = cli.start("wait", "--all", RUN_ID, OTHER, "--json")
    daemon.wait_for_watcher()
    daemon.change(**first)
    out, _ = process.communicate(timeout=20)
    told = json.loads(out)
    assert (process.returncode, told["exit_code"]) == (code, code)
    assert [run["run_id"] for run in told["data"]["runs"]] == [RUN_ID, OTHER]
    assert told.get("error", {}).get("exit_code", 0) == code


def test_several_without_a_word_are_all_of_them_and_each_has_its_verdict(
    cli: Cli, daemon: FakeDaemon
) -> None:
    daemon.change(**DONE, simulated=True)
    daemon.change(OTHER, **FAILED)
    result = cli("wait", RUN_ID, OTHER, RUN_ID)
    assert result.returncode == 50
    heads = [line for line in result.stdout.splitlines() if "verdict" in line or "SIMULATED" in line]
    assert heads == [
        "simulated: SIMULATED: passed (stand-in tools, no verdict)",
        "verdict: FAILED (SWIFTPM)",
    ]


def test_any_is_whichever_is_over_first(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("wait", "--any", RUN_ID, OTHER, "--json")
    daemon.wait_for("runs.watch", times=2)
    daemon.change(phase="selecting")
    daemon.change(OTHER, **FAILED)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, json.loads(out)["data"]["run_id"]) == (50, OTHER)


def test_of_several_that_are_over_any_is_the_first_named(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.change(**DONE)
    daemon.change(OTHER, **FAILED)
    assert cli("wait", "--any", OTHER, RUN_ID).returncode == 50
    assert cli("wait", "--any", RUN_ID, OTHER).returncode == 0


def test_any_outlives_a_lost_connection(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("wait", "--any", RUN_ID, OTHER)
    daemon.wait_for("runs.watch", times=2)
    daemon.drop()
    daemon.wait_for("runs.watch", times=4)
    daemon.change(OTHER, **DONE)
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "wait: RUN is missing: see rchctl wait --help"),
        (["--all", "--any", RUN_ID], "--all and --any are two things"),
        ([RUN_ID, "nothing-such"], "no run 'nothing-such'"),
    ],
)
def test_what_cannot_be_waited_for_is_told_before_any_waiting(
    cli: Cli, daemon: FakeDaemon, words: list[str], said: str
) -> None:
    result = cli("wait", *words)
    assert (result.returncode, said in result.stderr) == (2, True), result.stderr
    assert daemon.count("runs.watch") == 0
